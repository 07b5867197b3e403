"""The figures of merit are scikit-learn's, ties and all."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from models.calibration import best_threshold
from models.evaluation import metrics


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
