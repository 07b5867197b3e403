"""Engine for several hosts: a PostgreSQL table with the extension pgvector.

A set of vectors is a table named after their sha256: the first host that opens it writes it, in one
transaction, and the others use it. PostgreSQL compares a query with every row unless ``CREATE INDEX
... USING hnsw (place vector_ip_ops)`` was given; then it is approximate, and ``hnsw.ef_search`` sets how far.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from models.errors import RetrievalError
from models.processing.types import FloatArray
from models.retrieval.engines.interface import RowNumbers

#: Further candidates, because the database orders near-equal neighbours in single precision.
_SPARE = 16

#: Timeout of a connection, in seconds.
_SECONDS = 10


class PgvectorEngine:
    """Engine over a table of vectors.

    Parameters
    ----------
    vectors
        Vectors of the table; they are written unless the table exists.
    url
        Address of the database, in the form of libpq.

    Raises
    ------
    RetrievalError
        If there is no server or no pgvector.
    """

    def __init__(self, vectors: FloatArray, url: str) -> None:
        digest = hashlib.sha256(np.ascontiguousarray(vectors).tobytes()).hexdigest()
        self._name = f"similar_{vectors.shape[1]}_{digest[:32]}"
        self._count = len(vectors)
        self._url = url
        with _one_sentence():
            self._connection = _connect(url)
            try:
                _fill(self._connection, self._name, vectors)
            except BaseException:
                self._connection.close()
                raise

    def candidates(self, queries: FloatArray, k: int) -> Sequence[RowNumbers]:
        """Find candidates as :meth:`models.retrieval.engines.interface.Engine.candidates` does.

        Raises
        ------
        RetrievalError
            If the database does not answer; the next call connects again.
        """
        asked = min(k + _SPARE, self._count)
        # <#> is the negative inner product; only operators of the extension can use its indexes.
        statement = f"SELECT row FROM {self._name} ORDER BY place <#> %s, row LIMIT %s"  # noqa: S608 - a hash
        with _one_sentence():
            if self._connection.closed:
                self._connection = _connect(self._url)
            found = [self._connection.execute(statement, (query, asked)).fetchall() for query in queries]
        return [np.array([row for (row,) in rows], dtype=np.intp) for rows in found]

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def open_pgvector(vectors: FloatArray, url: str | None) -> PgvectorEngine:
    """Open the table, after a check of the address and the installed packages.

    Parameters
    ----------
    url
        Address of the database, in the form of libpq or SQLAlchemy.

    Raises
    ------
    RetrievalError
        If there is no address, no psycopg, no server or no pgvector.
    """
    if not url or not url.startswith("postgresql"):
        raise RetrievalError("pgvector needs the address of a database, postgresql://...")
    try:
        import pgvector.psycopg  # noqa: F401, PLC0415 - of an extra
    except ImportError as error:
        raise RetrievalError("this engine needs psycopg and pgvector") from error
    return PgvectorEngine(vectors, url.replace("postgresql+psycopg://", "postgresql://", 1))


def _connect(url: str) -> Any:
    import psycopg  # noqa: PLC0415
    from pgvector.psycopg import register_vector  # noqa: PLC0415

    connection = psycopg.connect(url, connect_timeout=_SECONDS, autocommit=True)
    try:
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        register_vector(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _fill(connection: Any, name: str, vectors: FloatArray) -> None:
    with connection.transaction():
        # Two hosts may start together: the second waits, and then finds the table.
        connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (name,))
        if connection.execute("SELECT to_regclass(%s)", (name,)).fetchone() != (None,):
            return
        connection.execute(f"CREATE TABLE {name} (row integer PRIMARY KEY, place vector({vectors.shape[1]}))")
        with connection.cursor().copy(f"COPY {name} FROM STDIN WITH (FORMAT BINARY)") as copy:
            copy.set_types(["int4", "vector"])
            for row, vector in enumerate(vectors):
                copy.write_row((row, vector))


@contextmanager
def _one_sentence() -> Iterator[None]:
    """Turn errors of the driver into a RetrievalError of one sentence."""
    import psycopg  # noqa: PLC0415

    try:
        yield
    except psycopg.Error as error:
        reason = str(error).partition("\n")[0]
        raise RetrievalError(f"pgvector: the database says: {reason}") from error
