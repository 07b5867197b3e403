"""From a score to a probability, label by label, and the threshold above which a finding is reported.

A score is never called a probability by itself: a label without enough positives to calibrate on stays
uncalibrated, and says so.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, NamedTuple, TypeAlias, get_args

import numpy as np

from models.errors import BundleError
from models.processing.types import FloatArray

Method = Literal["platt", "none"]

#: Fewer positives than this cannot place a curve.
FEWEST_POSITIVES = 5

#: Scores are kept this far from 0 and 1 before their logit is taken.
_EDGE = 1e-6

#: Strength of the pull of the slope towards 1 and of its prior, in units of one observation's information.
_PRIOR = 1.0

#: Newton steps smaller than this have arrived.
_CONVERGED = 1e-9
_LEAST_SLOPE = 0.05

#: Standard deviations on either side that hold 95 % of a normal distribution.
SIDE_95 = 1.959964

#: Variance of a slope, covariance with its intercept, variance of the intercept.
Covariance: TypeAlias = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class LabelCalibration:
    """One label's curve and threshold.

    Attributes
    ----------
    method
        ``platt``: probability = sigmoid(slope * logit(score) + intercept). ``none``: there is no probability.
    slope, intercept
        Parameters of the curve; 1 and 0, without meaning, when the method is ``none``.
    threshold
        Reported when reached; on the scale of the probability when there is one, else of the score.
    n_positive
        Positive studies that it was fitted to.
    covariance
        Uncertainty of the fitted slope and intercept; None where there is no curve, or it was not recorded.

    Raises
    ------
    ValueError
        If a number is not finite, the curve falls or is the identity, the threshold is outside (0, 1], or the
        covariance is none.
    """

    method: Method
    slope: float
    intercept: float
    threshold: float
    n_positive: int
    covariance: Covariance | None = None

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            raise ValueError(f"calibration method {self.method!r} is none of {', '.join(get_args(Method))}")
        if not all(math.isfinite(value) for value in (self.slope, self.intercept, self.threshold)):
            raise ValueError("a calibration holds a number that is not finite")
        if self.slope <= 0:
            raise ValueError(f"calibration slope {self.slope} would turn the order of the scores round")
        if self.method == "platt" and (self.slope, self.intercept) == (1.0, 0.0):
            raise ValueError("the identity is no calibration: a score may not pass as a probability")
        if not 0 < self.threshold <= 1:
            raise ValueError(f"threshold {self.threshold} is not within (0, 1]")
        if self.covariance is not None:
            slope, both, intercept = self.covariance
            if not (slope >= 0 and intercept >= 0 and both * both <= slope * intercept * (1 + _EDGE)):
                raise ValueError(f"{self.covariance} is no covariance of two numbers")

    def probability(self, score: float) -> float | None:
        """Calibrated probability of a score; None without a calibration."""
        if self.method == "none":
            return None
        return float(_sigmoid(self.slope * _logit(np.float64(score)) + self.intercept))

    def interval(self, score: float) -> tuple[float, float] | None:
        """Confidence interval (95 %) of the calibrated probability of a score, given the data of the fit.

        By the delta method: the logit is a weighted sum of slope and intercept, so its variance follows from
        theirs. It speaks of the curve alone, which few positives place badly; it knows nothing of films that
        are unlike those of the calibration.

        Returns
        -------
        tuple of float, or None
            Low and high in [0, 1], around :meth:`probability`; None without a covariance.
        """
        if self.covariance is None:
            return None
        x = float(_logit(np.float64(score)))
        slope, both, intercept = self.covariance
        side = SIDE_95 * math.sqrt(max(x * x * slope + 2 * x * both + intercept, 0.0))
        middle = self.slope * x + self.intercept
        low, high = _sigmoid(np.array([middle - side, middle + side]))
        return float(low), float(high)

    def score(self, probability: float) -> float:
        """Score that a calibrated probability came from: the inverse of :meth:`probability`.

        Raises
        ------
        ValueError
            If the label has no calibration.
        """
        if self.method == "none":
            raise ValueError("a label without a calibration has no probability to go back from")
        return float(_sigmoid((_logit(np.float64(probability)) - self.intercept) / self.slope))

    def present(self, score: float) -> bool:
        """Return True if a score reaches the threshold and is reported."""
        probability = self.probability(score)
        return (score if probability is None else probability) >= self.threshold


_UNFITTED: Final = LabelCalibration("none", 1.0, 0.0, 0.5, 0)


@dataclass(frozen=True, slots=True)
class Calibration:
    """Calibration of all labels of a bundle.

    Attributes
    ----------
    dataset, split, n_studies
        Data set, split and number of studies of the fit.
    labels
        By key, in the bundle's order.
    """

    dataset: str
    split: str
    n_studies: int
    labels: Mapping[str, LabelCalibration]

    def dump(self) -> str:
        """As the text of ``calibration.json``."""
        table = {
            "dataset": self.dataset,
            "split": self.split,
            "n_studies": self.n_studies,
            "labels": {key: asdict(label) for key, label in self.labels.items()},
        }
        return json.dumps(table, indent=2) + "\n"

    def digest(self) -> str:
        """Short hash of all of it."""
        return hashlib.sha256(self.dump().encode()).hexdigest()[:16]


def parse_calibration(text: str, keys: Sequence[str]) -> Calibration:
    """Read what :meth:`Calibration.dump` wrote.

    Parameters
    ----------
    keys
        Keys of the bundle; exactly these must be calibrated, in any order.

    Raises
    ------
    BundleError
        If an entry is missing, unknown or of another type.
    """
    try:
        table: dict[str, Any] = json.loads(text)
        labels = table.pop("labels")
        if set(labels) != set(keys):
            odd = ", ".join(sorted(set(labels) ^ set(keys)))
            raise BundleError(f"calibration.json and labels.toml differ in {odd}")
        return Calibration(labels={key: _read_label(labels[key]) for key in keys}, **table)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BundleError(f"calibration.json is no calibration: {error}") from error


def _read_label(entry: dict[str, Any]) -> LabelCalibration:
    covariance = entry.pop("covariance", None)
    return LabelCalibration(**entry, covariance=None if covariance is None else tuple(covariance))


def uncalibrated(keys: Sequence[str], dataset: str = "") -> Calibration:
    """Calibration of a bundle that has none yet: no probabilities, thresholds of 0.5."""
    return Calibration(dataset, "val", 0, dict.fromkeys(keys, _UNFITTED))


def calibrate(
    keys: Sequence[str],
    truth: np.ndarray,
    scores: FloatArray,
    *,
    dataset: str,
    split: str,
    known: np.ndarray | None = None,
) -> Calibration:
    """Fit every label.

    Parameters
    ----------
    truth
        Shape (studies, keys), bool.
    scores
        Shape (studies, keys), study-level scores in [0, 1].
    known
        Shape (studies, keys), bool: True where `truth` is known; None for everywhere. A label that is
        known of no study keeps a threshold of 0.5.
    """
    there = np.ones(truth.shape, bool) if known is None else known
    return Calibration(
        dataset=dataset,
        split=split,
        n_studies=len(truth),
        labels={
            key: _calibrate_label(truth[rows, column], scores[rows, column].astype(np.float64))
            if (rows := there[:, column]).any()
            else _UNFITTED
            for column, key in enumerate(keys)
        },
    )


def _calibrate_label(truth: np.ndarray, scores: np.ndarray) -> LabelCalibration:
    positives = int(truth.sum())
    if min(positives, len(truth) - positives) < FEWEST_POSITIVES:
        # Too few to say how probable it is; enough to say about how often it may be reported.
        shift = _shift_to(scores, (positives + 1) / (len(truth) + 2))
        guess = expected_threshold(_sigmoid(_logit(scores) + shift))
        threshold = float(_sigmoid(_logit(np.float64(guess)) - shift))
        return LabelCalibration("none", 1.0, 0.0, float(np.clip(threshold, _EDGE, 1)), positives)
    curve = fit_platt(truth, scores)
    probabilities = _sigmoid(curve.slope * _logit(scores) + curve.intercept)
    # What was best on a dozen positives is mostly chance, what the curve expects knows nothing of its own
    # faults: their geometric mean is better than either on studies that neither has seen.
    threshold = math.sqrt(best_threshold(truth, probabilities) * expected_threshold(probabilities))
    return LabelCalibration("platt", curve.slope, curve.intercept, threshold, positives, curve.covariance)


def _shift_to(scores: np.ndarray, prevalence: float) -> float:
    """Offset of the logits with which the mean of their sigmoids equals a prevalence, by bisection."""
    low, high = -30.0, 30.0
    while high - low > _CONVERGED:
        middle = (low + high) / 2
        low, high = (low, middle) if _sigmoid(_logit(scores) + middle).mean() > prevalence else (middle, high)
    return (low + high) / 2


class PlattCurve(NamedTuple):
    """A fitted curve: probability = sigmoid(slope * logit(score) + intercept)."""

    slope: float
    intercept: float
    covariance: Covariance


def fit_platt(truth: np.ndarray, scores: np.ndarray) -> PlattCurve:
    """Platt's curve over logit(score), by Newton's method; its covariance is the inverse of the information.

    The targets are smoothed as Platt (1999) proposed, and a normal prior holds the slope near 1, so that a
    dozen positives do not bend the curve. The slope is kept positive: the order of the scores is the model's.

    Parameters
    ----------
    truth, scores
        Shape (studies,); both classes must be there.
    """
    x = _logit(scores)
    positives = int(truth.sum())
    target = np.where(truth, (positives + 1) / (positives + 2), 1 / (len(truth) - positives + 2))
    slope, intercept = 1.0, 0.0
    hessian = np.eye(2)
    for _ in range(100):
        p = _sigmoid(slope * x + intercept)
        weight = p * (1 - p) + 1e-9
        gradient = np.array([((p - target) * x).sum() + _PRIOR * (slope - 1), (p - target).sum()])
        hessian = np.array(
            [[(weight * x * x).sum() + _PRIOR, (weight * x).sum()], [(weight * x).sum(), weight.sum()]]
        )
        # Half a unit at most, because a full Newton step can leap over the minimum of a skewed label.
        step = np.clip(np.linalg.solve(hessian, gradient), -0.5, 0.5)
        slope, intercept = slope - float(step[0]), intercept - float(step[1])
        if float(np.abs(step).max()) < _CONVERGED:
            break
    if slope < _LEAST_SLOPE:
        return _level_curve(x, target)
    inverse = np.linalg.inv(hessian)
    covariance = (float(inverse[0, 0]), float(inverse[0, 1]), float(inverse[1, 1]))
    return PlattCurve(slope, intercept, covariance)


def _level_curve(x: FloatArray, target: FloatArray) -> PlattCurve:
    """Curve of scores that say nothing, or the contrary: all but level, at the prevalence of the label."""
    intercept = 0.0
    for _ in range(100):
        p = _sigmoid(_LEAST_SLOPE * x + intercept)
        weight = float((p * (1 - p)).sum()) + 1e-9
        step = float(np.clip((p - target).sum() / weight, -0.5, 0.5))
        intercept -= step
        if abs(step) < _CONVERGED:
            break
    return PlattCurve(_LEAST_SLOPE, intercept, (0.0, 0.0, 1 / weight))


def best_threshold(truth: np.ndarray, values: np.ndarray) -> float:
    """Threshold of the highest F1, midway between two values; the highest of equally good ones.

    Parameters
    ----------
    truth, values
        Shape (studies,); at least one positive.
    """
    order = np.argsort(-values, kind="stable")
    ranked, hits = values[order], np.cumsum(truth[order])
    flagged = np.arange(1, len(values) + 1)
    f1 = 2 * hits / (flagged + truth.sum())
    # Equal values are reported together or not at all.
    last = np.append(ranked[1:] != ranked[:-1], True)
    best = int(np.argmax(np.where(last, f1, -1)))
    following = ranked[best + 1] if best + 1 < len(ranked) else 0.0
    return float((ranked[best] + following) / 2)


def expected_threshold(probabilities: np.ndarray) -> float:
    """Threshold of the highest F1 that probabilities lead to expect, midway between two of them.

    A finding is expected in as many of the reported studies as their probabilities sum to (Lipton et al.
    2014).

    Parameters
    ----------
    probabilities
        Shape (studies,), in (0, 1).
    """
    ranked = np.sort(probabilities)[::-1]
    expected = 2 * np.cumsum(ranked) / (np.arange(1, len(ranked) + 1) + ranked.sum())
    best = int(np.argmax(expected))
    following = ranked[best + 1] if best + 1 < len(ranked) else 0.0
    return float((ranked[best] + following) / 2)


def _logit(scores: np.ndarray | np.float64) -> np.ndarray:
    clipped = np.clip(scores, _EDGE, 1 - _EDGE)
    return np.asarray(np.log(clipped / (1 - clipped)))


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-x)))
