"""Text tower: BERT (Devlin et al. 2019), with a learnt state for a missing text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from models.text.tokenizer import TextLimits, Tokens

#: Configurable fields, by their names in Hugging Face's ``config.json``, with the values of BioBERT (Lee et
#: al. 2020) and ClinicalBERT (Alsentzer et al. 2019): base size and a case-sensitive vocabulary.
FIELDS: Mapping[str, int | float | str] = {
    "vocab_size": 28996,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "pad_token_id": 0,
}


def bert_config(fields: Mapping[str, Any]) -> Any:
    """Configuration of a BERT, a ``transformers.BertConfig``.

    Parameters
    ----------
    fields
        Some of :data:`FIELDS`; the others keep the values there.

    Raises
    ------
    ValueError
        If a field is unknown, of another type, or refused by transformers.
    """
    from transformers import BertConfig  # noqa: PLC0415 - seconds that only networks with text pay

    for name, value in fields.items():
        if name not in FIELDS:
            raise ValueError(f"text: unknown entry {name!r}; there are: {', '.join(FIELDS)}")
        kind = type(FIELDS[name])
        # An integer is accepted for a float; a bool, which Python counts among the integers, is not.
        if type(value) is not kind and not (kind is float and type(value) is int):
            raise ValueError(f"text: {name} = {value!r} is not of type {kind.__name__}")
    try:
        return BertConfig(**{**FIELDS, **fields})
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"text: BERT cannot be configured so: {error}") from error


def create_bert(fields: Mapping[str, Any]) -> nn.Module:
    """Build the encoder without a pooling layer; weights are random and nothing is downloaded.

    Parameters
    ----------
    fields
        Some of :data:`FIELDS`; the others keep the values there.

    Raises
    ------
    ValueError
        If a field is unknown, of another type, or they do not fit each other.
    """
    from transformers import BertModel  # noqa: PLC0415 - seconds that only networks with text pay

    config = bert_config(fields)
    try:
        bert: nn.Module = BertModel(config, add_pooling_layer=False)
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"text: BERT cannot be built so: {error}") from error
    return bert


def bert_limits(bert: nn.Module) -> TextLimits:
    """Limits of a BERT: vocabulary and length."""
    config: Any = bert.config
    return TextLimits(vocabulary=config.vocab_size, length=config.max_position_embeddings)


class TextTower(nn.Module):
    """Text encoder with one state for each token, and one learnt state where there is no text.

    Parameters
    ----------
    fields
        Fields of the encoder, as :func:`create_bert` takes them.

    Attributes
    ----------
    width
        Width of a state.

    Raises
    ------
    ValueError
        If the encoder cannot be built.
    """

    def __init__(self, fields: Mapping[str, Any]) -> None:
        super().__init__()
        self.encoder = create_bert(fields)
        self.width: int = {**FIELDS, **fields}["hidden_size"]
        self.no_text = nn.Parameter(torch.randn(self.width) * 0.02)

    @property
    def limits(self) -> TextLimits:
        """Limits of the encoder: vocabulary and length."""
        return bert_limits(self.encoder)

    def forward(self, tokens: Tokens | None, n: int) -> tuple[Tensor, Tensor]:
        """States of the texts of `n` images.

        A missing text is one token with the learnt state, so an image without text gives the same result
        alone and in a batch with others that have one.

        Returns
        -------
        Tensor
            Shape (n, length, width), float32; zeros where the mask is False.
        Tensor
            Shape (n, length), bool; True at least once in every row.
        """
        if tokens is None:
            return self.no_text.expand(n, 1, -1), torch.ones(
                n, 1, dtype=torch.bool, device=self.no_text.device
            )
        mask = tokens.attention_mask.bool()
        there = mask.any(dim=1)
        states = torch.zeros(*mask.shape, self.width, dtype=self.no_text.dtype, device=mask.device)
        # The encoder never gets a row without a token: its softmax would be NaN.
        if there.any():
            read = self.encoder(
                input_ids=tokens.input_ids[there], attention_mask=tokens.attention_mask[there]
            )
            states[there] = read.last_hidden_state.to(states.dtype)
        states[~there, 0] = self.no_text
        mask = mask.clone()
        mask[~there, 0] = True
        return states * mask[..., None], mask


def pool(states: Tensor, mask: Tensor, pooling: str) -> Tensor:
    """Pool the states of each text to one, shape (n, width): the first token's, or the mean over all.

    Parameters
    ----------
    states, mask
        Output of :class:`TextTower`.
    pooling
        ``first`` (BERT's [CLS]) or ``mean`` (as sentence encoders are trained).
    """
    if pooling == "first":
        return states[:, 0]
    return (states * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
