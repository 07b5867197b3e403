"""Embeddings of the node's own studies, for the search for similar ones; apart from the reference cases.

They are data of patients. So the search is off unless ``retrieval.own_studies`` is set, only readers who are
logged in can search, each search is logged, and the embeddings are deleted when the setting is turned off.
There is one embedding for each analysis, marked with the weights that computed it.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, func, select

from dicom_node.store import database
from dicom_node.store.tables import catalogue, place, reading

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_BLOCK = 10_000
"""Rows that are compared at once, some 10 MB."""


@dataclass(frozen=True, slots=True, eq=False)
class StudyEmbedding:
    """Embedding of a study and the query for others, from ``models.retrieval.embedding``.

    Attributes
    ----------
    weights_sha256
        SHA-256 of the weights, hexadecimal.
    vector
        Shape (width,), with a length of at most 1.
    query
        Query for studies of which films alone are known; of the same shape and length.
    """

    weights_sha256: str
    vector: NDArray[np.float32]
    query: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class SimilarStudy:
    """Study of the node that is similar to another one.

    Attributes
    ----------
    similarity
        Cosine of the asked study's query and this study's embedding, in [-1, 1].
    """

    study_id: int
    similarity: float


def insert_embedding(connection: Connection, reading_id: int, embedding: StudyEmbedding) -> None:
    """Insert the embedding of an analysis within the caller's transaction."""
    connection.execute(
        place.insert().values(
            reading_id=reading_id,
            weights_sha256=embedding.weights_sha256,
            vector=embedding.vector.astype("<f4").tobytes(),
            query=embedding.query.astype("<f4").tobytes(),
        )
    )


class StudyEmbeddings:
    """Embeddings of the node's own studies.

    Parameters
    ----------
    engine
        Engine of the index.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def clear(self) -> int:
        """Delete all embeddings; return their number."""
        with database.writing(self._engine) as connection:
            return connection.execute(place.delete()).rowcount

    def nearest(self, study_id: int, k: int) -> list[SimilarStudy] | None:
        """Return the most similar studies of other patients, the most similar first.

        The search is exact: it compares all embeddings of the same weights. Equally similar studies are in
        the order of their numbers.

        Parameters
        ----------
        k
            Most studies to return.

        Returns
        -------
        list of SimilarStudy or None
            None when the latest analysis of the study has no embedding.
        """
        newest = select(func.max(reading.c.id)).where(reading.c.position == 0).group_by(reading.c.study_id)
        with database.reading(self._engine) as connection:
            asked = connection.execute(
                select(
                    place.c.weights_sha256,
                    func.coalesce(place.c.query, place.c.vector).label("asked"),
                    catalogue.c.person,
                )
                .join(reading, reading.c.id == place.c.reading_id)
                .outerjoin(catalogue, catalogue.c.study_id == reading.c.study_id)
                .where(reading.c.study_id == study_id, reading.c.id.in_(newest))
            ).first()
            if asked is None:
                return None
            query = (
                select(reading.c.study_id, place.c.vector, catalogue.c.person)
                .join(reading, reading.c.id == place.c.reading_id)
                .outerjoin(catalogue, catalogue.c.study_id == reading.c.study_id)
                .where(
                    place.c.weights_sha256 == asked.weights_sha256,
                    reading.c.study_id != study_id,
                    reading.c.id.in_(newest),
                )
                .order_by(reading.c.study_id)
                .execution_options(yield_per=_BLOCK)
            )
            return _best(_measured(connection.execute(query).partitions(), asked.asked, asked.person), k)


def _measured(blocks: Iterator, query: bytes, person: str | None) -> Iterator[SimilarStudy]:  # type: ignore[type-arg]
    import numpy as np  # noqa: PLC0415 - many read the index, few search in it

    asked = np.frombuffer(query, "<f4").astype(np.float64)
    asked /= np.linalg.norm(asked)
    for block in blocks:
        rows = [row for row in block if person is None or row.person != person]
        vectors = np.frombuffer(b"".join(row.vector for row in rows), "<f4").reshape(-1, asked.size)
        # No matrix product: its last digit depends on the number of rows.
        likeness = np.einsum("ij,j->i", vectors.astype(np.float64), asked)
        lengths = np.linalg.norm(vectors, axis=1)
        for row, value in zip(rows, (likeness / lengths).tolist(), strict=True):
            yield SimilarStudy(row.study_id, min(1.0, max(-1.0, value)))


def _best(cases: Iterator[SimilarStudy], k: int) -> list[SimilarStudy]:
    return heapq.nsmallest(k, cases, key=lambda case: (-case.similarity, case.study_id))
