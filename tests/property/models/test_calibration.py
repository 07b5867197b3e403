"""A probability leads back to its score, for any curve."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.labels.calibration import LabelCalibration


@given(
    score=st.floats(1e-4, 1 - 1e-4),
    slope=st.floats(0.1, 4),
    intercept=st.floats(-3, 3).filter(lambda value: abs(value) > 1e-3),
)
def test_a_probability_leads_back_to_its_score(score: float, slope: float, intercept: float) -> None:
    calibration = LabelCalibration("platt", slope, intercept, 0.5, 9)
    probability = calibration.probability(score)
    assert probability is not None
    if 1e-6 < probability < 1 - 1e-6:  # beyond, the curve is cut off
        assert calibration.score(probability) == pytest.approx(score, abs=1e-6)


@given(
    scores=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    curve=st.tuples(st.floats(0.1, 4), st.floats(0.01, 3)),
    spread=st.tuples(st.floats(0, 4), st.floats(-1, 1), st.floats(0, 4)),
)
def test_an_interval_holds_its_probability_and_stays_one(
    scores: tuple[float, float], curve: tuple[float, float], spread: tuple[float, float, float]
) -> None:
    slope, correlation, intercept = spread
    covariance = (slope, correlation * (slope * intercept) ** 0.5, intercept)
    calibration = LabelCalibration("platt", *curve, 0.5, 9, covariance)
    for score in scores:
        low, high = calibration.interval(score) or (1.0, 0.0)
        assert 0 <= low <= (calibration.probability(score) or 0.0) <= high <= 1


def test_without_a_calibration_there_is_no_way_back() -> None:
    with pytest.raises(ValueError, match="no probability"):
        LabelCalibration("none", 1.0, 0.0, 0.5, 2).score(0.5)
