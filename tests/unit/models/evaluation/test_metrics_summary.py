"""Metrics of a sample, with intervals and baselines."""

from __future__ import annotations

import json

import numpy as np
import pytest

from models.errors import DatasetError
from models.evaluation.bootstrap import resampling_weights
from models.evaluation.metrics_summary import summarize_metrics
from models.evaluation.predictions import LabelledPredictions, join_predictions
from models.evaluation.report_text_statistics import content_words, summarize_report_text
from models.evaluation.subgroups import DIVISIONS, age_band, subgroup_metrics, view_group
from models.processing.types import FindingScore, Identity, Prediction
from tests.support.prediction_samples import labelled_predictions, labelled_study


def first(count: int, of: int) -> list[bool]:
    return [number < count for number in range(of)]


def measured(given: LabelledPredictions) -> dict:
    found = summarize_metrics(given, resampling_weights(given.patients, resamplings=100))
    json.dumps(found, allow_nan=False)
    return found


def test_a_perfect_scorer():
    truth = {"cardiomegaly": first(10, 40), "nodule": first(6, 40)}
    found = measured(labelled_predictions(truth, truth, calibrated=("cardiomegaly", "nodule")))
    macro = found["macro"]
    assert macro["n_labels"] == 2
    assert [macro[name] for name in ("auc", "auc_low", "auc_high", "ap", "ap_low", "f1", "f1_low")] == [1] * 7
    assert (macro["ece"], macro["brier"]) == (0, 0)
    label = found["labels"]["nodule"]
    assert set(label["sensitivity_at_specificity"].values()) == {1}
    assert set(label["specificity_at_sensitivity"].values()) == {1}
    assert label["confusion"] == {
        "true_positive": 6, "false_positive": 0, "false_negative": 0, "true_negative": 34,
    }  # fmt: skip
    assert label["accuracy"] == found["accuracy"]["model"] == 1


def test_a_random_scorer_is_at_its_baselines():
    random = np.random.default_rng(5)
    truth = {key: random.random(3000) < 0.2 for key in ("cardiomegaly", "nodule", "mass")}
    found = measured(
        labelled_predictions(truth, {key: random.random(3000) for key in truth}, calibrated=tuple(truth))
    )
    macro = found["macro"]
    assert macro["auc"] == pytest.approx(macro["auc_random"], abs=0.03)
    assert macro["auc_low"] < 0.5 < macro["auc_high"]
    assert macro["ap"] == pytest.approx(macro["ap_random"], abs=0.02)
    assert macro["ap_low"] < macro["ap_random"] < macro["ap_high"]
    for label in found["labels"].values():
        assert label["sensitivity_at_specificity"]["0.80"] == pytest.approx(0.2, abs=0.06)
        assert label["brier"] > label["brier_prevalence"]


def test_a_scorer_that_knows_nothing_is_exactly_at_its_baselines():
    truth = {"cardiomegaly": first(10, 40), "nodule": first(30, 40)}
    found = measured(labelled_predictions(truth, {key: [0.0] * 40 for key in truth}))
    for key, count in (("cardiomegaly", 10), ("nodule", 30)):
        label = found["labels"][key]
        assert label["auc"] == label["auc_random"] == 0.5
        assert label["ap"] == label["ap_random"] == label["prevalence"] == count / 40
        assert label["f1"] == 0
        assert label["f1_always"] == pytest.approx(2 * count / (count + 40))
        assert label["accuracy"] == label["accuracy_nothing"] == 1 - count / 40
    assert found["accuracy"] == {
        "model": 40 / 80, "predicting_nothing": 40 / 80, "most_common": 60 / 80,
    }  # fmt: skip


