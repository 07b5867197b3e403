"""From a study's text to token ids, by the tokenizer that travels in the bundle.

``tokenizer.json`` is the own format of the ``tokenizers`` library; it holds vocabulary, normalisation and
special tokens, and no code. How long a text may be and how rows are filled up is the bundle's to say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer as Vocabulary
from torch import Tensor

from models.text.text_format import TextFormat

#: The padding token of every BERT vocabulary.
PADDING = "[PAD]"


@dataclass(frozen=True, slots=True)
class Tokens:
    """Texts as numbers, one row a text, padded on the right to the longest of them.

    Attributes
    ----------
    input_ids
        Shape (n, length), int64, into the vocabulary of the bundle's tokenizer.
    attention_mask
        Shape (n, length), int64: 1 for a token, 0 for padding. A row of zeros is a text that is not there.

    Raises
    ------
    ValueError
        If shapes or types differ from that.
    """

    input_ids: Tensor
    attention_mask: Tensor

    def __post_init__(self) -> None:
        same = self.input_ids.shape == self.attention_mask.shape
        whole = self.input_ids.dtype == self.attention_mask.dtype == torch.int64
        if not (same and whole and self.input_ids.dim() == 2):
            raise ValueError("tokens are two int64 tensors of one shape (n, length)")

    def rows(self, numbers: list[int]) -> Tokens:
        """Some of the texts, in that order; a text may come more than once."""
        return Tokens(self.input_ids[numbers], self.attention_mask[numbers])

    def to(self, device: torch.device) -> Tokens:
        """The same on a device."""
        return Tokens(self.input_ids.to(device), self.attention_mask.to(device))


@dataclass(frozen=True, slots=True)
class TextLimits:
    """Limits of the input of a text tower.

    Attributes
    ----------
    vocabulary
        Ids are below this.
    length
        Longest sequence, in tokens.
    """

    vocabulary: int
    length: int


class Tokenizer:
    """Tokenizes texts as a bundle's network has learnt to read them.

    Parameters
    ----------
    definition
        Contents of ``tokenizer.json``; its own settings of length and padding are not used.
    layout
        Text format of the bundle.

    Raises
    ------
    ValueError
        If the definition is none, or the padding is not in its vocabulary.
    """

    def __init__(self, definition: str, layout: TextFormat) -> None:
        self.layout = layout
        self.definition = definition
        self._vocabulary = _parse(definition)
        self._vocabulary.no_padding()
        self._vocabulary.enable_truncation(layout.max_length)
        if self._vocabulary.id_to_token(layout.pad_id) is None:
            raise ValueError(f"inputs.pad_id {layout.pad_id} is not in the tokenizer's vocabulary")

    @property
    def limits(self) -> TextLimits:
        """Limits that a network must support."""
        ids = self._vocabulary.get_vocab(with_added_tokens=True).values()
        return TextLimits(vocabulary=max(ids) + 1, length=self.layout.max_length)

    def __call__(self, texts: Sequence[str | None]) -> Tokens | None:
        """Tokenize, one row a text.

        Parameters
        ----------
        texts
            None, or nothing but blanks, for a text that is not there: its row has a mask of zeros.

        Returns
        -------
        Tokens or None
            None when no text is there at all.
        """
        there = [row for row, text in enumerate(texts) if text and text.strip()]
        if not there:
            return None
        encoded = self._vocabulary.encode_batch_fast([texts[row] for row in there])
        shape = (len(texts), max(1, *(len(one.ids) for one in encoded)))
        ids = torch.full(shape, self.layout.pad_id)
        mask = torch.zeros(shape, dtype=torch.int64)
        for row, one in zip(there, encoded, strict=True):
            ids[row, : len(one.ids)] = torch.tensor(one.ids)
            mask[row, : len(one.ids)] = 1
        return Tokens(ids, mask)

    def words(self, text: str) -> list[tuple[int, int, list[int]]]:
        """Words of a text as the network reads it.

        Returns
        -------
        list of tuple
            Place of each word in the text, from and to, in characters; and the positions of its tokens in
            the row that :meth:`__call__` gives. What was cut off is not among them.
        """
        encoded = self._vocabulary.encode(text)
        found: dict[int, tuple[int, int, list[int]]] = {}
        for position, word in enumerate(encoded.word_ids):
            if word is None:
                continue
            start, end = encoded.offsets[position]
            first, _, tokens = found.get(word, (start, end, []))
            found[word] = first, end, [*tokens, position]
        return list(found.values())


def padding_id(definition: str) -> int:
    """Id of ``[PAD]`` in a tokenizer.

    Raises
    ------
    ValueError
        If the definition is none, or has no such token.
    """
    number: int | None = _parse(definition).token_to_id(PADDING)
    if number is None:
        raise ValueError(f"the tokenizer's vocabulary has no {PADDING}")
    return number


def _parse(definition: str) -> Vocabulary:
    try:
        # The library raises nothing narrower than Exception.
        return Vocabulary.from_str(definition)
    except Exception as error:
        raise ValueError(f"not a tokenizer: {error}") from error
