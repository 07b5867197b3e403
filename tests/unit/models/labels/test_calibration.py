"""A score is not a probability until it is calibrated."""

from __future__ import annotations

import json

import numpy as np
import pytest

from models.errors import BundleError
from models.evaluation.metrics import calibration_error
from models.labels.calibration import (
    LabelCalibration,
    best_threshold,
    calibrate,
    expected_threshold,
    fit_platt,
    parse_calibration,
    uncalibrated,
)
from tests.support.prediction_samples import calibration_sample
from tests.support.tiny_bundle import CALIBRATION, KEYS


def calibrated(truth: np.ndarray, scores: np.ndarray) -> LabelCalibration:
    return calibrate(("normal",), truth[:, None], scores[:, None], dataset="drawn", split="val").labels[
        "normal"
    ]


@pytest.mark.parametrize(("slope", "intercept"), [(1.0, 0.0), (0.5, 0.7), (2.0, -1.0)])
def test_platts_curve_is_found_again(slope, intercept):
    truth, scores = calibration_sample(20_000, slope, intercept)
    found = fit_platt(truth, scores)
    assert found[:2] == pytest.approx((slope, intercept), abs=0.12)


def test_calibrated_probabilities_are_right_where_the_scores_were_not():
    truth, scores = calibration_sample(4_000, 0.5, 1.5)
    label = calibrated(truth, scores)
    probabilities = np.array([label.probability(score) for score in scores])
    assert calibration_error(truth, scores) > 0.15
    assert calibration_error(truth, probabilities) < 0.03


@pytest.mark.parametrize("score", [0.05, 0.2, 0.5])
def test_the_interval_holds_the_true_probability_in_nineteen_of_twenty_calibrations(score):
    slope, intercept = 1.2, -0.4
    right = 1 / (1 + np.exp(-(slope * np.log(score / (1 - score)) + intercept)))
    intervals = [
        calibrated(*calibration_sample(300, slope, intercept, seed)).interval(score) for seed in range(400)
    ]
    held = [low <= right <= high for low, high in intervals]
    # 0.93 at the lower end, where prior and smoothed targets pull upwards, to 0.96; 400 draws leave 0.025.
    assert 0.90 <= np.mean(held) <= 0.985


def test_the_interval_is_wider_where_fewer_positives_place_the_curve():
    truth, scores = calibration_sample(4_000, 1.0, 0.5)
    many, few = calibrated(truth, scores), calibrated(truth[:200], scores[:200])
    widths = [high - low for low, high in (each.interval(0.3) for each in (many, few))]
    assert widths[0] < widths[1] / 3
    low, high = few.interval(0.3)
    assert low < few.probability(0.3) < high


def test_a_curve_without_a_covariance_has_no_interval():
    assert LabelCalibration("platt", 1.0, 2.0, 0.5, 9).interval(0.3) is None
    assert LabelCalibration("none", 1.0, 0.0, 0.5, 2).interval(0.3) is None


def test_a_dozen_positives_do_not_bend_the_curve():
    # Perfectly separated: without its prior the slope would run to infinity.
    truth = np.arange(60) < 12
    scores = np.where(truth, 0.6, 0.05)
    found = fit_platt(truth, scores)
    assert 0.5 < found.slope < 5
    assert np.isfinite(found.intercept)


def test_the_order_of_the_scores_is_kept_even_when_they_are_worse_than_chance():
    truth, scores = calibration_sample(400, -2.0, -3.0)
    found = fit_platt(truth, scores)
    assert found.slope > 0
    probabilities = 1 / (1 + (scores / (1 - scores)) ** -found.slope * np.exp(-found.intercept))
    assert probabilities.mean() == pytest.approx(truth.mean(), abs=0.01)


def test_a_rare_label_stays_uncalibrated_and_says_so():
    random = np.random.default_rng(0)
    truth = np.zeros((300, 2), bool)
    truth[:4, 0] = True
    truth[:30, 1] = True
    scores = random.random((300, 2)).astype(np.float32)
    found = calibrate(("nodule", "normal"), truth, scores, dataset="drawn", split="val")
    rare = found.labels["nodule"]
    assert rare.method == "none"
    assert rare.probability(0.9) is None
    assert rare.n_positive == 4
    # Reported about as often as it is there.
    assert 0.003 < (scores[:, 0] >= rare.threshold).mean() < 0.05
    # Scores that stand out are what is reported.
    scores[:4, 0] = 0.999
    scores[4:, 0] *= 0.01
    clear = calibrate(("nodule", "normal"), truth, scores, dataset="drawn", split="val").labels["nodule"]
    assert (scores[:, 0] >= clear.threshold).tolist() == truth[:, 0].tolist()
    assert found.labels["normal"].method == "platt"
    assert found.labels["normal"].probability(0.9) is not None


def test_the_threshold_is_on_the_scale_of_the_probability():
    label = LabelCalibration("platt", 1.0, 2.0, 0.5, 9)
    assert not label.present(0.1)
    assert label.probability(0.1) == pytest.approx(1 / (1 + 9 * np.exp(-2)))
    assert label.present(0.2)


def test_a_label_without_a_curve_has_its_threshold_on_the_scale_of_the_score():
    label = LabelCalibration("none", 1.0, 0.0, 0.5, 0)
    assert label.probability(0.5) is None
    assert label.present(0.5)
    assert not label.present(0.499)