def test_rare_labels_are_listed_apart_and_not_averaged():
    random = np.random.default_rng(0)
    truth = {
        "cardiomegaly": first(10, 40), "nodule": first(5, 40), "mass": first(4, 40),
        "hernia": first(0, 40), "edema": first(40, 40),
    }  # fmt: skip
    found = measured(labelled_predictions(truth, {key: random.random(40) for key in truth}))
    assert found["rare"] == ["mass", "hernia"]
    assert found["macro"]["n_labels"] == 2
    assert found["macro_all"]["n_labels"] == 3
    labels = found["labels"]
    assert found["macro"]["auc"] == pytest.approx(
        (labels["cardiomegaly"]["auc"] + labels["nodule"]["auc"]) / 2
    )
    assert labels["hernia"]["auc"] is labels["hernia"]["ap"] is labels["hernia"]["f1"] is None
    assert labels["edema"]["auc"] is labels["edema"]["auc_low"] is None
    assert labels["edema"]["sensitivity_at_specificity"] == {"0.80": None, "0.90": None, "0.95": None}
    assert labels["hernia"]["n_positive"] == 0


def test_nothing_measurable_is_json_all_the_same():
    found = measured(labelled_predictions({"nodule": [False] * 6}, {"nodule": [0.1] * 6}))
    assert found["macro"]["auc"] is found["macro"]["f1_low"] is None
    assert found["abnormal"] is None


def test_only_calibrated_labels_have_probabilities_to_judge():
    truth = {"cardiomegaly": first(20, 40), "nodule": first(10, 40)}
    found = measured(labelled_predictions(truth, {key: [0.5] * 40 for key in truth}, calibrated=("nodule",)))
    assert found["labels"]["nodule"]["ece"] == 0.25
    (point,) = found["labels"]["nodule"]["reliability"]
    assert (point["count"], point["predicted"], point["observed"]) == (40, 0.5, 0.25)
    # Wilson's interval of 10 in 40.
    assert (point["low"], point["high"]) == pytest.approx((0.1419, 0.4019), abs=1e-4)
    assert found["labels"]["cardiomegaly"]["reliability"] is None
    assert found["labels"]["nodule"]["brier"] == 0.25
    assert found["labels"]["nodule"]["brier_prevalence"] == 0.25 * 0.75
    assert found["labels"]["cardiomegaly"]["ece"] is found["labels"]["cardiomegaly"]["brier"] is None
    assert found["macro"]["n_calibrated"] == 1
    assert found["macro"]["brier"] == 0.25


def test_intervals_are_over_patients():
    # Twenty studies of each of ten patients: the interval is that of ten, far from that of two hundred.
    random = np.random.default_rng(3)
    truth = np.tile([True, False], 5)
    scores = random.normal(0, 1, 10) + truth
    patients = np.repeat(np.arange(10), 20)
    many = {"nodule": np.repeat(truth, 20)}, {"nodule": np.repeat(scores, 20)}
    clustered = measured(labelled_predictions(*many, patients=patients))
    loose = measured(labelled_predictions(*many))
    assert clustered["n_patients"] == 10
    width = [found["macro"]["auc_high"] - found["macro"]["auc_low"] for found in (clustered, loose)]
    assert width[0] > 2 * width[1]


class TestAbnormality:
    # Ten normal studies, five abnormal ones; the third highest score is a normal one.
    abnormal = np.array([True, True, False, True, True, True] + [False] * 9)
    scores = np.linspace(0.9, 0.1, 15)

    def test_the_recall_where_enough_normal_ones_are_kept(self):
        found = measured(labelled_predictions({"abnormal": self.abnormal}, {"abnormal": self.scores}))[
            "abnormal"
        ]
        assert found["score"] == "abnormal"
        assert (found["n_abnormal"], found["n_normal"]) == (5, 10)
        assert found["auc"] == pytest.approx(47 / 50)
        # 14 % of ten normal studies may be reported: one, so all five abnormal ones are reached.
        assert found["normal_recall"] == 0.86
        assert found["recall"] == 1
        assert found["recall_random"] == pytest.approx(0.14)
        assert found["recall_low"] <= found["recall"] <= found["recall_high"]

    def test_with_fewer_normal_ones_none_may_be_reported(self):
        few = slice(0, 8)
        given = labelled_predictions({"abnormal": self.abnormal[few]}, {"abnormal": self.scores[few]})
        assert measured(given)["abnormal"]["recall"] == 2 / 5

    def test_a_bundle_that_says_normal_says_abnormal(self):
        one = measured(labelled_predictions({"abnormal": self.abnormal}, {"abnormal": self.scores}))[
            "abnormal"
        ]
        other = measured(labelled_predictions({"normal": ~self.abnormal}, {"normal": 1 - self.scores}))[
            "abnormal"
        ]
        assert other.pop("score") == "1 - normal"
        assert one.pop("score") == "abnormal"
        assert other == pytest.approx(one)


