"""Accuracy of answers against a reference: sensitivity, specificity and ROC AUC with 95 % intervals.

No library that the page installs has them; the tests compare them with scikit-learn and statsmodels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import NDArray

_Z: Final = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True, slots=True)
class Estimate:
    """Estimate with its 95 % interval; None where it is not defined.

    Attributes
    ----------
    n
        Number of cases that it is made of.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int


def proportion(hits: int, n: int) -> Estimate:
    """Return a proportion with its interval (Wilson 1927); not defined for no case."""
    if n == 0:
        return Estimate(None, None, None, 0)
    share, z2 = hits / n, _Z**2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z * math.sqrt(share * (1 - share) / n + z2 / (4 * n**2)) / (1 + z2 / n)
    # At the ends rounding leaves 1e-17 or 0.99..., where the interval touches 0 or 1.
    low, high = middle - half, middle + half
    return Estimate(share, 0.0 if hits == 0 else low, 1.0 if hits == n else high, n)


def auc_contrast(
    ratings: Sequence[Sequence[float]], reference: Sequence[bool], weights: Sequence[float]
) -> Estimate:
    """Return a weighted sum of ROC AUCs over the same cases, such as one AUC, a difference or a mean.

    The interval is that of DeLong, DeLong and Clarke-Pearson (1988): the cases are a random sample, the
    raters are fixed.

    Parameters
    ----------
    ratings
        Ratings, shape (raters, cases); a higher one speaks more for the finding, ties count half.
    reference
        Whether the finding is present, shape (cases,).
    weights
        Weight of each rater's AUC, shape (raters,).

    Returns
    -------
    Estimate
        Not defined without a positive and a negative case. Without an interval where there is only one of
        either, or where the ratings give no variance, as those that separate the cases without an error.
    """
    scores = np.asarray(ratings, float).reshape(len(weights), len(reference))
    present = np.asarray(reference, bool)
    positives, negatives = scores[:, present], scores[:, ~present]
    m, n = positives.shape[1], negatives.shape[1]
    if m == 0 or n == 0:
        return Estimate(None, None, None, m + n)
    w = np.asarray(weights, float)
    of_positives = w @ np.stack([_placements(a, b) for a, b in zip(positives, negatives, strict=True)])
    of_negatives = w @ np.stack([1 - _placements(b, a) for a, b in zip(positives, negatives, strict=True)])
    value = float(of_positives.mean())
    if min(m, n) == 1:
        return Estimate(value, None, None, m + n)
    variance = float(of_positives.var(ddof=1) / m + of_negatives.var(ddof=1) / n)
    if variance <= np.finfo(float).eps:
        return Estimate(value, None, None, m + n)
    half = _Z * math.sqrt(variance)
    # A sum of weights of 1 is an AUC or a mean of AUCs, one of 0 a difference.
    lowest = 0.0 if min(weights) >= 0 else -1.0
    return Estimate(value, max(lowest, value - half), min(1.0, value + half), m + n)


def _placements(these: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return for each of `these` the share of `others` below it, ties as half."""
    ordered = np.sort(others)
    below = np.searchsorted(ordered, these, "left") + np.searchsorted(ordered, these, "right")
    placed: NDArray[np.float64] = below / (2 * others.size)
    return placed