def test_a_bundle_that_is_not_calibrated_yet_has_no_probability_and_a_threshold_of_a_half():
    calibration = uncalibrated(("normal", "nodule"), "drawn")
    assert calibration == uncalibrated(["normal", "nodule"], "drawn")
    assert (calibration.dataset, calibration.split, calibration.n_studies) == ("drawn", "val", 0)
    assert list(calibration.labels) == ["normal", "nodule"]
    for label in calibration.labels.values():
        assert (label.method, label.threshold, label.n_positive) == ("none", 0.5, 0)
        assert (label.slope, label.intercept, label.covariance) == (1.0, 0.0, None)
    assert uncalibrated(()).dataset == ""


@pytest.mark.parametrize("score", [0.0, 1.0, 1e-30])
def test_scores_at_the_very_edge_have_a_probability(score):
    probability = LabelCalibration("platt", 3.0, 1.0, 0.5, 9).probability(score)
    assert probability is not None
    assert 0 <= probability <= 1


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        (("platt", 1.0, 0.0, 0.5, 9), "identity"),
        (("platt", -1.0, 0.0, 0.5, 9), "order"),
        (("platt", 0.0, 0.5, 0.5, 9), "order"),
        (("platt", 1.0, 0.5, 0.5, 9, (1.0, 1.2, 1.0)), "covariance"),
        (("platt", float("nan"), 0.0, 0.5, 9), "finite"),
        (("platt", 1.0, 0.5, 0.0, 9), "threshold"),
        (("platt", 1.0, 0.5, 1.5, 9), "threshold"),
        (("isotonic", 1.0, 0.5, 0.5, 9), "isotonic"),
        (("platt", 1.0, 0.5, 0.5, 9, (-1.0, 0.0, 1.0)), "covariance"),
        (("platt", 1.0, 0.5, 0.5, 9, (1.0, 2.0, 1.0)), "covariance"),
        (("platt", 1.0, 0.5, 0.5, 9, (1.0, float("nan"), 1.0)), "covariance"),
    ],
)
def test_a_curve_that_is_none_cannot_be_made(numbers, message):
    with pytest.raises(ValueError, match=message):
        LabelCalibration(*numbers)


def test_a_threshold_of_one_is_one_that_nothing_but_certainty_reaches():
    label = LabelCalibration("none", 1.0, 0.0, 1.0, 0)
    assert (label.present(1.0), label.present(0.999)) == (True, False)


def test_the_expected_threshold_is_that_of_the_highest_expected_f1():
    probabilities = np.array([0.9, 0.8, 0.3, 0.1, 0.05])
    # Expected F1 of the first n: 1.8/3.15, 3.4/4.15, 4/5.15, 4.2/6.15, 4.3/7.15; the second is the highest.
    assert expected_threshold(probabilities) == pytest.approx((0.8 + 0.3) / 2)
    assert expected_threshold(probabilities[::-1]) == expected_threshold(probabilities)


def test_the_threshold_lies_between_what_was_best_and_what_is_expected():
    truth, scores = calibration_sample(400, 1.0, -1.0)
    found = calibrate(("nodule",), truth[:, None], scores[:, None], dataset="drawn", split="val").labels[
        "nodule"
    ]
    probabilities = np.array([found.probability(score) for score in scores])
    ends = sorted((best_threshold(truth, probabilities), expected_threshold(probabilities)))
    assert ends[0] <= found.threshold <= ends[1]


def test_ties_are_reported_together_or_not_at_all():
    truth = np.array([True, False, True, False, False])
    values = np.array([0.9, 0.5, 0.5, 0.5, 0.1])
    threshold = best_threshold(truth, values)
    assert ((values >= threshold) == [True, False, False, False, False]).all() or (
        (values >= threshold) == [True, True, True, True, False]
    ).all()


def test_the_file_gives_the_same_calibration_back():
    again = parse_calibration(CALIBRATION.dump(), KEYS)
    assert again == CALIBRATION
    assert again.digest() == CALIBRATION.digest()


def test_the_hash_that_reports_name_a_calibration_by_is_the_same_in_each_version():
    assert CALIBRATION.digest() == "7d1821cb67ef44be"


@pytest.mark.parametrize(
    "change",
    [
        lambda table: table["labels"].pop("nodule"),
        lambda table: table["labels"].update(mass=table["labels"]["nodule"]),
        lambda table: table["labels"]["nodule"].update(colour="red"),
        lambda table: table["labels"]["nodule"].pop("threshold"),
        lambda table: table["labels"]["nodule"].update(threshold="high"),
        lambda table: table["labels"]["normal"].update(slope=1.0, intercept=0.0),
        lambda table: table["labels"]["normal"].update(covariance=[0.25, 0.125]),
        lambda table: table["labels"]["normal"].update(covariance=7),
        lambda table: table.pop("labels"),
        lambda table: table.pop("split"),
        lambda table: table.update(labels=[]),
    ],
)
def test_a_wrong_file_is_refused(change):
    table = json.loads(CALIBRATION.dump())
    change(table)
    with pytest.raises(BundleError, match=r"calibration\.json"):
        parse_calibration(json.dumps(table), KEYS)


@pytest.mark.parametrize("text", ["", "[]", "{", "null", "7"])
def test_a_file_that_is_no_calibration_at_all_is_refused(text):
    with pytest.raises(BundleError, match=r"calibration\.json"):
        parse_calibration(text, KEYS)