IDENTITY = Identity("drawn", "0.0.1", "0" * 64, "", "")


def answer(**scores: float) -> Prediction:
    return Prediction(
        IDENTITY,
        tuple(FindingScore(key, score, score, 0.5, score >= 0.5, (score,)) for key, score in scores.items()),
        None,
    )


class TestJoin:
    def test_labels_that_the_data_set_does_not_speak_of_are_left_out_and_named(self):
        studies = (
            labelled_study(0, ["nodule"], known=frozenset({"nodule", "mass"})),
            labelled_study(1, [], known=frozenset({"nodule"})),
        )
        found = join_predictions(
            ("nodule", "mass", "hernia"),
            studies,
            [answer(nodule=0.9, mass=0.2, hernia=0.7), answer(nodule=0.1, mass=0.8, hernia=0.7)],
        )
        assert found.unknown_labels == ("hernia",)
        nodule, mass = found.columns
        assert nodule.truth.tolist() == [True, False]
        # Of the second study nothing is known of a mass: its answer is neither right nor wrong.
        assert (mass.rows.tolist(), mass.scores.tolist()) == ([0], [0.2])
        table = measured(found)
        assert table["not_in_dataset"] == ["hernia"]
        assert set(table["labels"]) == {"nodule", "mass"}
        assert table["labels"]["mass"]["n_studies"] == 1
        assert table["accuracy"]["model"] == 1

    def test_a_data_set_that_speaks_of_no_label_cannot_measure(self):
        with pytest.raises(DatasetError, match=r"none of the bundle's labels \(hernia\)"):
            join_predictions(("hernia",), (labelled_study(0, [], known=frozenset()),), [answer(hernia=0.5)])

    def test_no_study_cannot_measure(self):
        with pytest.raises(DatasetError, match="no study"):
            join_predictions(("hernia",), (), [])

    def test_studies_of_a_patient_are_one_patient(self):
        studies = tuple(labelled_study(number) for number in range(2))
        twins = tuple(type(study)(study.identifier, "7", study.films, study.keys, None) for study in studies)
        assert join_predictions(("mass",), twins, [answer(mass=0.5)] * 2).patients.tolist() == [0, 0]


