"""The exact engine: one matrix product in this process."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.processing.types import FloatArray
from models.retrieval.engines.interface import Rows

#: Single precision orders rows that lie closer together than this by chance: they are all candidates.
_ROUNDING = 1e-5


class Exact:
    """Compares a query with every row.

    Parameters
    ----------
    vectors
        Shape (n, width), float32.
    """

    def __init__(self, vectors: FloatArray) -> None:
        self._vectors = np.ascontiguousarray(vectors)

    def candidates(self, queries: FloatArray, k: int) -> Sequence[Rows]:
        """As :meth:`models.retrieval.engines.Engine.candidates`."""
        likeness = queries @ self._vectors.T
        kth = likeness.shape[1] - k
        least = np.partition(likeness, kth, axis=1)[:, kth] - _ROUNDING
        return [np.flatnonzero(row >= bound) for row, bound in zip(likeness, least, strict=True)]

    def close(self) -> None:
        """Nothing was opened."""
