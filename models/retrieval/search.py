"""Search of a case index, and agreement of the found cases with a prediction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np

from models.errors import PredictionError, UsageError
from models.processing.types import FloatArray, Prediction
from models.retrieval.engines.interface import RowNumbers
from models.retrieval.engines.registry import open_engine
from models.retrieval.index import CaseIndex, ReferenceCase, Side

#: Agreement below which cases and prediction disagree: on average fewer than one of five cases has a label
#: that the model reports.
DISAGREEMENT = 0.2


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A case that was found.

    Attributes
    ----------
    case
        Case of the index.
    similarity
        Cosine of the angle between query and case, in [-1, 1].
    """

    case: ReferenceCase
    similarity: float


@dataclass(frozen=True, slots=True)
class NeighbourAgreement:
    """Agreement of the neighbours' labels with the prediction for a study.

    Attributes
    ----------
    neighbours
        Neighbours, the most similar first.
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
        """True where the agreement is below :data:`DISAGREEMENT`."""
        return self.agreement < DISAGREEMENT


class Searcher:
    """A case index with an open search engine.

    Parameters
    ----------
    index
        Verified index.
    side
        Vectors of the cases that are compared with a query, one of :data:`models.retrieval.index.Side`.
    engine
        One of :data:`models.retrieval.engines.registry.ENGINES`.
    url
        Address of the database, for ``pgvector`` only.

    Raises
    ------
    UsageError
        If there is no such engine.
    RetrievalError
        If the index has no such vectors, or the engine cannot be opened.
    """

    def __init__(
        self, index: CaseIndex, *, side: Side = "known", engine: str = "exact", url: str | None = None
    ) -> None:
        vectors = index.vectors(side)
        # A case without a report has no vector among the reports.
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
        """Close the engine."""
        self._engine.close()

    def nearest(self, queries: FloatArray, k: int) -> list[tuple[Neighbour, ...]]:
        """Find the `k` nearest cases of each query, or all where there are fewer.

        The same query gives the same neighbours in every run: cases are ordered by the similarity in double
        precision, and equal ones by their position in the index.

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

    def rows(self, queries: FloatArray, k: int) -> list[tuple[RowNumbers, np.ndarray]]:
        """Find neighbours as :meth:`nearest` does, as row numbers of the index and similarities."""
        if k < 1:
            raise UsageError(f"{k} neighbours cannot be found: ask for 1 or more")
        if queries.ndim != 2 or queries.shape[1] != self._vectors.shape[1]:
            raise UsageError(
                f"queries of shape {queries.shape} do not fit the index, which is "
                f"{self._vectors.shape[1]} numbers wide"
            )
        # The sum is infinite or NaN if a value is; a zero vector has no direction.
        lengths = np.einsum("ij,ij->i", queries, queries)
        if not (np.isfinite(lengths).all() and (lengths > 0).all()):
            raise PredictionError("a query holds values that are not numbers, or only zeros")
        asked = min(k, len(self._rows))
        candidates = self._engine.candidates(queries, asked)
        found = (
            rank_candidates(self._vectors, query, rows, asked)
            for query, rows in zip(queries, candidates, strict=True)
        )
        return [(self._rows[rows], likeness) for rows, likeness in found]


def rank_candidates(
    vectors: FloatArray, query: FloatArray, rows: RowNumbers, k: int
) -> tuple[RowNumbers, np.ndarray]:
    """Rank candidates in double precision: the `k` nearest with their similarities, nearest first."""
    # Sorted first, so that equally similar cases stay in the order of the index.
    rows = np.sort(rows)
    # Not a matrix product: its last digit depends on how many candidates there are.
    likeness = np.einsum("ij,j->i", vectors[rows].astype(np.float64), query.astype(np.float64))
    first = np.argsort(-likeness, kind="stable")[:k]
    return rows[first], likeness[first]


def neighbour_agreement(prediction: Prediction, neighbours: Sequence[Neighbour]) -> NeighbourAgreement:
    """Compare the neighbours' labels with the model's prediction.

    Parameters
    ----------
    neighbours
        At least one neighbour.
    """
    keys = [finding.key for finding in prediction.findings]
    count = len(neighbours)
    support = {key: sum(key in entry.case.labels for entry in neighbours) / count for key in keys}
    present = [finding.key for finding in prediction.findings if finding.present]
    if present:
        agreement = sum(support[key] for key in present) / len(present)
    else:
        agreement = sum(entry.case.labels.isdisjoint(keys) for entry in neighbours) / count
    return NeighbourAgreement(tuple(neighbours), support, agreement)
