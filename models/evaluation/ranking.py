"""Ranking metrics: precision, average precision, reciprocal rank, discounted cumulative gain.

Every metric takes gains in the order of the ranking, shape (queries, ranks), and returns one number for each
query. A query without a relevant case scores 0.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Gains: TypeAlias = NDArray[np.float64]
PerQuery: TypeAlias = NDArray[np.float64]


def precision(gains: Gains, k: int) -> PerQuery:
    """Mean gain of the first `k`; with gains of 0 and 1 the share of them that is relevant."""
    return np.asarray(gains[:, :k].sum(axis=1) / k)


def average_precision(relevant: Gains) -> PerQuery:
    """Mean, over the relevant cases, of the precision at their ranks; the ranking holds all cases.

    Parameters
    ----------
    relevant
        Gains of 0 and 1.
    """
    found = np.cumsum(relevant, axis=1)
    ranks = np.arange(1, relevant.shape[1] + 1)
    total = found[:, -1]
    summed = (relevant * found / ranks).sum(axis=1)
    return _share(summed, total)


def reciprocal_rank(relevant: Gains) -> PerQuery:
    """One over the rank of the first relevant case."""
    first = relevant.argmax(axis=1)
    return np.where(relevant.any(axis=1), 1 / (first + 1), 0.0)


def discounted_gain(gains: Gains, k: int) -> PerQuery:
    """Normalised discounted cumulative gain of the first `k` (Jarvelin & Kekalainen 2002).

    The gain at rank r counts 1 / log2(r + 1); the ideal is the best order of all cases.
    """
    discount = 1 / np.log2(np.arange(2, k + 2))
    gained = gains[:, :k] @ discount[: gains.shape[1]]
    ideal = -np.sort(-gains, axis=1)[:, :k] @ discount[: gains.shape[1]]
    return _share(gained, ideal)


def _share(part: PerQuery, whole: PerQuery) -> PerQuery:
    shares: PerQuery = np.zeros(len(part))
    np.divide(part, whole, out=shares, where=whole > 0)
    return shares
