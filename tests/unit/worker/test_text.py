"""Models that read text get the indication of the study, and the report says what they got."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import Dataset

from dicom_node.config.sections import WorkerSettings
from dicom_node.config.settings import Settings
from dicom_node.results import codes
from dicom_node.store.analysis_records import AnalysisRecords
from dicom_node.store.states import StudyState
from tests.support.model_families import write_family
from tests.support.pipeline_harness import PipelineHarness, reason, results
from tests.support.sr_content import text_of


def bench_of(settings: Settings, bundle: Path) -> PipelineHarness:
    worker: WorkerSettings = settings.worker.model_copy(update={"bundle": str(bundle)})
    return PipelineHarness(settings.model_copy(update={"worker": worker}))


@pytest.fixture
def reader(settings: Settings, tmp_path: Path) -> Iterator[PipelineHarness]:
    bench = bench_of(settings, write_family(tmp_path, "crossattention").path)
    with bench.pipeline:
        yield bench


@pytest.fixture
def needy(settings: Settings, tmp_path: Path) -> Iterator[PipelineHarness]:
    bench = bench_of(settings, write_family(tmp_path, "crossattention", text="required").path)
    with bench.pipeline:
        yield bench


def certainties(report: Dataset) -> list[float]:
    found = [float(item.NumericValue) for item in _items(report) if item.ValueType == "NUM" for item in [
        item.MeasuredValueSequence[0]
    ]]  # fmt: skip
    assert found
    return found


def _items(item: Dataset) -> Iterator[Dataset]:
    for child in item.get("ContentSequence", []):
        yield child
        yield from _items(child)


def test_the_indication_enters_the_answer_and_the_report_says_so(reader: PipelineHarness) -> None:
    asked = reader.receive(AdditionalPatientHistory="chronic cough, fever", study=1)
    silent = reader.receive(study=2)
    reader.complete()
    assert reader.pipeline.analyse(asked, 1) is StudyState.REPORTED
    assert reader.pipeline.analyse(silent, 1) is StudyState.REPORTED
    first, second = (ds for ds in results(reader) if ds.Modality == "SR")
    assert "text=indication" in text_of(first)
    assert "text=none" in text_of(second)
    assert certainties(first) != certainties(second)


def test_the_words_of_the_text_are_weighed_for_the_page_when_that_is_asked_for(
    settings: Settings, tmp_path: Path
) -> None:
    results_of = settings.results.model_copy(update={"word_limit": 2})
    asking = settings.model_copy(update={"results": results_of})
    bench = bench_of(asking, write_family(tmp_path, "crossattention").path)
    with bench.pipeline:
        asked = bench.receive(AdditionalPatientHistory="chronic cough, fever", study=1)
        silent = bench.receive(study=2)
        bench.complete()
        for uid in (asked, silent):
            assert bench.pipeline.analyse(uid, 1) is StudyState.REPORTED
        readings = AnalysisRecords(bench.index.engine)
        first, second = (readings.latest(number) for number in (1, 2))
    assert first is not None
    assert second is not None
    assert second.record.words == ()
    present = [entry.key for entry in first.record.findings if entry.presence == "present"]
    assert present
    assert {each.key for each in first.record.words} <= set(first.record.names)
    assert 0 < len(first.record.words) <= 2
    for each in first.record.words:
        assert [word for word, _ in each.words] == ["chronic", "cough", ",", "fever", "."]
        assert any(weight for _, weight in each.words)


def test_no_words_are_weighed_unless_that_is_asked_for(reader: PipelineHarness) -> None:
    uid = reader.receive(AdditionalPatientHistory="chronic cough, fever")
    reader.complete()
    assert reader.pipeline.analyse(uid, 1) is StudyState.REPORTED
    kept = AnalysisRecords(reader.index.engine).latest(1)
    assert kept is not None
    assert kept.record.words == ()


def test_a_model_that_needs_text_says_that_there_is_none(needy: PipelineHarness) -> None:
    uid = needy.receive()
    needy.complete()
    assert needy.pipeline.analyse(uid, 1) is StudyState.SKIPPED
    assert "needs an indication" in reason(needy)
    (answer,) = results(needy)
    assert codes.REFUSALS["no_text"].code.value in text_of(answer)


def test_a_model_that_needs_text_reads_a_study_that_brings_it(needy: PipelineHarness) -> None:
    uid = needy.receive(AdditionalPatientHistory="cough")
    needy.complete()
    assert needy.pipeline.analyse(uid, 1) is StudyState.REPORTED
