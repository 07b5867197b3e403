"""Interface of the search engines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from models.processing.types import FloatArray

RowNumbers: TypeAlias = NDArray[np.intp]


class Engine(Protocol):
    """Search engine: finds the rows nearest to a query by inner product."""

    def candidates(self, queries: FloatArray, k: int) -> Sequence[RowNumbers]:
        """Candidate rows for the k nearest of each query.

        The search measures and orders the candidates itself, in double precision. So all engines whose
        candidates contain the true neighbours give the same result, whatever their arithmetic.

        Parameters
        ----------
        queries
            Shape (m, width), float32.
        k
            Number of neighbours, from 1 to the number of rows.

        Returns
        -------
        sequence of numpy.ndarray
            Row numbers for each query, in any order and without repetition; `k` or more, unless an
            approximate engine found fewer.
        """
        ...

    def close(self) -> None:
        """Release connections and files."""
        ...
