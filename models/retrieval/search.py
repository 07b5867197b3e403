"""Search of an index, and the second opinion that the neighbours of a study give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np

from models.errors import PredictionError, UsageError
from models.processing.types import FloatArray, Prediction
from models.retrieval.engines import Rows, open_engine
from models.retrieval.index import Case, Index, Side

#: Below it, the cases bear out too little of what the model says to pass over in silence: on average fewer
#: than one of five cases has a label that the model reports.
DISAGREEMENT = 0.2


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A case that was found.

    Attributes
    ----------
    case
        Of the index.
    similarity
        Cosine of the angle between query and case, in [-1, 1].
    """

    case: Case
    similarity: float


@dataclass(frozen=True, slots=True)
class Opinion:
    """What the neighbours of a study say together, beside what the model says.

    Attributes
    ----------
    neighbours
        Most similar first.
    support
        Share of the neighbours that have a label, by the keys of the model's labels.
    agreement
        Mean support of the labels that the model reports; where it reports none, share of the neighbours that
        have none either. In [0, 1].
    """

    neighbours: tuple[Neighbour, ...]
    support: dict[str, float]
    agreement: float

    @property
    def disagrees(self) -> bool:
        """Whether too little of what the model says is borne out."""
        return self.agreement < DISAGREEMENT


class Searcher:
    """An index that is ready to be searched.

    Parameters
    ----------
    index
        Read and verified.
    side
        What of a case is compared with a query.
    engine
        Of :data:`models.retrieval.engines.ENGINES`.
    url
        Of the database, for ``pgvector``.

    Raises
    ------
    UsageError
        If there is no such engine.
    RetrievalError
        If the index has no such side, or the engine cannot be opened.
    """

    def __init__(
        self, index: Index, *, side: Side = "known", engine: str = "exact", url: str | None = None
    ) -> None:
        vectors = index.vectors(side)
        # A case without a report has no place among reports.
        self._rows = np.flatnonzero(vectors.any(axis=1))
        self._vectors = vectors if len(self._rows) == len(vectors) else vectors[self._rows]
        self._engine = open_engine(engine, self._vectors, url)
        self.index = index

    def __len__(self) -> int:
        return len(self._rows)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the engine."""
        self._engine.close()

    def nearest(self, queries: FloatArray, k: int) -> list[tuple[Neighbour, ...]]:
        """Find the `k` nearest cases of each query, or all where there are fewer.

        The same query gives the same neighbours in every run: cases are ordered by the similarity in double
        precision, and equal ones by their place in the index.

        Parameters
        ----------
        queries
            Shape (m, width), float32, of unit length.

        Raises
        ------
        UsageError
            If `k` is less than 1, or the queries are not as wide as the index.
        PredictionError
            If a query holds values that are not numbers, or no direction.
        """
        return [
            tuple(
                Neighbour(self.index.cases[row], min(1.0, max(-1.0, likeness)))
                for row, likeness in zip(rows.tolist(), found.tolist(), strict=True)
            )
            for rows, found in self.rows(queries, k)
        ]

    def rows(self, queries: FloatArray, k: int) -> list[tuple[Rows, np.ndarray]]:
        """As :meth:`nearest`, as row numbers of the index and similarities."""
        if k < 1:
            raise UsageError(f"{k} neighbours cannot be found: ask for 1 or more")
        if queries.ndim != 2 or queries.shape[1] != self._vectors.shape[1]:
            raise UsageError(
                f"queries of shape {queries.shape} do not suit the index, which is "
                f"{self._vectors.shape[1]} numbers wide"
            )
        # Infinite and NaN sums tell of such values; zero is no direction.
        lengths = np.einsum("ij,ij->i", queries, queries)
        if not (np.isfinite(lengths).all() and (lengths > 0).all()):
            raise PredictionError("a query holds values that are not numbers, or only zeros")
        asked = min(k, len(self._rows))
        candidates = self._engine.candidates(queries, asked)
        found = (
            ordered(self._vectors, query, rows, asked)
            for query, rows in zip(queries, candidates, strict=True)
        )
        return [(self._rows[rows], likeness) for rows, likeness in found]


def ordered(vectors: FloatArray, query: FloatArray, rows: Rows, k: int) -> tuple[Rows, np.ndarray]:
    """Measure candidates in double precision: the `k` nearest with their similarities, nearest first."""
    # Sorted first, so that equal cases stay in the order of the index.
    rows = np.sort(rows)
    # Not a matrix product: its last digit depends on how many candidates there are.
    likeness = np.einsum("ij,j->i", vectors[rows].astype(np.float64), query.astype(np.float64))
    first = np.argsort(-likeness, kind="stable")[:k]
    return rows[first], likeness[first]


def opinion(prediction: Prediction, neighbours: Sequence[Neighbour]) -> Opinion:
    """Put the neighbours' labels beside the model's answers.

    Parameters
    ----------
    neighbours
        At least one.
    """
    keys = [finding.key for finding in prediction.findings]
    count = len(neighbours)
    support = {key: sum(key in entry.case.labels for entry in neighbours) / count for key in keys}
    present = [finding.key for finding in prediction.findings if finding.present]
    if present:
        agreement = sum(support[key] for key in present) / len(present)
    else:
        agreement = sum(entry.case.labels.isdisjoint(keys) for entry in neighbours) / count
    return Opinion(tuple(neighbours), support, agreement)
