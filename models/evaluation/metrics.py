"""Metrics for rare labels, of one sample or of many resampled ones at once.

Truth tables are bool and scores float, both of shape (studies, labels), or (studies,) for a single label.
All metrics of the order of scores come from a :class:`ThresholdCurve`, so that a metric and its bootstrap
interval are the same computation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.labels.calibration import SIDE_95

BoolArray = NDArray[np.bool_]
ScoreArray = NDArray[np.float32] | NDArray[np.float64]
Values = NDArray[np.float64]

#: Number of times that each study is in each sample, shape (studies, samples).
Weights = NDArray[np.float32]

#: Positives that a label needs in a split to be in the macro averages: with fewer its metric is mostly
#: chance.
FEWEST_POSITIVES = 5

#: Number of bins of the expected calibration error.
BINS = 10

#: Tolerance when two shares are compared: 1 - 0.8 is not 0.2 in binary.
_SLACK = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class ThresholdCurve:
    """Cumulative reports while the threshold falls from above the highest score to the lowest.

    Attributes
    ----------
    positives, negatives
        Shape (steps + 1, samples): true and false reports so far, from 0 to all of them. Equal scores are one
        step, because their order is arbitrary; so are negatives with no positive between them, because no
        metric here changes among those.
    """

    positives: Values
    negatives: Values

    def auc(self) -> Values:
        """Area under the ROC curve, ties counted half; NaN without both classes (Hanley & McNeil 1982)."""
        area = np.asarray(np.trapezoid(self.positives, self.negatives, axis=0))
        return _ratio(area, self.positives[-1] * self.negatives[-1])

    def average_precision(self) -> Values:
        """Area under the precision-recall curve as a step function; NaN without a positive.

        Its baseline, a random order, is the prevalence.
        """
        reported = (self.positives + self.negatives)[1:]
        # A resampling may lack the highest scores; such an empty step contributes 0.
        precision = np.divide(self.positives[1:], reported, out=np.zeros_like(reported), where=reported > 0)
        return _ratio((precision * np.diff(self.positives, axis=0)).sum(axis=0), self.positives[-1])

    def sensitivity_at(self, specificity: float) -> Values:
        """Highest sensitivity among the thresholds of at least that specificity; NaN without both classes."""
        step = (self.negatives <= (1 - specificity) * self.negatives[-1] + _SLACK).sum(axis=0) - 1
        reached = np.take_along_axis(self.positives, step[None], axis=0)[0]
        return np.where(self.negatives[-1] > 0, _ratio(reached, self.positives[-1]), np.nan)

    def specificity_at(self, sensitivity: float) -> Values:
        """Highest specificity among the thresholds of at least that sensitivity; NaN without both classes."""
        step = (self.positives < sensitivity * self.positives[-1] - _SLACK).sum(axis=0)
        false = np.take_along_axis(self.negatives, step[None], axis=0)[0]
        return np.where(self.positives[-1] > 0, 1 - _ratio(false, self.negatives[-1]), np.nan)


def threshold_curve(truth: BoolArray, scores: ScoreArray, weights: Weights | None = None) -> ThresholdCurve:
    """Threshold curve of scores.

    Parameters
    ----------
    truth, scores
        Shape (studies,).
    weights
        Shape (studies, samples): number of times each study is in each sample; None for one sample of all.
    """
    order = np.argsort(-scores, kind="stable")
    hits = truth[order]
    first = _steps(hits, scores[order])
    drawn = np.ones((len(order), 1), np.float32) if weights is None else weights[order]
    steps = np.zeros((2, len(first) + 1, drawn.shape[1]))
    if len(first):
        np.add.reduceat(drawn, first, axis=0, out=steps[0, 1:])
        drawn[~hits] = 0
        np.add.reduceat(drawn, first, axis=0, out=steps[1, 1:])
    reported, positives = steps.cumsum(axis=1)
    return ThresholdCurve(positives, reported - positives)


def _steps(hits: BoolArray, ranked: ScoreArray) -> NDArray[np.intp]:
    """Positions where the steps of a curve begin, for studies in falling order of their scores."""
    if not ranked.size:
        return np.empty(0, np.intp)
    tied = np.append(0, np.cumsum(ranked[1:] != ranked[:-1]))
    some = np.bincount(tied, weights=hits) > 0
    # A tie without a positive joins the tie before, if that has none either.
    begins = np.append(True, some[1:] | some[:-1])
    return np.flatnonzero(np.append(True, np.diff(tied) > 0) & begins[tied])


def auc(truth: BoolArray, scores: ScoreArray) -> float:
    """Area under the ROC curve of one sample, see :meth:`ThresholdCurve.auc`."""
    return float(threshold_curve(truth, scores).auc()[0])


def average_precision(truth: BoolArray, scores: ScoreArray) -> float:
    """Average precision of one sample, see :meth:`ThresholdCurve.average_precision`."""
    return float(threshold_curve(truth, scores).average_precision()[0])


def f1(truth: BoolArray, present: BoolArray) -> float:
    """Harmonic mean of precision and recall; 0 where nothing is both true and reported."""
    reported = int(truth.sum()) + int(present.sum())
    return 2 * int((truth & present).sum()) / reported if reported else 0.0


def f1_resampled(truth: BoolArray, present: BoolArray, weights: Weights) -> Values:
    """F1 of every sample (:func:`f1`), shape (samples,); NaN where a sample has no positive."""
    hits, positives, reported = (
        np.asarray(column.astype(np.float32) @ weights, dtype=np.float64)
        for column in (truth & present, truth, present)
    )
    return np.where(positives > 0, _ratio(2 * hits, positives + reported), np.nan)


@dataclass(frozen=True, slots=True, eq=False)
class Reliability:
    """Reliability of probabilities in bins of equal width; empty bins are left out.

    Attributes
    ----------
    predicted, observed
        Shape (bins,): mean probability, and observed share of positives.
    count
        Shape (bins,): number of studies.
    """

    predicted: Values
    observed: Values
    count: NDArray[np.intp]


def wilson_interval(share: Values, count: NDArray[np.intp]) -> tuple[Values, Values]:
    """95 % interval of proportions, low and high (Wilson 1927); shapes as `share`."""
    squared = SIDE_95**2
    middle = (share + squared / (2 * count)) / (1 + squared / count)
    side = SIDE_95 * np.sqrt(share * (1 - share) / count + squared / (4 * count**2)) / (1 + squared / count)
    return np.maximum(middle - side, 0), np.minimum(middle + side, 1)


def reliability(truth: BoolArray, probabilities: ScoreArray, bins: int = BINS) -> Reliability:
    """Compare probabilities with the observed shares, in bins of [0, 1]."""
    place = np.minimum((probabilities * bins).astype(int), bins - 1)
    count = np.bincount(place, minlength=bins)
    filled = count > 0
    predicted, observed = (
        np.bincount(place, weights=values, minlength=bins)[filled] / count[filled]
        for values in (probabilities, truth)
    )
    return Reliability(predicted, observed, count[filled])


def calibration_error(truth: BoolArray, probabilities: ScoreArray, bins: int = BINS) -> float:
    """Expected calibration error over bins of equal width (Naeini et al. 2015)."""
    found = reliability(truth, probabilities, bins)
    return float((np.abs(found.predicted - found.observed) * found.count).sum() / len(truth))


def brier_score(truth: BoolArray, probabilities: ScoreArray) -> float:
    """Mean squared distance of probability and outcome (Brier 1950).

    Its baseline, always predicting the prevalence p, is p (1 - p).
    """
    return float(np.square(probabilities - truth).mean())


def measurable_columns(truth: BoolArray, fewest: int = FEWEST_POSITIVES) -> NDArray[np.intp]:
    """Columns with enough positives, and at least one negative, to be averaged."""
    positives = truth.sum(axis=0)
    return np.flatnonzero((positives >= fewest) & (positives < len(truth)))


def macro_auc(truth: BoolArray | ScoreArray, scores: ScoreArray, fewest: int = FEWEST_POSITIVES) -> float:
    """Mean AUC over the columns that can be measured; NaN when there is none.

    Parameters
    ----------
    truth
        Shape (studies, labels): 0, 1, or NaN where a study's label is unknown; such a study does not count.
    scores
        The same shape.
    fewest
        Positives that a column must have, see :func:`measurable_columns`.
    """
    areas = []
    for there, score in zip(truth.T, scores.T, strict=True):
        known = ~np.isnan(there)
        positive = there[known] > 0
        if measurable_columns(positive[:, None], fewest).size:
            areas.append(auc(positive, score[known]))
    return float(np.mean(areas)) if areas else float("nan")


def _ratio(part: Values, whole: Values) -> Values:
    out: Values = np.full(whole.shape, np.nan)
    np.divide(part, whole, out=out, where=whole > 0)
    return out
