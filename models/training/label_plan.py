"""Label plan of a training run: the order of the outputs, and the truth for every study."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from models.data.dataset import FilmDataset, LabelledStudy
from models.errors import RecipeError
from models.labels.vocabulary import Vocabulary, load_vocabulary
from models.text.sentence_encoder import embed_texts
from models.text.study_text import readable
from models.text.tokenizer import Tokenizer, Tokens
from models.training.module import TrainingTargets
from models.training.recipe import Recipe
from models.training.report_similarity import likeness


@dataclass(frozen=True, slots=True)
class LabelPlan:
    """Order of the outputs of a training run.

    Attributes
    ----------
    keys
        Labels of the bundle, in the order of the vocabulary's list.
    beside
        Labels of the other lists, learnt in addition.
    auxiliary
        Report headings that are learnt in addition, most frequent first.
    """

    keys: tuple[str, ...]
    beside: tuple[str, ...]
    auxiliary: tuple[str, ...]

    @property
    def width(self) -> int:
        """Number of outputs of the head while training."""
        return len(self.keys) + len(self.beside) + len(self.auxiliary)

    def places(self, keys: tuple[str, ...]) -> list[int]:
        """Columns of some labels."""
        labels = (*self.keys, *self.beside)
        return [labels.index(key) for key in keys]

    @property
    def columns(self) -> tuple[slice, ...]:
        """Ranges of the outputs: keys, beside, auxiliary, without the empty ones."""
        ends = (0, len(self.keys), len(self.keys) + len(self.beside), self.width)
        return tuple(slice(start, end) for start, end in pairwise(ends) if end > start)

    def truth(self, studies: tuple[LabelledStudy, ...]) -> Tensor:
        """Truth table, shape (studies, width), float32: 0, 1, or NaN where a label is not covered."""
        rows = [
            [float(key in study.keys) if study.knows(key) else math.nan for key in (*self.keys, *self.beside)]
            + [
                math.nan if study.headings is None else float(heading in study.headings)
                for heading in self.auxiliary
            ]
            for study in studies
        ]
        return torch.tensor(rows, dtype=torch.float32)


def plan_labels(recipe: Recipe, dataset: FilmDataset, vocabulary: Vocabulary) -> LabelPlan:
    """Choose the outputs; the headings are counted in ``train`` only."""
    counts = Counter(heading for study in dataset.split("train") for heading in study.headings or ())
    enough = recipe.auxiliary_reports or len(dataset.split("train")) + 1
    auxiliary = sorted(
        (name for name, count in counts.items() if count >= enough), key=lambda n: (-counts[n], n)
    )
    keys = vocabulary.keys(recipe.list)
    lists = (vocabulary.keys(name) for name in recipe.beside)
    beside = dict.fromkeys(key for found in lists for key in found if key not in keys)
    return LabelPlan(keys, tuple(beside), tuple(auxiliary))


def tokens_of(
    recipe: Recipe, studies: tuple[LabelledStudy, ...], tokenizer: Tokenizer | None
) -> Tokens | None:
    """Texts of studies as the network reads them; None where it reads none."""
    if tokenizer is None or recipe.text == "none":
        return None
    vocabulary = load_vocabulary()
    return tokenizer(
        [
            readable(recipe.text, indication=study.indication, report=study.report, vocabulary=vocabulary)
            for study in studies
        ]
    )


def training_targets(
    recipe: Recipe,
    outputs: LabelPlan,
    studies: tuple[LabelledStudy, ...],
    tokenizer: Tokenizer | None = None,
) -> TrainingTargets:
    """Gather the training targets; embedding the reports takes a minute for thousands.

    Raises
    ------
    RecipeError
        If reports are asked for and no study has one.
    """
    truth, tokens = outputs.truth(studies), tokens_of(recipe, studies, tokenizer)
    if recipe.alignment is None:
        return TrainingTargets(truth, outputs.columns, tokens=tokens)
    reported = [number for number, study in enumerate(studies) if study.report]
    if not reported:
        raise RecipeError("[alignment] needs reports, and the data set has none: take the table out")
    reports = embed_texts([studies[number].report for number in reported])
    headings = sorted({term for number in reported for term in studies[number].headings or ()})
    named = torch.tensor(
        [[term in (studies[number].headings or ()) for term in headings] for number in reported],
        dtype=torch.float32,
    )
    target = (likeness(reports, named) / recipe.alignment.softness).softmax(dim=1)
    report_of = torch.full((len(studies),), -1)
    report_of[reported] = torch.arange(len(reported))
    return TrainingTargets(truth, outputs.columns, reports, target, report_of, tokens)
