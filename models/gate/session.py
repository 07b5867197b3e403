"""Session of the gate: its network in the runtime that computes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from models.processing.types import FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class GateAnswers:
    """Answers of a gate's network for films, one row for each.

    Attributes
    ----------
    scores
        Shape (n, answers), float32 in [0, 1], in the order of :data:`ANSWERS`.
    distances
        Shape (n,), float32: distance to the nearest place.
    features
        Shape (n, width), float32.
    """

    scores: FloatArray
    distances: FloatArray
    features: FloatArray


class GateSession(Protocol):
    """Network of a gate, ready to judge films."""

    runtime: str
    """``torch`` or ``onnx``."""
    width: int
    """Number of features."""

    def standardise(self, pixels: FloatArray) -> FloatArray:
        """Bring one film to the square grid and the percentile window, shape (grid, grid)."""
        ...

    def run(self, standard: FloatArray) -> GateAnswers:
        """Look at standardised films, shape (n, grid, grid)."""
        ...


ANSWERS = ("lateral", "inverted", "rotated", "chest")
"""Names of the answers, in the order of the outputs."""
VIEWS = ("frontal", "lateral")
"""The views that have a place of their own, in the order of the places."""
