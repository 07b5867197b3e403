"""Text tower: BERT (Devlin et al. 2019) by configuration, and what stands in for a text that is not there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from models.text.tokenizer import TextLimits, Tokens

#: What may be configured, by the names of Hugging Face's ``config.json``, with the values of BioBERT (Lee et
#: al. 2020) and ClinicalBERT (Alsentzer et al. 2019): the base size, and the vocabulary that minds case.
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
    from transformers import BertConfig, BertModel  # noqa: PLC0415 - seconds that only readers of text pay

    for name, value in fields.items():
        if name not in FIELDS:
            raise ValueError(f"text: unknown entry {name!r}; there are: {', '.join(FIELDS)}")
        kind = type(FIELDS[name])
        # A whole number will do where a real one is asked for, and True will do nowhere.
        if type(value) is not kind and not (kind is float and type(value) is int):
            raise ValueError(f"text: {name} = {value!r} is not of type {kind.__name__}")
    try:
        bert: nn.Module = BertModel(BertConfig(**{**FIELDS, **fields}), add_pooling_layer=False)
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"text: BERT cannot be built so: {error}") from error
    return bert


def limits_of(bert: nn.Module) -> TextLimits:
    """What an encoder can take."""
    config: Any = bert.config
    return TextLimits(vocabulary=config.vocab_size, length=config.max_position_embeddings)


class TextTower(nn.Module):
    """An encoder that gives one state a token, and one learnt state where there is no text.

    Parameters
    ----------
    fields
        As :func:`create_bert` takes them.

    Attributes
    ----------
    width
        Of a state.

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
        """What the encoder can take."""
        return limits_of(self.encoder)

    def forward(self, tokens: Tokens | None, n: int) -> tuple[Tensor, Tensor]:
        """States of the texts of `n` images.

        A text that is not there is one token with the learnt state; so a network reads an image without text
        the same alone and in the company of others that have one.

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
        # The encoder never sees a row without a token: a softmax over nothing is no number.
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
    """One state a text, shape (n, width): the first token's, or the mean over all of them.

    Parameters
    ----------
    states, mask
        From :class:`TextTower`.
    pooling
        ``first`` (BERT's [CLS]) or ``mean`` (as sentence encoders are trained).
    """
    if pooling == "first":
        return states[:, 0]
    return (states * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
