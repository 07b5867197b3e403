"""Search of large sets: milliseconds per query, and recall against the exact engine, by size.

The vectors are drawn, 512 wide: ten thousand clusters in 48 dimensions of a random basis, with noise in all
of them, since embeddings of films fill few of their dimensions. ``BENCH_CASES`` takes other sizes,
such as ``100000,1000000``; a million cases take 2 GB, some minutes, and as much again for HNSW.
"""

from __future__ import annotations

import os
import resource
import time

import numpy as np
import pytest

from models.retrieval.engines.registry import open_engine
from models.retrieval.search import rank_candidates
from tests.support.benchmarks import QUICK, Record

WIDTH, CLUSTERS, DIMENSIONS = 512, 10_000, 48
QUERIES, K = 100, 10
SIZES = [int(size) for size in os.environ.get("BENCH_CASES", "3800" if QUICK else "3800,100000").split(",")]


def draw(count: int, seed: int) -> np.ndarray:
    """Unit vectors around shared cluster centres."""
    fixed = np.random.default_rng(0)
    basis = fixed.normal(size=(DIMENSIONS, WIDTH)).astype(np.float32)
    centres = fixed.normal(size=(CLUSTERS, DIMENSIONS)).astype(np.float32)
    random = np.random.default_rng(seed)
    found = np.empty((count, WIDTH), np.float32)
    for start in range(0, count, 50_000):
        part = found[start : start + 50_000]
        place = centres[random.integers(0, CLUSTERS, len(part))]
        place = place + 0.5 * random.normal(size=place.shape).astype(np.float32)
        part[:] = place @ basis + random.normal(size=part.shape).astype(np.float32)
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return found


@pytest.mark.parametrize("size", SIZES)
def test_milliseconds_and_recall(size: int, record: Record) -> None:
    vectors, queries = draw(size, 1), draw(QUERIES, 2)
    truth: list[set[int]] = []
    exact: list[float] = []
    for name in ("exact", "hnsw", "ivfpq"):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = time.perf_counter()
        engine = open_engine(name, vectors)
        built = time.perf_counter() - began
        taken, found = [], []
        for query in queries:
            began = time.perf_counter()
            (rows,) = engine.candidates(query[None], K)
            found.append(set(rank_candidates(vectors, query, rows, K)[0].tolist()))
            taken.append(1000 * (time.perf_counter() - began))
        truth = truth or found
        recall = np.mean([len(one & two) / K for one, two in zip(found, truth, strict=True)])
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        exact = exact or taken
        cases = f"{name} search among {size:,} cases"
        record(f"{cases}, a query", "ms", taken, peer="exact", peer_samples=exact)
        record(f"{cases}, recall at {K}", "share", float(recall), n=QUERIES)
        record(f"{cases}, building", "s", built)
        record(f"{cases}, memory beside vectors of {vectors.nbytes >> 20} MiB", "MiB", grown)
