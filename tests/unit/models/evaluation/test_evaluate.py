"""A bundle measured from the image files, with and without text."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from models.bundles.bundle import write_bundle
from models.bundles.predictor import Predictor
from models.bundles.study_predictions import predict_studies
from models.data.dataset import FilmDataset
from models.data.openi import read_openi
from models.errors import UsageError
from models.evaluation.evaluate import evaluate, evaluate_with_predictions
from models.labels.calibration import uncalibrated
from models.labels.vocabulary import load_vocabulary
from models.text.study_text import scrub
from tests.support.model_families import write_family
from tests.support.openi_folder import write_openi
from tests.support.tiny_bundle import KEYS, MANIFEST, make_network

VOCABULARY = load_vocabulary()


def with_texts(dataset: FilmDataset, *, silent: int = 0) -> FilmDataset:
    """The same studies with texts; the first ones of each split without."""
    studies = {
        split: tuple(
            study
            if number < silent
            else replace(study, indication="fever and cough", report=f"No effusion. Chest pain {number}.")
            for number, study in enumerate(found)
        )
        for split, found in dataset.studies.items()
    }
    return replace(dataset, studies=studies)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> FilmDataset:
    root = write_openi(tmp_path_factory.mktemp("films") / "openi", {"train": 1, "val": 4, "test": 8})
    return read_openi(root, VOCABULARY)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    """Reads text where there is one."""
    return Predictor(write_family(tmp_path_factory.mktemp("bundles"), "concatenation"))


def test_a_bundle_that_is_not_calibrated_is_said_to_be_so(dataset: FilmDataset, tmp_path: Path):
    bundle = write_bundle(tmp_path / "tiny-0.0.1", MANIFEST, KEYS, make_network(), uncalibrated(KEYS))
    (warning,) = evaluate(Predictor.load(bundle.path), dataset, split="test")["warnings"]
    assert warning.startswith("The bundle is not calibrated")


def test_a_bundle_is_measured_from_the_image_files(predictor: Predictor, dataset: FilmDataset):
    seen = []
    found = evaluate(
        predictor, dataset, split="test", progress=lambda done, total: seen.append((done, total))
    )
    assert (found["bundle"], found["dataset"], found["split"], found["text"]) == (
        "tiny 0.0.1", "openi", "test", "none",
    )  # fmt: skip
    assert found["weights_sha256"] == predictor.identity.weights_sha256
    assert found["n_studies"] == found["n_patients"] == 8
    assert found["warnings"] == [
        "Calibration and thresholds were fitted to drawn: they may not suit these films."
    ]
    assert found["words"] is None
    assert set(found["labels"]) == set(KEYS)
    assert {"n_positive", "auc", "auc_low", "auc_high", "ap", "f1", "threshold"} <= set(
        found["labels"]["nodule"]
    )
    assert {"auc", "ap", "f1"} <= set(found["macro"])
    assert seen[-1] == (8, 8)
    assert found == evaluate(predictor, dataset, split="test")
    assert found == json.loads(json.dumps(found, allow_nan=False))


def test_any_split_of_the_data_set_can_be_measured(predictor: Predictor, dataset: FilmDataset):
    sealed = replace(dataset, studies={**dataset.studies, "sealed": dataset.studies["val"], "val": ()})
    assert evaluate(predictor, sealed, split="sealed")["n_studies"] == 4
    with pytest.raises(UsageError, match="no split 'later'"):
        evaluate(predictor, sealed, split="later")


def test_the_split_of_the_calibration_says_that_its_figures_flatter(
    predictor: Predictor, dataset: FilmDataset
):
    own = replace(dataset, name=predictor.bundle.calibration.dataset)
    (warning,) = evaluate(predictor, own, split="val")["warnings"]
    assert "fitted to this split" in warning
    (warning,) = evaluate(predictor, own, split="train")["warnings"]
    assert "trained" in warning
    assert evaluate(predictor, own, split="test")["warnings"] == []
    # A table without splits is the same films, whatever split is asked for.
    (warning,) = evaluate(predictor, replace(own, undivided=True), split="test")["warnings"]
    assert "fitted to this split" in warning
    (_, warning) = evaluate(predictor, dataset, split="train")["warnings"]
    assert "may have been trained on these films" in warning


class TestText:
    def scores(self, predictor: Predictor, dataset: FilmDataset, text: str) -> list[float]:
        predictions = predict_studies(predictor, dataset.split("test"), text=text)
        return [prediction.findings[0].score for prediction in predictions]

    def test_a_bundle_reads_the_text_that_was_asked_for(self, reader: Predictor, dataset: FilmDataset):
        texts = with_texts(dataset)
        none, indication, report = (
            self.scores(reader, texts, text) for text in ("none", "indication", "report")
        )
        assert none == self.scores(reader, dataset, "none")
        assert none != indication != report != none
        # The report is read without the words of its labels: whatever they say, the answer is the same.
        scrubbed = {
            split: tuple(replace(study, indication=scrub(study.report, VOCABULARY)) for study in studies)
            for split, studies in texts.studies.items()
        }
        assert report == self.scores(reader, replace(texts, studies=scrubbed), "indication")
        assert "effusion" not in scrubbed["test"][0].indication.casefold()

    def test_figures_of_a_report_carry_a_warning(self, reader: Predictor, dataset: FilmDataset):
        found = evaluate(reader, with_texts(dataset), split="test", text="report")
        assert found["text"] == "report"
        assert "labels come from the very report" in found["warnings"][0]
        assert found["words"]["all"]["n_reports"] == 8
        assert "Chest pain" not in json.dumps(found)
        other = evaluate(reader, with_texts(dataset), split="test", text="indication")["warnings"]
        assert not [warning for warning in other if "report" in warning]

    def test_studies_without_text_are_read_where_it_is_optional(
        self, reader: Predictor, dataset: FilmDataset
    ):
        found = evaluate(reader, with_texts(dataset, silent=3), split="test", text="indication")
        assert (found["n_studies"], found["n_without_text"], found["n_left_out"]) == (8, 3, 0)

    def test_studies_without_text_are_left_out_where_it_is_required(
        self, dataset: FilmDataset, tmp_path: Path
    ):
        strict = Predictor(write_family(tmp_path, "concatenation", text="required"))
        sample, found = evaluate_with_predictions(
            strict, with_texts(dataset, silent=3), split="test", text="indication"
        )
        assert (found["n_studies"], found["n_without_text"], found["n_left_out"]) == (5, 3, 3)
        assert len(sample.studies) == 5
        with pytest.raises(
            UsageError, match=r"tiny-concatenation 0\.0\.1 requires text; use --text indication"
        ):
            evaluate(strict, with_texts(dataset), split="test")

    def test_a_text_that_the_bundle_cannot_read_is_refused(self, predictor: Predictor, dataset: FilmDataset):
        with pytest.raises(UsageError, match=r"tiny 0\.0\.1 reads films alone; use --text none"):
            evaluate(predictor, with_texts(dataset), split="test", text="indication")

    def test_a_text_that_no_study_has_is_refused(self, reader: Predictor, dataset: FilmDataset):
        with pytest.raises(UsageError, match="no study of openi test has such a text"):
            evaluate(reader, dataset, split="test", text="indication")

    def test_a_text_that_does_not_exist_is_refused(self, reader: Predictor, dataset: FilmDataset):
        with pytest.raises(UsageError, match="no such text; use one of none, indication, report"):
            evaluate(reader, dataset, split="test", text="conclusion")