class TestSubgroups:
    def study(self, number: int, views: tuple[str, ...] = (), **facts: str):
        return labelled_study(number, views=views, facts=facts)

    def test_the_view_of_a_study(self):
        assert view_group(self.study(0, ("frontal", "frontal"))) == "frontal only"
        assert view_group(self.study(0, ("lateral",))) == "lateral only"
        assert view_group(self.study(0, ("lateral", "frontal"))) == "frontal and lateral"
        assert view_group(self.study(0)) == view_group(self.study(0, ("frontal", ""))) == "unknown"

    @pytest.mark.parametrize(
        ("age", "band"),
        [("0", "0 to 19 years"), ("19", "0 to 19 years"), ("45", "40 to 59 years"),
         ("80", "80 years and over"), ("112", "80 years and over"), ("", "unknown"), ("-3", "unknown"),
         ("old", "unknown")],
    )  # fmt: skip
    def test_the_band_of_an_age(self, age, band):
        assert age_band(self.study(0, age=age)) == band
        assert age_band(self.study(0)) == "unknown"

    def test_each_has_its_own_figures_and_those_of_all_beside_them(self):
        # Women are told apart perfectly, men the wrong way round.
        studies = [self.study(number, sex="F" if number < 20 else "M") for number in range(40)]
        truth = [*first(8, 20), *first(12, 20)]
        scores = [*map(float, first(8, 20)), *(1.0 - value for value in first(12, 20))]
        given = labelled_predictions({"nodule": truth}, {"nodule": scores}, studies=studies)
        found = subgroup_metrics(given, resampling_weights(given.patients, resamplings=100))
        assert set(found) == {"sex"}
        women, men = found["sex"]["F"], found["sex"]["M"]
        assert (women["n_studies"], women["n_patients"]) == (20, 20)
        assert (women["macro"]["auc"], women["macro"]["auc_low"], men["macro"]["auc"]) == (1, 1, 0)
        # 20 positives (8 with 1, 12 with 0) against 20 negatives (12 with 0, 8 with 1): ties count half.
        everyone = (8 * (12 + 8 / 2) + 12 * (12 / 2)) / 400
        assert women["macro"]["auc_everyone"] == men["macro"]["auc_everyone"] == pytest.approx(everyone)
        assert women["abnormal"] is None

    def test_one_with_a_single_class_or_few_positives_has_no_figure(self):
        studies = [self.study(n, manufacturer=("Agfa", "Fuji", "Kodak")[n // 10]) for n in range(30)]
        truth = [True] * 10 + [False] * 10 + first(4, 10)
        given = labelled_predictions(
            {"abnormal": truth}, {"abnormal": np.linspace(1, 0, 30)}, studies=studies
        )
        found = subgroup_metrics(given, resampling_weights(given.patients, resamplings=50))["manufacturer"]
        assert list(found) == ["Agfa", "Fuji", "Kodak"]
        for group in found.values():
            assert group["macro"]["n_labels"] == 0
            assert group["macro"]["auc"] is group["macro"]["auc_low"] is group["abnormal"] is None
        json.dumps(found, allow_nan=False)

    def test_what_is_unknown_is_a_group_only_beside_what_is_known(self):
        studies = [self.study(0, sex="F"), self.study(1)]
        given = labelled_predictions({"nodule": [True, False]}, {"nodule": [1, 0]}, studies=studies)
        found = subgroup_metrics(given, resampling_weights(given.patients, resamplings=10))
        assert {name: list(groups) for name, groups in found.items()} == {"sex": ["F", "unknown"]}
        assert set(found) < set(DIVISIONS)


class TestWords:
    def test_stop_words_and_what_was_blackened_are_no_words(self):
        assert content_words("There is NO pleural-based mass at the XXXX, xxx; follow up.") == [
            "pleural-based", "mass", "follow",
        ]  # fmt: skip

    def test_the_words_of_each_label(self):
        reports = (
            ["Large heart. Large wires."] * 5 + ["Clear lungs, once seen."] * 3 + ["Unique phrasing.", ""]
        )
        studies = [labelled_study(number, report=report) for number, report in enumerate(reports)]
        truth = {"cardiomegaly": first(5, 10), "mass": first(2, 10)}
        given = labelled_predictions(truth, {key: [0.1] * 10 for key in truth}, studies=studies)
        found = summarize_report_text(given)
        assert found is not None
        assert found["all"]["n_reports"] == 9
        assert found["all"]["words_median"] == 4
        assert list(found["all"]["terms"].items())[:3] == [("large", 10), ("heart", 5), ("wires", 5)]
        # A word of one report may tell whose it is.
        assert "unique" not in found["all"]["terms"]
        assert set(found["labels"]) == {"cardiomegaly"}
        assert found["labels"]["cardiomegaly"]["terms"] == {"large": 10, "heart": 5, "wires": 5}

    def test_at_most_twenty_are_listed(self):
        report = " ".join(f"word{'abcdefghijklmnopqrstuvwxyz'[n]}" for n in range(26))
        studies = [labelled_study(number, report=report) for number in range(2)]
        found = summarize_report_text(
            labelled_predictions({"mass": [True, False]}, {"mass": [1, 0]}, studies=studies)
        )
        assert found is not None
        assert len(found["all"]["terms"]) == 20

    def test_a_data_set_without_reports_has_none(self):
        assert summarize_report_text(labelled_predictions({"mass": [True, False]}, {"mass": [1, 0]})) is None
