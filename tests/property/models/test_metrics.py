"""The figures of merit are scikit-learn's, ties and all."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    average_precision_score,
    brier_score_loss,
    f1_score,
    roc_auc_score,
    roc_curve,
)

from models.evaluation import metrics
from models.evaluation.bootstrap import resample_metrics, resampling_weights
from models.labels.calibration import best_threshold


@st.composite
def samples(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Truths of both classes, and scores with many ties."""
    truth = draw(st.lists(st.booleans(), min_size=2, max_size=60).filter(lambda t: 0 < sum(t) < len(t)))
    steps = draw(st.integers(1, 40))
    scores = draw(st.lists(st.integers(0, steps), min_size=len(truth), max_size=len(truth)))
    return np.array(truth), np.array(scores, dtype=np.float64) / steps


@settings(deadline=None)
@given(samples())
def test_auc(sample):
    assert metrics.auc(*sample) == pytest.approx(roc_auc_score(*sample))


@settings(deadline=None)
@given(samples())
def test_average_precision(sample):
    assert metrics.average_precision(*sample) == pytest.approx(average_precision_score(*sample))


@settings(deadline=None)
@given(samples(), st.floats(0, 1))
def test_f1(sample, threshold):
    truth, scores = sample
    present = scores >= threshold
    assert metrics.f1(truth, present) == pytest.approx(f1_score(truth, present, zero_division=0))


@settings(deadline=None)
@given(samples())
def test_no_threshold_has_a_higher_f1_than_the_one_that_is_chosen(sample):
    truth, scores = sample
    chosen = metrics.f1(truth, scores >= best_threshold(truth, scores))
    best = max(metrics.f1(truth, scores >= value) for value in np.unique(scores))
    assert chosen == pytest.approx(best)


@settings(deadline=None)
@given(samples())
def test_the_calibration_error_is_within_0_and_1_and_0_for_the_truth_itself(sample):
    truth, scores = sample
    assert 0 <= metrics.calibration_error(truth, scores) <= 1
    assert metrics.calibration_error(truth, truth.astype(np.float64)) == 0


@settings(deadline=None)
@given(samples(), st.one_of(st.just(0.0), st.floats(1e-6, 1)))  # farther from 0 than the tolerance
def test_operating_points(sample, wanted):
    false, true, _ = roc_curve(*sample, drop_intermediate=False)
    curve = metrics.threshold_curve(*sample)
    assert curve.sensitivity_at(wanted)[0] == pytest.approx(true[1 - false >= wanted - 1e-9].max())
    assert curve.specificity_at(wanted)[0] == pytest.approx((1 - false[true >= wanted - 1e-9]).max())


@settings(deadline=None)
@given(samples())
def test_brier(sample):
    assert metrics.brier_score(*sample) == pytest.approx(brier_score_loss(*sample))


@settings(deadline=None)
@given(samples(), st.integers(0, 1000))
def test_what_is_drawn_is_what_the_copies_would_give(sample, seed):
    truth, scores = sample
    weights = resampling_weights(np.arange(len(truth)), seed=seed, resamplings=3)
    drawn = resample_metrics(truth, scores, scores >= 0.5, weights)
    for column, counts in enumerate(weights.T.astype(int)):
        copies = np.repeat(truth, counts), np.repeat(scores, counts)
        if copies[0].all() or not copies[0].any():
            assert np.isnan(drawn.auc[column])
        else:
            assert drawn.auc[column] == pytest.approx(roc_auc_score(*copies))
            assert drawn.ap[column] == pytest.approx(average_precision_score(*copies))
            assert drawn.f1[column] == pytest.approx(f1_score(copies[0], copies[1] >= 0.5))
