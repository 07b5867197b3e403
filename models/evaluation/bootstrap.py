"""Bootstrap over patients (Efron & Tibshirani 1993), for the intervals of all metrics.

Whole patients are drawn with replacement, since a patient's studies resemble one another. One set of
resamplings serves every metric of a split, so that metrics may be compared resampling by resampling.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.evaluation import metrics
from models.evaluation.metrics import BoolArray, ScoreArray, ThresholdCurve, Values, Weights

#: Number of resamplings.
RESAMPLINGS = 1000

#: Random seed; fixed, so that the same bundle and films give the same intervals.
SEED = 0

#: Array elements processed at a time: more takes memory and gains no speed.
_BLOCK = 4_000_000


def resampling_weights(
    patients: NDArray[np.intp], *, seed: int = SEED, resamplings: int = RESAMPLINGS
) -> Weights:
    """Weights of the bootstrap: in each resampling as many patients are drawn as there are.

    Parameters
    ----------
    patients
        Shape (studies,): number of each study's patient, from 0.
    seed
        Random seed.

    Returns
    -------
    numpy.ndarray
        Shape (studies, resamplings), float32: number of times that each study is in each resampling.
    """
    generator = np.random.default_rng(seed)
    count = int(patients.max()) + 1
    drawn = np.empty((count, resamplings), np.float32)
    for column in range(resamplings):
        drawn[:, column] = np.bincount(generator.integers(0, count, count), minlength=count)
    return drawn[patients]


@dataclass(frozen=True, slots=True, eq=False)
class ResampledMetrics:
    """Metrics of one label in every resampling, each of shape (resamplings,)."""

    auc: Values
    ap: Values
    f1: Values


def resample_metrics(
    truth: BoolArray, scores: ScoreArray, present: BoolArray, weights: Weights
) -> ResampledMetrics:
    """Compute the metrics of one label in every resampling.

    Parameters
    ----------
    truth, scores, present
        Shape (studies,).
    weights
        Result of :func:`resampling_weights`.
    """
    auc, ap = resample_curve(truth, scores, weights, ThresholdCurve.auc, ThresholdCurve.average_precision)
    return ResampledMetrics(auc, ap, metrics.f1_resampled(truth, present, weights))


def resample_curve(
    truth: BoolArray, scores: ScoreArray, weights: Weights, *measures: Callable[[ThresholdCurve], Values]
) -> tuple[Values, ...]:
    """Metrics of the threshold curve in every resampling, each of shape (resamplings,)."""
    blocks = np.array_split(weights, max(1, weights.size // _BLOCK), axis=1)
    curves = (metrics.threshold_curve(truth, scores, block) for block in blocks)
    parts = [[measure(curve) for measure in measures] for curve in curves]
    return tuple(np.concatenate(part) for part in zip(*parts, strict=True))


def mean_ignoring_nan(drawn: Values) -> Values:
    """Mean over labels in each resampling, without NaN; NaN where all labels are NaN."""
    known = ~np.isnan(drawn)
    total = np.where(known, drawn, 0).sum(axis=1)
    means: Values = np.full(len(drawn), np.nan)
    np.divide(total, known.sum(axis=1), out=means, where=known.any(axis=1))
    return means


def percentile_interval(values: Values, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval, ignoring NaN; NaN when more than half of the values are NaN."""
    known = values[~np.isnan(values)]
    if 2 * known.size < values.size or not known.size:
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
