"""Ways to leave a finding undecided, by hand; the document says what its JSON file says."""

from __future__ import annotations

import json

import numpy as np
import pytest

from models.bundles.bundle import find_bundle
from models.labels.calibration import LabelCalibration
from tests.bench.abstention import (
    DOCUMENT,
    FIGURES,
    LEVEL,
    abstaining,
    conformities,
    document,
    folded_conformities,
    straddles,
)


def test_the_document_is_that_of_its_figures() -> None:
    """Mend it with `python -m tests.bench.abstention --data FOLDER --features FOLDER --write`."""
    text, figures = DOCUMENT.read_text("utf-8"), json.loads(FIGURES.read_text("utf-8"))
    assert document(text, figures) == text
    assert all(find_bundle(name).name == name for name in figures["bundles"])


def test_conformal_values_by_hand() -> None:
    truth = np.array([True, True, True, False, False])
    scores = np.array([0.5, 0.7, 0.9, 0.1, 0.6])
    absent, present = conformities(truth, scores, np.array([0.05, 0.6, 0.95]))
    assert present.tolist() == [0.25, 0.5, 1]
    assert absent == pytest.approx([1, 2 / 3, 1 / 3])


def test_conformal_sets_cover_what_they_promise() -> None:
    drawn = np.random.default_rng(4)
    truth = drawn.random(4000) < 0.3
    scores = 1 / (1 + np.exp(-(drawn.normal(size=4000) + 1.5 * truth)))
    known = np.arange(4000) < 2000
    absent, present = conformities(truth[known], scores[known], scores[~known])
    for held, side in ((present, truth[~known]), (absent, ~truth[~known])):
        assert (held[side] > 1 - LEVEL).mean() == pytest.approx(LEVEL, abs=0.03)
    assert folded_conformities(truth, scores).shape == (2, 4000)


def test_an_interval_holds_the_threshold_or_not() -> None:
    curve = LabelCalibration("platt", 1.1, 0.0, 0.5, 20, (0.01, 0.0, 0.04))
    assert straddles(curve, np.array([0.05, 0.45, 0.55, 0.95])).tolist() == [False, True, True, False]


def test_what_is_left_out_counts_for_nothing() -> None:
    truth = np.array([True, True, False, False])
    said = np.array([True, False, False, True])
    undecided = np.array([False, True, False, False])
    found = abstaining(truth, said, undecided, np.ones((4, 10)))
    assert (found["undecided"], found["undecided_positive"]) == (0.25, 0.5)
    assert (found["error"], found["error_decided"]) == (0.5, 0.25)
    assert found["gain"] == {"value": 0.25, "low": 0.25, "high": 0.25}
