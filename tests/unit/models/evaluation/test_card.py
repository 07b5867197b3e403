"""The model card: from the figures alone, and true to the data set that they come from."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from models.bundles.bundle import Bundle, amend_bundle, read_bundle
from models.bundles.predictor import Predictor
from models.data.dataset import FilmDataset
from models.data.openi import read_openi
from models.errors import BundleError
from models.evaluation import card
from models.evaluation.card import write_card
from models.evaluation.evaluate import evaluate
from models.labels.vocabulary import load_vocabulary
from models.training.export import measure
from tests.support.model_families import write_family
from tests.support.openi_folder import write_openi
from tests.support.tiny_bundle import KEYS


@pytest.fixture
def dataset(tmp_path: Path) -> FilmDataset:
    return read_openi(write_openi(tmp_path / "data", {"train": 2, "val": 4, "test": 24}), load_vocabulary())


def metrics_of(bundle: Bundle, dataset: FilmDataset, *, text: str = "none", **changes: str) -> dict:
    description = {
        "name": dataset.name, "title": dataset.title, "terms": dataset.terms,
        "n_studies": {"test": 24}, "n_films": {"test": 36},
    }  # fmt: skip
    return {
        "dataset": description | changes,
        "test": evaluate(Predictor(bundle), dataset, split="test", text=text),
    }


def test_the_card_says_what_a_reader_must_know(bundle: Bundle, dataset: FilmDataset, tmp_path: Path):
    measured = measure(Predictor(bundle), dataset)
    text = (measured.path / "README.md").read_text(encoding="utf-8")
    figures = json.loads((measured.path / "metrics.json").read_text(encoding="utf-8"))
    assert text == write_card(read_bundle(measured.path), figures)
    for promise in (
        "Research use only", "CC BY-NC-ND 4.0", "Split by patient", "24 studies of 24 patients", "95 %",
        "a score is not a probability", measured.weights_sha256, "predicting nothing at all", "baseline",
        "MeSH headings", "## Limits", "Abnormal or normal",
        "dicom-node evaluate tiny-0.0.1 --dataset openi --data FOLDER --split test --text none",
        *(f"| {key} |" for key in KEYS),
    ):  # fmt: skip
        assert promise in text
    assert str(tmp_path) not in text


def test_a_data_set_without_test_films_is_measured_on_val_and_says_so(bundle: Bundle, dataset: FilmDataset):
    watched = replace(dataset, studies={"val": dataset.studies["test"]})
    text = (measure(Predictor(bundle), watched).path / "README.md").read_text(encoding="utf-8")
    assert "## Results on openi val" in text
    assert "the figures below are from `openi` val, on which the training was watched: no test" in text
    assert "nothing was chosen" not in text


def test_the_command_stands_beside_the_tables(bundle: Bundle, dataset: FilmDataset):
    text = write_card(bundle, metrics_of(bundle, dataset))
    results = text[text.index("## Results") :]
    assert results.index("dicom-node evaluate") < results.index("| --- |")


def test_a_card_of_another_data_set_says_nothing_of_open_i(bundle: Bundle, dataset: FilmDataset):
    nih = replace(dataset, name="nih", title="NIH ChestX-ray14 (Wang et al. 2017)", terms="CC0")
    text = write_card(bundle, metrics_of(bundle, nih))
    assert "CC0" in text
    assert "mined from reports by a program" in text
    # The data set of the calibration is another one, and named.
    assert "calibration and thresholds from `drawn` val" in text
    assert "the figures below are from `nih` test" in text
    for word in ("Open-i", "openi", "MeSH", "Indiana", "lateral"):
        assert word not in text
    other = replace(dataset, name="elsewhere", title="Films of a clinic", terms="none")
    assert "not known here" in write_card(bundle, metrics_of(bundle, other))


def test_subgroups_are_in_the_card_where_they_are_known(bundle: Bundle, dataset: FilmDataset):
    bare = replace(
        dataset,
        studies={"test": tuple(replace(study, views=(), facts={}) for study in dataset.studies["test"])},
    )
    assert "### Subgroups" not in write_card(bundle, metrics_of(bundle, bare))
    seen = tuple(replace(study, facts={"sex": "FM"[n % 2]}) for n, study in enumerate(bare.studies["test"]))
    text = write_card(bundle, metrics_of(bundle, replace(bare, studies={"test": seen})))
    assert "### Subgroups on openi test, text: none" in text
    assert "| sex: F | 12 |" in text


def test_a_card_of_a_bundle_that_read_text_warns(dataset: FilmDataset, tmp_path: Path):
    reader = write_family(tmp_path, "concatenation")
    texts = {
        "test": tuple(
            replace(study, indication="fever", report="Chest pain in the heart.")
            for study in dataset.studies["test"]
        )
    }
    dataset = replace(dataset, studies=texts)
    text = write_card(reader, metrics_of(reader, dataset, text="report"))
    results = text[text.index("## Results") :]
    assert results.startswith("## Results on openi test, text: report")
    assert results.index("Caution") < results.index("| --- |")
    assert "what was known before" in text


def test_figures_with_another_text_follow_in_short(dataset: FilmDataset, tmp_path: Path):
    reader = write_family(tmp_path, "concatenation")
    studies = {"test": tuple(replace(study, indication="fever") for study in dataset.studies["test"])}
    dataset = replace(dataset, studies=studies)
    metrics = metrics_of(reader, dataset)
    metrics["test indication"] = evaluate(Predictor(reader), dataset, split="test", text="indication")
    text = write_card(reader, metrics)
    films, texts = (text.index(f"## Results on openi test, text: {read}") for read in ("none", "indication"))
    assert films < texts < text.index("## Limits")
    assert "--split test --text indication" in text[texts:]
    assert "### Macro averages" in text[texts:]
    assert "### By label" not in text[texts:]


def test_the_card_follows_the_figures(bundle: Bundle, dataset: FilmDataset):
    metrics = metrics_of(bundle, dataset)
    card = write_card(bundle, metrics)
    changed = json.loads(json.dumps(metrics))
    changed["test"]["n_studies"] = 4
    assert "4 studies of 24 patients" in write_card(bundle, changed)
    assert "train RECIPE.toml" in card  # a recipe of the user's own
    shipped = write_card(bundle, metrics | {"recipe": "openi-findings"})
    assert "train models/recipes/openi-findings.toml" in shipped
    renamed = replace(bundle, manifest=replace(bundle.manifest, version="0.0.2"))
    assert "# tiny 0.0.2" in write_card(renamed, metrics)
    assert amend_bundle(bundle, {"README.md": card}).path == bundle.path


def test_figures_of_maps_and_of_similar_cases_are_kept_and_replaced(bundle: Bundle, dataset: FilmDataset):
    measured = measure(Predictor(bundle), dataset)
    value = {"value": 0.5, "low": 0.4, "high": 0.6, "with_a_group": 0.55, "random": 0.2, "most_common": 0.3}
    rules = {
        "share_one_group": {"p_at_5": value, "mrr": value},
        "same_set": {"p_at_5": value},
        "jaccard": {"ndcg_at_5": value},
    }
    similar = {
        "dataset": "openi", "queries": "test", "references": "train",
        "n_queries": 24, "n_queries_with_a_group": 20, "n_references": 2,
        "ways": {"image_only": {"rules": rules}},
    }  # fmt: skip
    once = card.record_metrics(measured, card.RETRIEVAL, "train", similar | {"n_queries": 23})
    again = card.record_metrics(once, card.RETRIEVAL, "train", similar)
    assert again.identity == bundle.identity
    figures = json.loads((again.path / "metrics.json").read_text(encoding="utf-8"))
    assert figures["retrieval"] == {"train": similar}
    text = (again.path / "README.md").read_text(encoding="utf-8")
    assert text == write_card(again, figures)
    assert "| same set: P@5 | 0.500 (0.400 to 0.600) | 0.200, 0.300 |" in text
    assert "cases evaluate tiny-0.0.1 --dataset openi --data FOLDER --queries test --references train" in text
    assert text.index("## Similar cases, test to train") < text.index("## Limits")


def test_a_bundle_without_figures_cannot_keep_more(bundle: Bundle):
    with pytest.raises(BundleError, match="no metrics"):
        card.record_metrics(bundle, card.RETRIEVAL, "train", {})
