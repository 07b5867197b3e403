"""Sensitivity, specificity and ROC AUC, beside scikit-learn, statsmodels and the definitions."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from statsmodels.stats.proportion import proportion_confint

from dicom_node.web.reader_studies.accuracy import Estimate, auc_contrast, proportion


@pytest.mark.parametrize(("hits", "n"), [(0, 1), (1, 1), (0, 20), (7, 20), (20, 20), (999, 1000)])
def test_a_proportion_is_that_of_statsmodels(hits: int, n: int) -> None:
    found = proportion(hits, n)
    low, high = proportion_confint(hits, n, method="wilson")
    assert (found.value, found.low, found.high) == pytest.approx((hits / n, low, high), abs=1e-12)
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.n == n


def test_a_proportion_of_nothing_is_not_defined() -> None:
    assert proportion(0, 0) == Estimate(None, None, None, 0)


@pytest.fixture
def drawn() -> tuple[np.ndarray, np.ndarray]:
    """Ratings of three readers with many ties, shape (3, 60), and the reference."""
    random = np.random.default_rng(5)
    reference = random.random(60) < 0.4
    ratings = np.round(random.normal(size=(3, 60)) + 1.2 * reference)
    return ratings, reference


def kernel(a: float, b: float) -> float:
    return 1.0 if a > b else 0.5 if a == b else 0.0


def delong_covariance(ratings: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Covariance of AUCs as equation 4 to 7 of DeLong 1988 write it, with loops."""
    positives, negatives = ratings[:, reference], ratings[:, ~reference]
    m, n = positives.shape[1], negatives.shape[1]
    v10 = [
        [sum(kernel(x, y) for y in neg) / n for x in pos]
        for pos, neg in zip(positives, negatives, strict=True)
    ]
    v01 = [
        [sum(kernel(x, y) for x in pos) / m for y in neg]
        for pos, neg in zip(positives, negatives, strict=True)
    ]
    areas = [sum(each) / m for each in v10]
    found = np.empty((len(ratings),) * 2)
    for r, s in itertools.product(range(len(ratings)), repeat=2):
        s10 = sum((v10[r][i] - areas[r]) * (v10[s][i] - areas[s]) for i in range(m)) / (m - 1)
        s01 = sum((v01[r][j] - areas[r]) * (v01[s][j] - areas[s]) for j in range(n)) / (n - 1)
        found[r, s] = s10 / m + s01 / n
    return found


@pytest.mark.parametrize("weights", [[1, 0, 0], [0, 1, -1], [1 / 3] * 3, [0.5, 0.5, -1]])
def test_a_contrast_of_aucs_is_that_of_scikit_learn_and_delong(
    drawn: tuple[np.ndarray, np.ndarray], weights: list[float]
) -> None:
    ratings, reference = drawn
    found = auc_contrast(ratings.tolist(), reference.tolist(), weights)
    w = np.array(weights)
    value = w @ [roc_auc_score(reference, each) for each in ratings]
    half = 1.959963984540054 * math.sqrt(w @ delong_covariance(ratings, reference) @ w)
    assert (found.value, found.low, found.high) == pytest.approx((value, value - half, value + half))
    assert found.n == 60


def test_an_interval_of_delong_covers_as_often_as_it_says() -> None:
    random = np.random.default_rng(11)
    truth = 0.5 * math.erfc(-1 / 2)  # of two normal distributions one standard deviation apart
    reference = [True] * 40 + [False] * 60
    hit = 0
    for _ in range(400):
        ratings = random.normal(size=100) + np.array(reference)
        found = auc_contrast([ratings.tolist()], reference, [1.0])
        hit += found.low <= truth <= found.high
    assert 0.92 <= hit / 400 <= 0.98


def test_what_has_no_variance_has_no_interval() -> None:
    assert auc_contrast([[1, 2, 3, 4]], [False, False, True, True], [1.0]) == Estimate(1.0, None, None, 4)
    assert auc_contrast([[1, 2, 3]], [True, False, False], [1.0]) == Estimate(0.0, None, None, 3)
    same = [[1, 4, 2, 3, 1, 2]] * 2
    assert auc_contrast(same, [True, True, True, False, False, False], [1.0, -1.0]).low is None


def test_without_both_kinds_of_cases_there_is_no_auc() -> None:
    assert auc_contrast([[1, 2]], [True, True], [1.0]) == Estimate(None, None, None, 2)
    assert auc_contrast([[]], [], [1.0]) == Estimate(None, None, None, 0)
