"""Calibration beside computations by hand and by SciPy: curve, covariance, thresholds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize

from models.labels import calibration
from models.labels.calibration import (
    FEWEST_POSITIVES,
    LabelCalibration,
    best_threshold,
    calibrate,
    expected_threshold,
    fit_platt,
)
from tests.support.prediction_samples import calibration_sample

ROWS = st.lists(
    st.tuples(st.booleans(), st.sampled_from((0.05, 0.2, 0.3, 0.55, 0.7, 0.9))), min_size=1, max_size=12
).filter(lambda rows: any(truth for truth, _ in rows))


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def logit(p: np.ndarray) -> np.ndarray:
    return np.log(p / (1 - p))


def calibrated(truth: np.ndarray, scores: np.ndarray) -> LabelCalibration:
    found = calibrate(("nodule",), truth[:, None], scores[:, None], dataset="drawn", split="val")
    return found.labels["nodule"]


@given(ROWS)
def test_the_best_threshold_is_that_of_a_search_through_all(rows: list[tuple[bool, float]]) -> None:
    truth, values = (np.array(each) for each in zip(*rows, strict=True))
    distinct = sorted(set(values), reverse=True)
    found = []
    for place, (value, following) in enumerate(zip(distinct, [*distinct[1:], 0.0], strict=True)):
        said = values >= value
        f1 = 2 * (said & truth).sum() / (said.sum() + truth.sum())
        found.append((f1, -place, (value + following) / 2))
    assert best_threshold(truth, values) == max(found)[2]


@given(st.lists(st.floats(0.01, 0.99), min_size=1, max_size=12))
def test_the_expected_threshold_is_that_of_a_search_through_all(values: list[float]) -> None:
    ranked = sorted(values, reverse=True)
    expected = [2 * sum(ranked[:n]) / (n + sum(ranked)) for n in range(1, len(ranked) + 1)]
    best = max(range(len(ranked)), key=lambda place: (round(expected[place], 12), -place))
    following = ranked[best + 1] if best + 1 < len(ranked) else 0.0
    found = expected_threshold(np.array(values))
    # Of two that are equal but for rounding, either may come out.
    chosen = next(
        place
        for place in range(len(ranked))
        if math.isclose(found, (ranked[place] + [*ranked, 0.0][place + 1]) / 2, abs_tol=1e-12)
    )
    assert expected[chosen] == pytest.approx(expected[best], abs=1e-9)
    assert found <= (ranked[best] + following) / 2 + 1e-9 or expected[chosen] == pytest.approx(max(expected))


@pytest.mark.parametrize(
    ("n", "slope", "intercept", "seed"), [(60, 1.0, 0.0, 1), (400, 0.4, -2.0, 2), (300, 2.5, 1.5, 3)]
)
def test_the_curve_is_the_minimum_that_scipy_finds(n: int, slope: float, intercept: float, seed: int) -> None:
    truth, scores = calibration_sample(n, slope, intercept, seed)
    x, positives = logit(np.asarray(scores, np.float64)), truth.sum()
    target = np.where(truth, (positives + 1) / (positives + 2), 1 / (n - positives + 2))

    def loss(curve: np.ndarray) -> float:
        z = curve[0] * x + curve[1]
        return float((np.logaddexp(0, z) - target * z).sum() + calibration._PRIOR / 2 * (curve[0] - 1) ** 2)

    best = optimize.minimize(loss, [1.0, 0.0], method="BFGS", options={"gtol": 1e-9}).x
    found = fit_platt(truth, np.asarray(scores, np.float64))
    assert found[:2] == pytest.approx(tuple(best), abs=1e-4)
    p = sigmoid(best[0] * x + best[1])
    weight = p * (1 - p)
    information = np.array(
        [
            [(weight * x * x).sum() + calibration._PRIOR, (weight * x).sum()],
            [(weight * x).sum(), weight.sum()],
        ]
    )
    inverse = np.linalg.inv(information)
    assert found.covariance == pytest.approx((inverse[0, 0], inverse[0, 1], inverse[1, 1]), rel=1e-3)


@pytest.mark.parametrize("positives", [FEWEST_POSITIVES, 40 - FEWEST_POSITIVES])
def test_five_of_either_kind_are_enough_for_a_curve(positives: int) -> None:
    scores = np.linspace(0.05, 0.95, 40)
    truth = np.arange(40) >= 40 - positives
    label = calibrated(truth, scores)
    assert (label.method, label.n_positive) == ("platt", positives)
    curve = fit_platt(truth, scores)
    assert (label.slope, label.intercept, label.covariance) == tuple(curve)
    probabilities = sigmoid(curve.slope * logit(scores) + curve.intercept)
    wanted = math.sqrt(best_threshold(truth, probabilities) * expected_threshold(probabilities))
    assert label.threshold == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("positives", [0, 1, FEWEST_POSITIVES - 1, 41 - FEWEST_POSITIVES, 40])
def test_fewer_have_the_threshold_that_their_prevalence_leads_to_expect(positives: int) -> None:
    scores = np.linspace(0.05, 0.95, 40)
    truth = np.arange(40) >= 40 - positives
    label = calibrated(truth, scores)
    assert (label.method, label.slope, label.intercept) == ("none", 1.0, 0.0)
    assert (label.n_positive, label.covariance) == (positives, None)
    prevalence = (positives + 1) / 42
    shift = optimize.brentq(lambda by: sigmoid(logit(scores) + by).mean() - prevalence, -30, 30, xtol=1e-12)
    guess = np.float64(expected_threshold(sigmoid(logit(scores) + shift)))
    assert label.threshold == pytest.approx(float(sigmoid(logit(guess) - shift)), abs=1e-6)


def test_a_threshold_stays_within_its_range() -> None:
    scores = np.full((30, 1), 1e-9)
    (label,) = calibrate(
        ("nodule",), np.zeros((30, 1), bool), scores, dataset="drawn", split="val"
    ).labels.values()
    assert 0 < label.threshold <= 1


def test_only_studies_of_which_a_label_is_known_count() -> None:
    truth, scores = calibration_sample(200, 1.0, -0.5)
    known = np.arange(200) % 3 > 0
    both = np.stack((truth, truth), axis=1)
    seen = np.stack((known, np.zeros(200, bool)), axis=1)
    found = calibrate(
        ("nodule", "mass"), both, np.stack((scores, scores), axis=1), dataset="drawn", split="val", known=seen
    )
    alone = calibrate(("nodule",), truth[known, None], scores[known, None], dataset="drawn", split="val")
    assert found.labels["nodule"] == alone.labels["nodule"]
    assert (found.labels["mass"].method, found.labels["mass"].threshold) == ("none", 0.5)
    assert (found.dataset, found.split, found.n_studies) == ("drawn", "val", 200)
