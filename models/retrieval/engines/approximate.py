"""Approximate engines of FAISS (Douze et al. 2024), for sets beyond some hundred thousand cases.

- ``hnsw``: a graph of near rows (Malkov & Yashunin 2018); fastest, with all vectors in memory.
- ``ivfpq``: lists of near rows with product-quantised vectors (Jegou et al. 2011); a fraction of the memory.
  It returns several times k candidates, because the search measures them again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from models.errors import RetrievalError
from models.processing.types import FloatArray
from models.retrieval.engines.interface import RowNumbers

_SEED = 1234

#: HNSW: neighbours kept for each row (M), and breadth of the search while building and searching (ef).
_LINKS, _BUILD_BREADTH, _SEARCH_BREADTH = 32, 80, 128

#: IVF-PQ: vector components in one byte, share of the lists that is searched, candidates for each neighbour,
#: training rows for each list.
_PIECE, _SEARCHED, _REFINED, _TRAINED = 4, 1 / 32, 20, 64


class FaissEngine:
    """Engine over a FAISS index.

    Parameters
    ----------
    index
        FAISS index of inner products, with the vectors in it.
    refined
        Number of candidates for each neighbour.
    """

    def __init__(self, index: Any, refined: int = 1) -> None:
        self.index = index
        self._refined = refined

    def candidates(self, queries: FloatArray, k: int) -> Sequence[RowNumbers]:
        """Find candidates as :meth:`models.retrieval.engines.interface.Engine.candidates` does."""
        asked = min(k * self._refined, self.index.ntotal)
        _, rows = self.index.search(np.ascontiguousarray(queries), asked)
        # FAISS fills up with -1 where it finds fewer rows.
        return [found[found >= 0].astype(np.intp) for found in rows]

    def close(self) -> None:
        """Do nothing: no resource is held."""


def build_hnsw(vectors: FloatArray) -> FaissEngine:
    """Build the HNSW graph, on one thread: several threads would give another graph each time."""
    faiss = _faiss()
    index = faiss.IndexHNSWFlat(vectors.shape[1], _LINKS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = _BUILD_BREADTH
    index.hnsw.efSearch = _SEARCH_BREADTH
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        index.add(np.ascontiguousarray(vectors))
    finally:
        faiss.omp_set_num_threads(threads)
    return FaissEngine(index, refined=2)


def build_ivfpq(vectors: FloatArray) -> FaissEngine:
    """Build the IVF-PQ index, with about 4 sqrt(n) lists.

    Raises
    ------
    RetrievalError
        If there are too few rows to train the quantiser.
    """
    faiss = _faiss()
    count, width = vectors.shape
    pieces = max(1, width // _PIECE)
    if count < 1 << 8 or width % pieces:
        raise RetrievalError(
            f"ivfpq learns pieces of {_PIECE} numbers from at least 256 rows; here are {count} rows of "
            f"{width}: use exact"
        )
    lists = max(1, min(count // _TRAINED, round(4 * math.sqrt(count))))
    quantizer = faiss.IndexFlatIP(width)
    index = faiss.IndexIVFPQ(quantizer, width, lists, pieces, 8, faiss.METRIC_INNER_PRODUCT)
    index.nprobe = max(16, math.ceil(lists * _SEARCHED))
    index.cp.seed = index.pq.cp.seed = _SEED
    index.cp.min_points_per_centroid = index.pq.cp.min_points_per_centroid = 1
    chosen = np.random.default_rng(_SEED).permutation(count)[: max(lists * _TRAINED, 1 << 16)]
    index.train(np.ascontiguousarray(vectors[np.sort(chosen)]))
    index.add(np.ascontiguousarray(vectors))
    return FaissEngine(index, refined=_REFINED)


def _faiss() -> Any:
    try:
        import faiss  # noqa: PLC0415 - of an extra, and takes a second
    except ImportError as error:
        raise RetrievalError("this engine needs FAISS") from error
    return faiss
