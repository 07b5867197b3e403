"""Word attribution: contribution of each word of the text to a finding, by Integrated Gradients.

It suits the networks that read a text beside the films. The baseline is a text of padding alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from models.architectures.interface import Batch
from models.bundles.predictor import Predictor, TracedPrediction
from models.errors import PredictionError, UsageError
from models.explain.attribution import import_captum
from models.text.tokenizer import Tokens

#: Integration steps.
_STEPS = 32
#: Texts in one forward pass.
_TOGETHER = 16


@dataclass(frozen=True, slots=True)
class WordAttribution:
    """One word of a text with its contribution.

    Attributes
    ----------
    text
        Word as it is written in the text.
    start, end
        Position in the text, in characters; `end` is exclusive.
    weight
        Contribution to the finding's logit; below zero it speaks against the finding. Words and special
        tokens together add up to the difference from the logit of a text of padding alone.
    """

    text: str
    start: int
    end: int
    weight: float


def attribute_words(
    predictor: Predictor, traced: TracedPrediction, key: str, *, film: int = 0
) -> tuple[WordAttribution, ...]:
    """Weigh the words of a study's text for a finding on one of its films.

    Parameters
    ----------
    film
        Position in the study.

    Raises
    ------
    PredictionError
        If the bundle has no such finding.
    UsageError
        If the bundle reads no text, the study has none, or captum is not installed.
    """
    text = (traced.study.text or "").strip()
    if predictor.text == "none" or predictor.tokenizer is None:
        raise UsageError(f"bundle {predictor.identity.name} reads films alone: there are no words to weigh")
    if not text:
        raise UsageError("the study has no text: there are no words to weigh")
    columns = {label.key: column for column, label in enumerate(predictor.labels)}
    if key not in columns:
        raise PredictionError(f"bundle {predictor.identity.name} has no finding {key} to explain")
    given = predictor.batch(traced.study, [film])
    assert given.tokens is not None
    weights = _of_tokens(predictor, given, columns[key])
    found = []
    for start, end, tokens in predictor.tokenizer.words(text):
        found.append(WordAttribution(text[start:end], start, end, float(weights[tokens].sum())))
    return tuple(found)


def _of_tokens(predictor: Predictor, given: Batch, column: int) -> Tensor:
    """Weight of each token, shape (length,)."""
    assert given.tokens is not None
    assert predictor.tokenizer is not None
    network, mask = predictor.network, given.tokens.attention_mask

    def logit(ids: Tensor) -> Tensor:
        images = given.images.expand(len(ids), -1, -1, -1)
        found: Tensor = network(Batch(images, Tokens(ids, mask.expand(len(ids), -1)))).logits[:, column]
        return found

    tower: Any = network.towers["text"]
    method = import_captum().LayerIntegratedGradients(logit, tower.get_input_embeddings())
    padding = torch.full_like(given.tokens.input_ids, predictor.tokenizer.layout.pad_id)
    with torch.enable_grad():
        found = method.attribute(
            given.tokens.input_ids, padding, n_steps=_STEPS, internal_batch_size=_TOGETHER
        )
    weights: Tensor = found.detach()[0].sum(dim=1).cpu()
    return weights
