"""Similar cases: a report names the reference cases that a study is like, if there is an index."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from dicom_node.config.sections import RetrievalSettings
from dicom_node.config.settings import Settings
from dicom_node.errors import ConfigurationError
from dicom_node.runtime.lease_owner import LeaseOwner
from dicom_node.store.analysis_records import AnalysisRecords
from dicom_node.store.delivery_queue import DeliveryQueue
from dicom_node.store.states import StudyState
from models.bundles.predictor import Predictor
from models.data.openi import read_openi
from models.errors import RetrievalError
from models.labels.vocabulary import load_vocabulary
from models.retrieval.build import build_index
from models.retrieval.index import VECTORS, write_index
from tests.support.openi_folder import write_openi
from tests.support.pipeline_harness import PipelineHarness
from worker.model_loading import load_searcher


@pytest.fixture(scope="module")
def predictor(tiny_bundle: Path) -> Predictor:
    return Predictor.load(tiny_bundle)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory, predictor: Predictor) -> Path:
    """Index of drawn films by the tiny bundle; every case has a report."""
    films = read_openi(write_openi(tmp_path_factory.mktemp("openi"), {"train": 8}), load_vocabulary())
    folder = tmp_path_factory.mktemp("index")
    built = build_index(predictor, "openi", films.split("train"), name="openi train")
    cases = (dataclasses.replace(case, report=f"What is said of {case.identifier}.") for case in built.cases)
    write_index(folder, dataclasses.replace(built, cases=tuple(cases)))
    return folder


def searching(settings: Settings, index: Path, **options: object) -> Settings:
    return settings.model_copy(update={"retrieval": RetrievalSettings(index=index, **options)})


@pytest.fixture
def similar(settings: Settings, index: Path) -> Iterator[PipelineHarness]:
    bench = PipelineHarness(searching(settings, index))
    with bench.pipeline:
        yield bench


def results(bench: PipelineHarness) -> dict[int, Dataset]:
    """Reports that wait to be sent, by Series Number."""
    taken = DeliveryQueue(bench.index.engine).take("pacs", LeaseOwner("elsewhere", 1, 1), 60)
    found = [dcmread(bench.data_dir.results.path(entry.file)) for entry in taken]
    return {int(ds.SeriesNumber): ds for ds in found if ds.Modality == "SR"}


def words(item: Dataset) -> list[str]:
    own = [str(item.TextValue)] if "TextValue" in item else []
    return own + [word for child in item.get("ContentSequence", []) for word in words(child)]


def test_a_study_comes_back_with_its_similar_cases(similar: PipelineHarness):
    uid = similar.receive()
    similar.complete()
    assert similar.pipeline.analyse(uid, 1) is StudyState.REPORTED
    reports = results(similar)
    assert set(reports) == {9901, 9907}
    said = words(reports[9907])
    ranks = [word.rsplit(" ", 1)[1] for word in said if " rank " in word]
    assert ranks == ["1", "2", "3", "4", "5"]
    index = similar.pipeline._reader.models.first._searcher.index
    assert f"index_sha256={index.digest}" in said
    # Readers of this node see what the reports of the cases say; no object holds it.
    kept = AnalysisRecords(similar.index.engine).latest(1).record.similar.cases
    assert [case.report for case in kept] == [f"What is said of {case.identifier}." for case in kept]
    assert not [word for word in said if word.startswith("What is said of")]


def test_without_an_index_that_is_said_and_nothing_else_changes(
    bench: PipelineHarness, settings: Settings, predictor: Predictor, caplog: pytest.LogCaptureFixture
):
    with caplog.at_level(logging.INFO):
        assert load_searcher(settings, predictor) is None
    assert "dicom-node cases build tiny-0.0.1" in caplog.text
    uid = bench.receive()
    bench.complete()
    assert bench.pipeline.analyse(uid, 1) is StudyState.REPORTED
    assert set(results(bench)) == {9901}


def test_it_can_be_turned_off(settings: Settings, index: Path, predictor: Predictor):
    assert load_searcher(searching(settings, index, enabled=False), predictor) is None


def test_the_index_of_the_bundle_is_found_in_the_data_directory(
    settings: Settings, index: Path, predictor: Predictor
):
    place = settings.index_of(predictor.bundle.manifest.folder)
    assert place == settings.data_dir / "indexes" / "tiny-0.0.1"
    place.parent.mkdir(parents=True)
    place.symlink_to(index)
    assert len(load_searcher(settings, predictor)) == 8


def test_an_index_of_other_weights_or_a_damaged_one_stops_the_worker_at_its_start(
    settings: Settings, index: Path, predictor: Predictor, tmp_path: Path
):
    films = read_openi(write_openi(tmp_path / "openi", {"train": 2}), load_vocabulary())
    made = build_index(predictor, "openi", films.split("train"), name="openi train")
    write_index(
        tmp_path / "other",
        dataclasses.replace(made, origin=dataclasses.replace(made.origin, weights_sha256="f" * 64)),
    )
    with pytest.raises(ConfigurationError, match=r"was built by tiny-0.0.1 .*build it anew"):
        load_searcher(searching(settings, tmp_path / "other"), predictor)
    write_index(tmp_path / "damaged", made)
    (tmp_path / "damaged" / VECTORS).write_bytes(b"damaged")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_searcher(searching(settings, tmp_path / "damaged"), predictor)


def test_more_cases_than_there_are_gives_all_of_them(settings: Settings, index: Path):
    bench = PipelineHarness(searching(settings, index, k=50))
    with bench.pipeline:
        uid = bench.receive()
        bench.complete()
        bench.pipeline.analyse(uid, 1)
        assert sum(" rank " in word for word in words(results(bench)[9907])) == 8


def test_a_search_that_fails_costs_only_the_similar_cases(
    similar: PipelineHarness, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def fail(_queries: np.ndarray, _k: int) -> None:
        raise RetrievalError("pgvector: the database says: gone")

    monkeypatch.setattr(similar.pipeline._reader.models.first._searcher, "nearest", fail)
    uid = similar.receive()
    similar.complete()
    assert similar.pipeline.analyse(uid, 1) is StudyState.REPORTED
    assert set(results(similar)) == {9901}
    assert "no similar cases: pgvector: the database says: gone" in caplog.text
