"""Figures of merit for rare labels: what they measure, with intervals and with baselines beside them.

Truth tables are bool and scores float, both of shape (studies, labels), or (studies,) for a single label.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BoolArray = NDArray[np.bool_]
ScoreArray = NDArray[np.float32] | NDArray[np.float64]

#: A label with fewer positives in a split is left out of the macro averages: its figure is mostly chance.
FEWEST_POSITIVES = 5

#: Bins of the expected calibration error, and resamplings of the bootstrap.
BINS = 10
RESAMPLINGS = 1000


def auc(truth: BoolArray, scores: ScoreArray) -> float:
    """Area under the ROC curve, ties counted half; NaN without both classes (Hanley & McNeil 1982).

    Written here, as the Mann-Whitney statistic, because the bootstrap calls it tens of thousands of times.
    """
    positives = int(truth.sum())
    negatives = truth.size - positives
    if not positives or not negatives:
        return float("nan")
    _, place, count = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(count) - (count - 1) / 2)[place]
    return float((ranks[truth].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def average_precision(truth: BoolArray, scores: ScoreArray) -> float:
    """Area under the precision-recall curve as a step function; NaN without a positive.

    Its value for a random order is the prevalence, which must stand beside it.
    """
    positives = int(truth.sum())
    if not positives:
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], np.cumsum(truth[order])
    # Equal scores are one step: no order among them is better than another.
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    precision = hits[last] / (last + 1)
    gained = np.diff(hits[last], prepend=0)
    return float((precision * gained).sum() / positives)


def f1(truth: BoolArray, present: BoolArray) -> float:
    """Harmonic mean of precision and recall; 0 where nothing is both true and reported."""
    reported = int(truth.sum()) + int(present.sum())
    return 2 * int((truth & present).sum()) / reported if reported else 0.0


def calibration_error(truth: BoolArray, probabilities: ScoreArray, bins: int = BINS) -> float:
    """Expected calibration error over bins of equal width (Naeini et al. 2015)."""
    place = np.minimum((probabilities * bins).astype(int), bins - 1)
    size = np.bincount(place, minlength=bins)
    gap = np.bincount(place, weights=probabilities - truth, minlength=bins)
    return float(np.abs(gap[size > 0]).sum() / len(truth))


def counted(truth: BoolArray, fewest: int = FEWEST_POSITIVES) -> NDArray[np.intp]:
    """Columns with enough positives, and at least one negative, to be averaged."""
    positives = truth.sum(axis=0)
    return np.flatnonzero((positives >= fewest) & (positives < len(truth)))


def macro_auc(truth: BoolArray, scores: ScoreArray, fewest: int = FEWEST_POSITIVES) -> float:
    """Mean AUC over the columns that :func:`counted` names; NaN when there is none."""
    columns = counted(truth, fewest)
    if not columns.size:
        return float("nan")
    return float(np.mean([auc(truth[:, column], scores[:, column]) for column in columns]))


def bootstrap_auc(
    truth: BoolArray,
    scores: ScoreArray,
    patients: NDArray[np.intp],
    *,
    seed: int,
    resamplings: int = RESAMPLINGS,
) -> NDArray[np.float64]:
    """AUC of every column in resampled patients (Efron & Tibshirani 1993).

    Whole patients are drawn with replacement, since a patient's studies resemble one another.

    Parameters
    ----------
    patients
        Number of each study's patient, from 0.
    seed
        Of the drawing.

    Returns
    -------
    numpy.ndarray
        Shape (resamplings, labels); NaN where a drawing held one class only.
    """
    generator = np.random.default_rng(seed)
    count = int(patients.max()) + 1
    studies_of = [np.flatnonzero(patients == number) for number in range(count)]
    drawn = np.empty((resamplings, truth.shape[1]))
    for row in range(resamplings):
        chosen = np.concatenate([studies_of[number] for number in generator.integers(0, count, count)])
        for column in range(truth.shape[1]):
            drawn[row, column] = auc(truth[chosen, column], scores[chosen, column])
    return drawn


def mean_known(drawn: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of each drawing over the labels that it could measure; NaN where it could measure none."""
    known = ~np.isnan(drawn)
    total = np.where(known, drawn, 0).sum(axis=1)
    means: NDArray[np.float64] = np.full(len(drawn), np.nan)
    np.divide(total, known.sum(axis=1), out=means, where=known.any(axis=1))
    return means


def interval(values: NDArray[np.float64], level: float = 0.95) -> tuple[float, float]:
    """Percentile interval, ignoring drawings without a value; NaN when more than half are without one."""
    known = values[~np.isnan(values)]
    if 2 * known.size < values.size:
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
