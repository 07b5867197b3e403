"""Where the node's own studies lie for its model: an index of them, apart from that of reference cases.

It is of patients, so it is off unless ``retrieval.own_studies`` asks for it, is searched only by readers of
the page, each search is written down, and it is emptied when it is turned off. There is one place for a
reading, of the very weights that computed it.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Engine, func, select

from dicom_node.store import database
from dicom_node.store.tables import catalogue, place, reading

#: Rows that are compared at once: some 10 MB.
_BLOCK = 10_000

Vector = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class KeptPlace:
    """A place, as ``models.retrieval.embedding`` makes it, and the weights that it is of.

    Attributes
    ----------
    vector
        Shape (width,), of unit length or shorter.
    """

    weights_sha256: str
    vector: Vector


@dataclass(frozen=True, slots=True)
class OwnCase:
    """A study of the node that is like another one.

    Attributes
    ----------
    similarity
        Cosine of the angle between both, in [-1, 1].
    """

    study_id: int
    similarity: float


def record(connection: Connection, reading_id: int, kept: KeptPlace) -> None:
    """Enter the place of a reading in the caller's transaction."""
    connection.execute(
        place.insert().values(
            reading_id=reading_id,
            weights_sha256=kept.weights_sha256,
            vector=kept.vector.astype("<f4").tobytes(),
        )
    )


class Places:
    """The places of the node's own studies.

    Parameters
    ----------
    engine
        Of the index.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def forget(self) -> int:
        """Empty the index; returns how many places it held."""
        with database.writing(self._engine) as connection:
            return connection.execute(place.delete()).rowcount

    def nearest(self, study_id: int, k: int) -> list[OwnCase] | None:
        """Find the studies of other patients that a study is most like, the most similar first.

        Exact: every place of the same weights is measured, and equal ones stand in the order of numbers.

        Parameters
        ----------
        k
            How many at most.

        Returns
        -------
        list of OwnCase or None
            None when the latest reading of the study has no place.
        """
        newest = select(func.max(reading.c.id)).group_by(reading.c.study_id)
        with database.reading(self._engine) as connection:
            asked = connection.execute(
                select(place.c.weights_sha256, place.c.vector, catalogue.c.person)
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
            return _best(_measured(connection.execute(query).partitions(), asked.vector, asked.person), k)


def _measured(blocks: Iterator, vector: bytes, person: str | None) -> Iterator[OwnCase]:  # type: ignore[type-arg]
    asked = np.frombuffer(vector, "<f4").astype(np.float64)
    asked /= np.linalg.norm(asked)
    for block in blocks:
        rows = [row for row in block if person is None or row.person != person]
        vectors = np.frombuffer(b"".join(row.vector for row in rows), "<f4").reshape(-1, asked.size)
        # Not a matrix product: its last digit depends on how many rows there are.
        likeness = np.einsum("ij,j->i", vectors.astype(np.float64), asked)
        lengths = np.linalg.norm(vectors, axis=1)
        for row, value in zip(rows, (likeness / lengths).tolist(), strict=True):
            yield OwnCase(row.study_id, min(1.0, max(-1.0, value)))


def _best(cases: Iterator[OwnCase], k: int) -> list[OwnCase]:
    return heapq.nsmallest(k, cases, key=lambda case: (-case.similarity, case.study_id))
