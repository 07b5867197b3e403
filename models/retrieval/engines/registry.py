"""Registry of the search engines: name -> function that makes one ready."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from models.errors import UsageError
from models.processing.types import FloatArray
from models.retrieval.engines import approximate, database, exact
from models.retrieval.engines.interface import Engine

EngineName = Literal["exact", "hnsw", "ivfpq", "pgvector"]

#: Engine by name; each function takes the vectors and, for a database, its address.
ENGINES: dict[str, Callable[[FloatArray, str | None], Engine]] = {
    "exact": lambda vectors, _url: exact.ExactEngine(vectors),
    "hnsw": lambda vectors, _url: approximate.build_hnsw(vectors),
    "ivfpq": lambda vectors, _url: approximate.build_ivfpq(vectors),
    "pgvector": database.open_pgvector,
}


def open_engine(name: str, vectors: FloatArray, url: str | None = None) -> Engine:
    """Make vectors ready to be searched.

    Parameters
    ----------
    name
        One of :data:`ENGINES`.
    vectors
        Shape (n, width), float32, of unit length or zero.
    url
        Address of the database, for ``pgvector`` only.

    Raises
    ------
    UsageError
        If there is no such engine.
    RetrievalError
        If the engine is not installed or cannot be reached.
    """
    if name not in ENGINES:
        raise UsageError(f"no engine is called {name!r}; there are: {', '.join(ENGINES)}")
    return ENGINES[name](vectors, url)
