"""Exact engine: one matrix product in this process."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.processing.types import FloatArray
from models.retrieval.engines.interface import RowNumbers

#: Rounding error of single precision: rows closer than this to the k-th are candidates, too.
_ROUNDING = 1e-5


class ExactEngine:
    """Engine that compares a query with every row.

    Parameters
    ----------
    vectors
        Shape (n, width), float32.
    """

    def __init__(self, vectors: FloatArray) -> None:
        self._vectors = np.ascontiguousarray(vectors)

    def candidates(self, queries: FloatArray, k: int) -> Sequence[RowNumbers]:
        """Find candidates as :meth:`models.retrieval.engines.interface.Engine.candidates` does."""
        likeness = queries @ self._vectors.T
        kth = likeness.shape[1] - k
        least = np.partition(likeness, kth, axis=1)[:, kth] - _ROUNDING
        return [np.flatnonzero(row >= bound) for row, bound in zip(likeness, least, strict=True)]

    def close(self) -> None:
        """Do nothing: no resource is held."""
