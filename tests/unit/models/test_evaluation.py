"""What is reported of a bundle, with intervals and baselines beside it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.bundle import amend_bundle, read_bundle
from models.errors import DatasetError
from models.evaluation import metrics
from models.evaluation.card import write_card
from models.evaluation.evaluate import evaluate, figures
from models.predictor import Predictor
from models.training.openi import read_openi
from models.training.release import measure
from models.types import FindingScore, Prediction
from models.vocabulary import load_vocabulary

from .conftest import KEYS, write_openi


def predictions(predictor: Predictor, scores: np.ndarray) -> list[Prediction]:
    """Predictions with given scores; the last key has no probability."""
    return [
        Prediction(
            identity=predictor.identity,
            findings=tuple(
                FindingScore(
                    key=key,
                    score=float(value),
                    probability=None if key == KEYS[-1] else float(value),
                    threshold=0.5,
                    present=bool(value >= 0.5),
                    film_scores=(float(value),),
                )
                for key, value in zip(KEYS, row, strict=True)
            ),
            embedding=None,
        )
        for row in scores
    ]


def truth_table(counts: tuple[int, ...], n: int) -> np.ndarray:
    return np.stack([np.arange(n) < count for count in counts], axis=1)


def test_a_perfect_model_gets_perfect_figures(predictor: Predictor):
    truth = truth_table((20, 10, 6, 5), 40)
    found = figures(KEYS, truth, predictions(predictor, truth.astype(float)), np.arange(40))
    assert found["macro"]["n_labels"] == 4
    assert (found["macro"]["auc"], found["macro"]["ap"], found["macro"]["f1"]) == (1, 1, 1)
    assert found["macro"]["auc_low"] == 1
    assert found["macro"]["ece"] == 0
    assert found["accuracy"]["model"] == 1


def test_rare_labels_are_left_out_of_the_average_but_not_of_the_table(predictor: Predictor):
    truth = truth_table((20, 10, 4, 0), 40)
    scores = np.random.default_rng(0).random((40, 4))
    found = figures(KEYS, truth, predictions(predictor, scores), np.arange(40))
    assert found["macro"]["n_labels"] == 2
    assert found["macro_all"]["n_labels"] == 3
    assert found["macro"]["auc"] == pytest.approx(np.mean([found["labels"][key]["auc"] for key in KEYS[:2]]))
    assert found["labels"][KEYS[2]]["n_positive"] == 4
    assert found["labels"][KEYS[3]]["auc"] is None
    assert found["labels"][KEYS[3]]["ap"] is None


def test_the_baselines_stand_beside_the_figures(predictor: Predictor):
    truth = truth_table((20, 10, 6, 5), 40)
    found = figures(KEYS, truth, predictions(predictor, np.zeros((40, 4))), np.arange(40))
    assert found["accuracy"]["model"] == found["accuracy"]["predicting_nothing"] == 1 - 41 / 160
    for key, count in zip(KEYS, (20, 10, 6, 5), strict=True):
        label = found["labels"][key]
        assert label["auc"] == 0.5
        assert label["ap"] == label["prevalence"] == count / 40
        assert label["f1"] == 0
        assert label["f1_always"] == pytest.approx(2 * count / (count + 40))


def test_only_calibrated_labels_have_a_calibration_error(predictor: Predictor):
    truth = truth_table((20, 10, 6, 5), 40)
    found = figures(KEYS, truth, predictions(predictor, np.full((40, 4), 0.5)), np.arange(40))
    assert found["labels"][KEYS[0]]["ece"] == 0
    assert found["labels"][KEYS[1]]["ece"] == 0.25
    assert found["labels"][KEYS[-1]]["ece"] is None
    assert found["labels"][KEYS[-1]]["calibrated"] is False


def test_what_cannot_be_measured_is_json_all_the_same(predictor: Predictor):
    truth = truth_table((0, 0, 0, 0), 6)
    found = figures(KEYS, truth, predictions(predictor, np.zeros((6, 4))), np.arange(6))
    assert found["macro"]["auc"] is None
    assert "NaN" not in json.dumps(found, allow_nan=False)


def test_nothing_to_measure_is_an_error():
    with pytest.raises(DatasetError, match="no study"):
        figures(KEYS, np.zeros((0, 4), bool), [], np.arange(0))


def test_the_interval_holds_the_figure_and_narrows_with_more_patients():
    random = np.random.default_rng(0)
    widths = []
    for n in (60, 600):
        truth = (np.arange(n) % 3 == 0)[:, None]
        scores = (random.normal(0, 1, n) + truth[:, 0])[:, None]
        low, high = metrics.interval(
            metrics.bootstrap_auc(truth, scores, np.arange(n), seed=1, resamplings=200)[:, 0]
        )
        assert low < metrics.auc(truth[:, 0], scores[:, 0]) < high
        widths.append(high - low)
    assert widths[1] < widths[0] / 2


def test_the_bootstrap_draws_patients_not_studies():
    # Ten patients of twenty equal studies each know no more than ten studies.
    truth, scores = np.array([True, False] * 5), np.linspace(0, 1, 10)[::-1] % 0.7
    few = metrics.bootstrap_auc(truth[:, None], scores[:, None], np.arange(10), seed=2, resamplings=300)
    many = metrics.bootstrap_auc(
        np.repeat(truth, 20)[:, None],
        np.repeat(scores, 20)[:, None],
        np.repeat(np.arange(10), 20),
        seed=2,
        resamplings=300,
    )
    np.testing.assert_allclose(few, many)


def test_the_bootstrap_gives_the_same_intervals_again():
    truth = (np.arange(30) % 4 == 0)[:, None]
    scores = np.random.default_rng(0).random((30, 1))
    first, second = (
        metrics.bootstrap_auc(truth, scores, np.arange(30), seed=0, resamplings=50) for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)


def test_a_drawing_without_any_label_has_no_mean():
    found = metrics.mean_known(np.array([[0.5, np.nan], [np.nan, np.nan], [0.4, 0.8]]))
    np.testing.assert_allclose(found, [0.5, np.nan, 0.6])


def test_a_label_that_most_drawings_miss_has_no_interval():
    assert all(np.isnan(metrics.interval(np.array([np.nan, np.nan, 0.5]))))


def test_a_bundle_is_measured_from_the_image_files(predictor: Predictor, tmp_path: Path):
    dataset = read_openi(write_openi(tmp_path, {"train": 1, "val": 4, "test": 8}), load_vocabulary())
    seen = []
    found = evaluate(
        predictor, dataset, split="test", progress=lambda done, total: seen.append((done, total))
    )
    assert (found["bundle"], found["dataset"], found["split"], found["text"]) == (
        "tiny 0.0.1", "openi", "test", "none",
    )  # fmt: skip
    assert found["n_studies"] == found["n_patients"] == 8
    assert set(found["labels"]) == set(KEYS)
    assert {"n_positive", "auc", "auc_low", "auc_high", "ap", "f1", "threshold"} <= set(
        found["labels"]["nodule"]
    )
    assert seen[-1] == (8, 8)
    assert found == evaluate(predictor, dataset, split="test")


def test_the_card_says_what_a_reader_must_know(predictor: Predictor, bundle, tmp_path: Path):
    dataset = read_openi(write_openi(tmp_path / "data", {"train": 2, "val": 4, "test": 8}), load_vocabulary())
    measured = measure(Predictor(bundle), dataset)
    text = (measured.path / "README.md").read_text(encoding="utf-8")
    figures_ = json.loads((measured.path / "metrics.json").read_text(encoding="utf-8"))
    assert text == write_card(read_bundle(measured.path), figures_)
    for promise in (
        "Research use only", "CC BY-NC-ND 4.0", "Split by patient", "8 studies of 8 patients", "95 %",
        "a score is not a probability", "dicom-node evaluate tiny-0.0.1", measured.weights_sha256,
        "predicting nothing at all", *(f"`{key}`" for key in KEYS),
    ):  # fmt: skip
        assert promise in text
    assert str(tmp_path) not in text


def test_the_card_follows_the_figures(bundle):
    zero = {
        "n_labels": 0, "auc": None, "auc_low": None, "auc_high": None, "ap": None, "ap_random": None,
        "f1": None, "f1_always": None, "ece": None,
    }  # fmt: skip
    split = {
        "dataset": "drawn", "split": "test", "text": "none", "n_studies": 3, "n_patients": 2, "macro": zero,
        "macro_all": zero, "accuracy": {"model": 0.5, "predicting_nothing": 0.75}, "labels": {},
    }  # fmt: skip
    info = {"name": "drawn", "title": "Drawn films", "terms": "CC0", "n_studies": {}, "n_films": {}}
    card = write_card(bundle, {"dataset": info, "val": split, "test": split})
    assert "0.750" in card
    other = write_card(bundle, {"dataset": info, "val": split, "test": split | {"n_studies": 4}})
    assert "4 studies of 2 patients" in other
    renamed = replace(bundle, manifest=replace(bundle.manifest, version="0.0.2"))
    assert "# tiny 0.0.2" in write_card(renamed, {"dataset": info, "val": split, "test": split})
    assert amend_bundle(bundle, {"README.md": card}).path == bundle.path
