"""What every engine gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from models.processing.types import FloatArray

Rows: TypeAlias = NDArray[np.intp]


class Engine(Protocol):
    """Finds the rows that lie nearest to a query by inner product."""

    def candidates(self, queries: FloatArray, k: int) -> Sequence[Rows]:
        """Rows among which the k nearest of each query are looked for.

        The search measures candidates itself, in double precision, and orders them. So every engine gives
        the same neighbours wherever its candidates hold them, whatever arithmetic it found them with.

        Parameters
        ----------
        queries
            Shape (m, width), float32.
        k
            At least 1, at most as many as there are rows.

        Returns
        -------
        sequence of numpy.ndarray
            One a query: row numbers in any order, each once; `k` or more of them, unless an approximate
            engine found fewer.
        """
        ...

    def close(self) -> None:
        """Let go of what was opened."""
        ...
