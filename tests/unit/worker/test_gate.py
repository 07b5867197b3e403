"""Gate in the worker: a refused film gets a coded reason, and the rest of the study is analysed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from sqlalchemy import select

from dicom_node.config.sections import WorkerSettings
from dicom_node.config.settings import Settings
from dicom_node.errors import ConfigurationError
from dicom_node.results import codes
from dicom_node.store.analysis_records import AnalysisRecords
from dicom_node.store.states import StudyState
from dicom_node.store.tables import result, study
from tests.support.pipeline_harness import PipelineHarness, reason, results
from tests.support.sr_content import text_of
from worker.model_loading import load_gate
from worker.replay import replay

NOISE = np.random.default_rng(1).integers(0, 4095, (300, 300))


@pytest.fixture
def bench(settings: Settings) -> Iterator[PipelineHarness]:
    worker = settings.worker.model_copy(update={"gate": "gate"})
    bench = PipelineHarness(settings.model_copy(update={"worker": worker}))
    with bench.pipeline:
        yield bench


@pytest.fixture(scope="session")
def chest(films_root: Path) -> np.ndarray:
    """A real frontal film."""
    path = films_root / "openi" / "images" / "1000_IM-0003-1001.jpg"
    return np.asarray(Image.open(path).convert("L"), np.float32) / np.float32(255)


def test_a_study_that_is_turned_away_is_skipped_with_the_coded_reason(bench: PipelineHarness) -> None:
    uid = bench.receive(pixels=NOISE)
    bench.complete()
    assert bench.pipeline.analyse(uid, 1) is StudyState.SKIPPED
    assert "no chest film" in reason(bench)
    (answer,) = results(bench)
    assert answer.Modality == "SR"
    assert codes.REFUSALS["not_chest"].code.value in text_of(answer)


def test_a_refused_film_is_read_when_an_admin_asks_for_it_and_the_report_says_so(
    bench: PipelineHarness,
) -> None:
    uid = bench.receive(pixels=NOISE)
    bench.complete()
    bench.pipeline.analyse(uid, 1)
    bench.index.retry([uid], states=[StudyState.SKIPPED], override_gate=True)
    assert bench.pipeline.analyse(uid, 2) is StudyState.REPORTED
    record = AnalysisRecords(bench.index.engine).latest(1)
    assert record is not None
    assert codes.GATE_OVERRIDDEN in record.record.parameters
    (image,) = record.record.images
    (remark,) = image.remarks
    assert not image.reason
    assert "the gate refused this film, because the picture is no chest film" in remark
    assert "an admin asked for it" in remark
    with bench.index.engine.connect() as connection:
        query = select(result.c.file).where(result.c.kind == "sr", result.c.revision == 2)
        file = connection.execute(query).scalar_one()
    report = text_of(dcmread(bench.data_dir.results.path(file)))
    assert remark in report
    assert codes.GATE_OVERRIDDEN in report
    assert {each.difference for each in replay(bench.settings, bench.index, uid)} == {""}
    with bench.index.engine.begin() as connection:  # as the index is when it was made anew, of reports
        connection.execute(study.update().values(gate_overridden=False))
    assert {each.difference for each in replay(bench.settings, bench.index, uid)} == {""}


def test_an_override_changes_nothing_for_a_picture_with_nothing_to_read(bench: PipelineHarness) -> None:
    uid = bench.receive(pixels=np.full((300, 300), 7))
    bench.complete()
    bench.pipeline.analyse(uid, 1)
    bench.index.retry([uid], states=[StudyState.SKIPPED], override_gate=True)
    assert bench.pipeline.analyse(uid, 2) is StudyState.SKIPPED
    assert {each.difference for each in replay(bench.settings, bench.index, uid)} == {""}


@pytest.mark.films
def test_an_override_leaves_what_the_gate_corrects_corrected(
    bench: PipelineHarness, chest: np.ndarray
) -> None:
    uid = bench.receive(pixels=NOISE, instance=2)
    bench.receive(pixels=np.rot90(chest), instance=1)
    bench.complete()
    bench.pipeline.analyse(uid, 1)
    bench.index.retry([uid], states=[StudyState.REPORTED], override_gate=True)
    assert bench.pipeline.analyse(uid, 2) is StudyState.REPORTED
    record = AnalysisRecords(bench.index.engine).latest(1)
    assert record is not None
    noise, turned = record.record.images
    assert (noise.reason, turned.reason) == ("", "")
    assert (turned.turns, turned.mirrored, turned.view) == (3, False, "frontal")
    assert not any("refused" in remark for remark in turned.remarks)
    assert {each.difference for each in replay(bench.settings, bench.index, uid)} == {""}


@pytest.mark.films
def test_an_inverted_film_is_left_out_and_the_other_one_is_read(
    bench: PipelineHarness, chest: np.ndarray
) -> None:
    uid = bench.receive(pixels=1 - chest, instance=2)
    assert bench.receive(pixels=chest, instance=1) == uid
    bench.complete()
    assert bench.pipeline.analyse(uid, 1) is StudyState.REPORTED
    report = results(bench)[0]
    assert "it is inverted" in text_of(report)
    assert "gate=gate 0.2.0" in text_of(report)
    evidence = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
    assert len(evidence.ReferencedSOPSequence) == 2


@pytest.mark.films
def test_an_inverted_film_alone_is_refused_as_such(bench: PipelineHarness, chest: np.ndarray) -> None:
    uid = bench.receive(pixels=1 - chest)
    bench.complete()
    assert bench.pipeline.analyse(uid, 1) is StudyState.SKIPPED
    (answer,) = results(bench)
    assert codes.REFUSALS["inverted"].code.value in text_of(answer)


@pytest.mark.films
def test_what_the_picture_shows_goes_before_a_wrong_view_position(
    bench: PipelineHarness, chest: np.ndarray
) -> None:
    uid = bench.receive(pixels=chest, ViewPosition="LL")
    bench.complete()
    assert bench.pipeline.analyse(uid, 1) is StudyState.REPORTED
    assert codes.VIEWS["LL"].value not in text_of(results(bench)[0])


def test_the_gate_can_be_turned_off() -> None:
    assert load_gate(WorkerSettings(gate="")) is None


def test_a_gate_that_is_not_there_is_one_sentence() -> None:
    with pytest.raises(ConfigurationError, match=r"worker\.gate nowhere: no bundle 'nowhere'"):
        load_gate(WorkerSettings(gate="nowhere", device="cpu"))
