"""Inference session: what a predictor asks of the runtime that computes a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from models.processing.types import FloatArray

if TYPE_CHECKING:
    from models.text.tokenizer import Tokens

#: Largest number of films in one pass: more gains nothing on a CPU and takes memory.
FILMS_AT_ONCE = 16


@dataclass(frozen=True, slots=True, eq=False)
class Inference:
    """Results of a network, one row for each film.

    Attributes
    ----------
    scores
        Shape (n, labels), float32 in [0, 1].
    embeddings
        Shape (n, width), float32.
    features
        Shape (n, channels, height, width), float32: the last feature maps before pooling; None for a network
        without them.
    """

    scores: FloatArray
    embeddings: FloatArray
    features: FloatArray | None


def joined(parts: Sequence[Inference]) -> Inference:
    """Join the results of several passes, at least one."""
    if len(parts) == 1:
        return parts[0]
    maps = [part.features for part in parts if part.features is not None]
    return Inference(
        np.concatenate([part.scores for part in parts]),
        np.concatenate([part.embeddings for part in parts]),
        np.concatenate(maps) if maps else None,
    )


class Session(Protocol):
    """A network with its weights, in the runtime that computes it."""

    runtime: str
    """``torch`` or ``onnx``."""

    @property
    def stand_in(self) -> str:
        """Name of the device that reads in place of the wanted one; empty while that one does."""
        ...

    def stand_in_by_processor(self) -> None:
        """Let the processor read in place of the device."""
        ...

    def run(self, films: Sequence[FloatArray], tokens: Tokens | None) -> Inference:
        """Read some films.

        Parameters
        ----------
        films
            Pixels, each of shape (rows, columns), float32 in [0, 1]; 1 to :data:`FILMS_AT_ONCE`.
        tokens
            Texts, one row for each film; None for none.
        """
        ...

    def head_weights(self) -> FloatArray | None:
        """Weights of the head, shape (labels, channels), where Grad-CAM has its closed form; else None."""
        ...

    def describe(self) -> Mapping[str, str]:
        """Device, and version of the library, as text for a person."""
        ...
