"""Figures of merit against values worked out by hand, and the bootstrap."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

from models.evaluation import bootstrap, metrics
from models.evaluation.metrics import ThresholdCurve, threshold_curve

# Falling scores:           0.9    0.8   0.7   0.6    0.5   0.4    0.3    0.2
TRUTH = np.array([True, True, False, True, False, False, False, False])
SCORES = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2])


def test_the_curve_counts_true_and_false_reports():
    found = threshold_curve(TRUTH, SCORES)
    # The four negatives at the end are one step: no positive is among them.
    assert found.positives[:, 0].tolist() == [0, 1, 2, 2, 3, 3]
    assert found.negatives[:, 0].tolist() == [0, 0, 0, 1, 1, 5]


def test_areas_worked_out_by_hand():
    # Of 15 pairs one is the wrong way round; precision at the hits is 1, 1 and 3/4.
    assert metrics.auc(TRUTH, SCORES) == pytest.approx(14 / 15)
    assert metrics.average_precision(TRUTH, SCORES) == pytest.approx((1 + 1 + 3 / 4) / 3)


def test_the_mean_area_is_over_the_studies_whose_label_is_known():
    truth = np.column_stack([TRUTH, TRUTH, np.full(8, np.nan), np.ones(8)]).astype(float)
    truth[2, 1] = np.nan  # the negative that stands wrong
    scores = np.column_stack([SCORES] * 4)
    assert metrics.macro_auc(truth, scores, fewest=1) == pytest.approx((14 / 15 + 1) / 2)
    assert math.isnan(metrics.macro_auc(truth[:, 2:], scores[:, 2:], fewest=1))


def test_equal_scores_are_one_step():
    assert metrics.auc(TRUTH, np.full(8, 0.3)) == 0.5
    assert metrics.average_precision(TRUTH, np.full(8, 0.3)) == 3 / 8
    assert threshold_curve(TRUTH, np.full(8, 0.3)).positives.tolist() == [[0], [3]]


@pytest.mark.parametrize(
    ("specificity", "sensitivity"),
    [(1.0, 2 / 3), (0.9, 2 / 3), (0.8, 1.0), (0.0, 1.0)],
)
def test_sensitivity_at_a_specificity_is_that_of_a_threshold_that_exists(specificity, sensitivity):
    # One false report of five leaves a specificity of 0.8, exactly enough.
    assert threshold_curve(TRUTH, SCORES).sensitivity_at(specificity)[0] == pytest.approx(sensitivity)


@pytest.mark.parametrize(("sensitivity", "specificity"), [(0.5, 1.0), (2 / 3, 1.0), (0.8, 0.8), (1.0, 0.8)])
def test_specificity_at_a_sensitivity(sensitivity, specificity):
    assert threshold_curve(TRUTH, SCORES).specificity_at(sensitivity)[0] == pytest.approx(specificity)


@pytest.mark.parametrize("truth", [np.zeros(8, bool), np.ones(8, bool)])
def test_one_class_alone_has_neither_area_nor_operating_point(truth):
    found = threshold_curve(truth, SCORES)
    assert math.isnan(found.auc()[0])
    assert math.isnan(found.sensitivity_at(0.8)[0])
    assert math.isnan(found.specificity_at(0.8)[0])
    assert math.isnan(found.average_precision()[0]) == (not truth.any())


def test_nothing_has_no_figure():
    nothing = np.zeros(0, bool), np.zeros(0)
    assert math.isnan(metrics.auc(*nothing))
    assert math.isnan(metrics.average_precision(*nothing))
    assert metrics.f1(nothing[0], nothing[0]) == 0


def test_f1_worked_out_by_hand():
    # Two of three found, one false: precision 2/3, recall 2/3.
    assert metrics.f1(TRUTH, SCORES > 0.65) == pytest.approx(2 / 3)
    assert metrics.f1(TRUTH, np.zeros(8, bool)) == 0


def test_brier_and_calibration_error_worked_out_by_hand():
    truth = np.array([True, False, True, False])
    probabilities = np.array([0.9, 0.1, 0.6, 0.6])
    assert metrics.brier_score(truth, probabilities) == pytest.approx((0.01 + 0.01 + 0.16 + 0.36) / 4)
    assert metrics.brier_score(truth, np.full(4, 0.5)) == 0.25
    # Bins at 0.1 (one, observed 0), 0.6 (two, observed 1/2), 0.9 (one, observed 1).
    assert metrics.calibration_error(truth, probabilities) == pytest.approx((0.1 + 2 * 0.1 + 0.1) / 4)
    found = metrics.reliability(truth, probabilities)
    np.testing.assert_allclose(found.predicted, [0.1, 0.6, 0.9])
    np.testing.assert_allclose(found.observed, [0, 0.5, 1])
    assert found.count.tolist() == [1, 2, 1]


def test_weights_count_like_copies():
    weights = np.array([[2, 0, 1, 3, 0, 1, 1, 4], [0, 1, 0, 0, 2, 0, 0, 0]], dtype=np.float32).T
    drawn = bootstrap.resample_metrics(TRUTH, SCORES, SCORES > 0.65, weights)
    for row, counts in enumerate(weights.T.astype(int)):
        truth, scores = np.repeat(TRUTH, counts), np.repeat(SCORES, counts)
        assert drawn.auc[row] == pytest.approx(metrics.auc(truth, scores))
        assert drawn.ap[row] == pytest.approx(metrics.average_precision(truth, scores))
        assert drawn.f1[row] == pytest.approx(metrics.f1(truth, scores > 0.65))


def test_a_drawing_without_a_positive_has_no_figure():
    weights = np.array([[0, 0, 1, 0, 1, 1, 1, 1]], dtype=np.float32).T
    drawn = bootstrap.resample_metrics(TRUTH, SCORES, SCORES > 0.65, weights)
    assert np.isnan([drawn.auc[0], drawn.ap[0], drawn.f1[0]]).all()


def test_the_bootstrap_draws_patients_not_studies():
    # Ten patients of twenty equal studies each know no more than ten studies.
    truth, scores = np.array([True, False] * 5), np.linspace(0, 1, 10)[::-1] % 0.7
    few = bootstrap.resampling_weights(np.arange(10), seed=2, resamplings=300)
    many = bootstrap.resampling_weights(np.repeat(np.arange(10), 20), seed=2, resamplings=300)
    assert (few.sum(axis=0) == 10).all()
    np.testing.assert_allclose(
        bootstrap.resample_curve(truth, scores, few, ThresholdCurve.auc)[0],
        bootstrap.resample_curve(np.repeat(truth, 20), np.repeat(scores, 20), many, ThresholdCurve.auc)[0],
    )


def test_the_bootstrap_draws_the_same_again():
    first, second = (bootstrap.resampling_weights(np.arange(30), resamplings=20) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, bootstrap.resampling_weights(np.arange(30), seed=1, resamplings=20))


def test_the_interval_holds_the_figure_and_narrows_with_more_patients():
    random = np.random.default_rng(0)
    widths = []
    for count in (60, 600):
        truth = np.arange(count) % 3 == 0
        scores = random.normal(0, 1, count) + truth
        weights = bootstrap.resampling_weights(np.arange(count), resamplings=200)
        low, high = bootstrap.percentile_interval(
            bootstrap.resample_curve(truth, scores, weights, ThresholdCurve.auc)[0]
        )
        assert low < metrics.auc(truth, scores) < high
        widths.append(high - low)
    assert widths[1] < widths[0] / 2


def test_a_drawing_without_any_label_has_no_mean():
    found = bootstrap.mean_ignoring_nan(np.array([[0.5, np.nan], [np.nan, np.nan], [0.4, 0.8]]))
    np.testing.assert_allclose(found, [0.5, np.nan, 0.6])


@pytest.mark.parametrize("values", [[np.nan, np.nan, 0.5], []])
def test_a_figure_that_most_drawings_miss_has_no_interval(values):
    assert all(np.isnan(bootstrap.percentile_interval(np.array(values))))


def test_large_samples_are_worked_on_in_blocks(monkeypatch):
    weights = bootstrap.resampling_weights(np.arange(8), resamplings=40)
    whole = bootstrap.resample_metrics(TRUTH, SCORES, SCORES > 0.65, weights)
    monkeypatch.setattr(bootstrap, "_BLOCK", 50)
    parts = bootstrap.resample_metrics(TRUTH, SCORES, SCORES > 0.65, weights)
    np.testing.assert_array_equal(whole.auc, parts.auc)
    np.testing.assert_array_equal(whole.ap, parts.ap)


def test_35_labels_and_1000_drawings_take_seconds():
    random = np.random.default_rng(1)
    weights = bootstrap.resampling_weights(np.arange(517))
    assert weights.shape == (517, 1000)
    started = time.process_time()
    for _ in range(35):
        truth = random.random(517) < 0.1
        scores = random.random(517)
        bootstrap.resample_metrics(truth, scores, scores > 0.5, weights)
    assert time.process_time() - started < 5
