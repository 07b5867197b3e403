"""How the nearest vectors are found: the table below is all the registry there is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from models.errors import UsageError
from models.processing.types import FloatArray
from models.retrieval.engines import approximate, database, exact
from models.retrieval.engines.interface import Engine, Rows

__all__ = ["ENGINES", "Engine", "EngineName", "Rows", "open_engine"]

EngineName = Literal["exact", "hnsw", "ivfpq", "pgvector"]

#: Name -> what makes one of vectors and, for a database, its address.
ENGINES: dict[str, Callable[[FloatArray, str | None], Engine]] = {
    "exact": lambda vectors, _url: exact.Exact(vectors),
    "hnsw": lambda vectors, _url: approximate.hnsw(vectors),
    "ivfpq": lambda vectors, _url: approximate.ivfpq(vectors),
    "pgvector": database.open_table,
}


def open_engine(name: str, vectors: FloatArray, url: str | None = None) -> Engine:
    """Make the vectors ready to be searched.

    Parameters
    ----------
    name
        Of :data:`ENGINES`.
    vectors
        Shape (n, width), float32, of unit length or zero.
    url
        Of the database, for ``pgvector``.

    Raises
    ------
    UsageError
        If there is no such engine.
    RetrievalError
        If it is not installed or cannot be reached.
    """
    if name not in ENGINES:
        raise UsageError(f"no engine is called {name!r}; there are: {', '.join(ENGINES)}")
    return ENGINES[name](vectors, url)
