from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from dicom_node.config.settings import Settings
from dicom_node.errors import StorageFailed, StorageFull
from dicom_node.runtime.lease_owner import LeaseOwner
from dicom_node.store.analysis_leases import AnalysisLeases
from dicom_node.store.audit import IndexQueries
from dicom_node.store.database import KeyConflict, ValueRefused
from dicom_node.store.files import Spool
from dicom_node.store.states import ResultState, StudyState
from models.bundles.predictor import Predictor
from models.errors import ModelError
from tests.support.pipeline_harness import PipelineHarness, reason, results
from worker.study_reader import StudyReader


def test_a_film_becomes_a_report_and_a_picture_for_each_reported_finding(bench: PipelineHarness) -> None:
    uid = bench.receive()
    bench.complete()
    assert bench.pipeline.analyse(uid, 1) is StudyState.REPORTED
    report, *captures = results(bench)
    assert report.Modality == "SR"
    assert {ds.Modality for ds in captures} <= {"OT"}
    assert {ds.StudyInstanceUID for ds in [report, *captures]} == {uid}
    assert IndexQueries(bench.index.engine).audit(bench.data_dir.spool, bench.data_dir.results).conserved


def test_a_second_message_does_nothing(bench: PipelineHarness) -> None:
    uid = bench.receive()
    bench.complete()
    bench.pipeline.analyse(uid, 1)
    before = results(bench)
    assert bench.pipeline.analyse(uid, 1) is None
    assert bench.pipeline.analyse(uid, 2) is None
    assert len(before) == sum(IndexQueries(bench.index.engine).result_counts().values())


def test_a_hundred_repeats_of_a_study_give_one_report_and_one_set_of_pictures(bench: PipelineHarness) -> None:
    uid = bench.receive()
    bench.complete()
    assert bench.pipeline.analyse(uid, 1) is StudyState.REPORTED
    made = sorted(bench.data_dir.results.names())
    for _ in range(100):
        assert bench.receive() == uid
        bench.complete()
        assert bench.index.take_queueable(60) == []
        assert bench.pipeline.analyse(uid, 1) is None
        assert bench.pipeline.analyse(uid, 2) is None
    assert sorted(bench.data_dir.results.names()) == made
    waiting = [str(ds.SOPInstanceUID) for ds in results(bench)]
    assert len(set(waiting)) == len(waiting) == len(made)


def test_the_same_study_twice_gives_the_same_bytes(bench: PipelineHarness, tmp_path: Path) -> None:
    uid = bench.receive()
    bench.complete()
    leases = AnalysisLeases(bench.index.engine)
    lost = leases.acquire(
        uid, 1, LeaseOwner("elsewhere", 1, 1), -1
    )  # a worker that died after it wrote its files
    assert lost is not None
    leases.release_expired()
    bench.pipeline.analyse(uid, 1)
    first = sorted(bench.data_dir.results.names())
    other = PipelineHarness(bench.settings.model_copy(update={"data_dir": tmp_path / "other"}))
    with other.pipeline:
        other.index.engine.dispose()
        other.pipeline._store_results(
            other.pipeline._reader.read(
                _revision(lost), [bench.data_dir.spool.path(entry.file) for entry in lost.instances]
            )
        )
    assert sorted(other.data_dir.results.names()) == first


def _revision(lease: object) -> object:
    from worker.study_revision import StudyRevision

    return StudyRevision(lease.study_instance_uid, lease.revision, lease.created)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("elements", "words"),
    [
        ({"body_part": "HAND"}, "HAND"),
        ({"PixelData": b"\0\0"}, "pixel"),
        ({"photometric": "RGB"}, "RGB"),
    ],
)
def test_what_cannot_be_analysed_is_answered_with_the_reason(
    bench: PipelineHarness, elements: dict[str, object], words: str
) -> None:
    if elements.get("photometric") == "RGB":
        elements = {"PhotometricInterpretation": "RGB"}
    uid = bench.receive(**elements)
    bench.complete()
    assert bench.pipeline.analyse(uid, 1) is StudyState.SKIPPED
    assert words.lower() in reason(bench).lower()
    (answer,) = results(bench)
    assert answer.Modality == "SR"


def test_only_results_of_a_node_make_a_study_without_an_answer(bench: PipelineHarness) -> None:
    uid = bench.receive(ManufacturerModelName="dicom-node")
    bench.complete()
    assert bench.pipeline.analyse(uid, 1) is StudyState.SKIPPED
    assert "set aside" in reason(bench)
    assert results(bench) == []


def test_a_full_disk_puts_the_study_back(bench: PipelineHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    uid = bench.receive()
    bench.complete()

    def full(self: Spool, content: bytes) -> None:
        raise StorageFull("results: No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Spool, "keep", full)
        assert bench.pipeline.analyse(uid, 1) is None
    assert "No space left" in reason(bench)
    assert bench.pipeline.analyse(uid, 1) is StudyState.REPORTED


def test_a_lost_file_is_a_failure_with_a_reason(bench: PipelineHarness) -> None:
    uid = bench.receive()
    bench.complete()
    for name in list(bench.data_dir.spool.names()):
        bench.data_dir.spool.path(name).unlink()
    assert bench.pipeline.analyse(uid, 1) is StudyState.FAILED
    assert "lost 1 files" in reason(bench)


def lose_worker(bench: PipelineHarness) -> None:
    """Let the leases of a worker that is gone lapse."""
    with bench.index.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE study SET lease_until = 0 WHERE state = 'ANALYSING'")
    AnalysisLeases(bench.index.engine).release_expired()


def tries(bench: PipelineHarness) -> int:
    with bench.index.engine.connect().execution_options(reading=True) as connection:
        return int(connection.exec_driver_sql("SELECT max(attempts) FROM study").scalar_one())


def test_a_study_that_keeps_failing_is_set_aside_and_says_so(
    bench: PipelineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    uid = bench.receive()
    good = bench.receive(study=2, series=2, seed=2)
    bench.complete()

    def crash(self: Predictor, studies: object, **_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(Predictor, "trace", crash)
        for number in (1, 2):
            assert bench.pipeline.analyse(uid, 1) is None
            assert tries(bench) == number
    assert bench.pipeline.analyse(uid, 1) is StudyState.FAILED
    assert "2 times, the last time with: MemoryError" in reason(bench)
    assert [ds.Modality for ds in results(bench)] == ["SR"]
    assert bench.pipeline.analyse(good, 1) is StudyState.REPORTED


def test_a_worker_that_was_lost_counts_as_a_try(bench: PipelineHarness) -> None:
    uid = bench.receive()
    bench.complete()
    leases = AnalysisLeases(bench.index.engine)
    for _ in range(2):
        assert leases.acquire(uid, 1, LeaseOwner("elsewhere", 1, 1), 60) is not None
        assert bench.pipeline.analyse(uid, 1) is None  # still leased
        lose_worker(bench)
    assert bench.pipeline.analyse(uid, 1) is StudyState.FAILED
    assert "the worker ended" in reason(bench)


@pytest.mark.parametrize("content", [b"", bytes(128) + b"DICM", b"no DICOM at all" * 20])
def test_a_report_that_was_damaged_is_no_predecessor(
    bench: PipelineHarness, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    uid = bench.receive()
    bench.complete()
    assert bench.pipeline.analyse(uid, 1) is StudyState.REPORTED
    for name in bench.data_dir.results.names():
        bench.data_dir.results.path(name).write_bytes(content)  # a disk that lost its last blocks
    bench.index.retry([uid], states=[StudyState.REPORTED])
    assert bench.pipeline.analyse(uid, 2) is StudyState.REPORTED
    assert "does not name the sr of revision 1" in caplog.text


def test_a_film_that_cannot_be_read_ends_in_a_failure(
    bench: PipelineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of the disk in one file is no reason to try its study for ever."""
    uid = bench.receive()
    bench.complete()

    def broken(self: StudyReader, *_: object) -> None:
        raise StorageFailed("film: Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(StudyReader, "read", broken)
        patch.setattr(StudyReader, "refuse", broken)
        assert [bench.pipeline.analyse(uid, 1) for _ in range(3)] == [None, None, StudyState.FAILED]
    assert "Input/output error" in reason(bench)
    assert results(bench) == []


@pytest.mark.parametrize("error", [ValueError("odd header"), KeyConflict("twice"), ValueRefused("NUL")])
def test_a_failure_that_cannot_be_reported_is_a_failure_without_a_report(
    bench: PipelineHarness, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    uid = bench.receive()
    bench.complete()
    finish = AnalysisLeases.finish

    def refuse_results(self: AnalysisLeases, *arguments: Any) -> bool:
        if arguments[3]:
            raise error
        return finish(self, *arguments)

    monkeypatch.setattr(AnalysisLeases, "finish", refuse_results)
    assert [bench.pipeline.analyse(uid, 1) for _ in range(3)] == [None, None, StudyState.FAILED]
    assert results(bench) == []


def test_a_failure_whose_report_ends_the_worker_is_a_failure_without_a_report(
    bench: PipelineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    uid = bench.receive()
    bench.complete()
    leases = AnalysisLeases(bench.index.engine)
    for _ in range(3):  # two tries, and the one that writes the report
        assert leases.acquire(uid, 1, LeaseOwner("elsewhere", 1, 1), 60) is not None
        lose_worker(bench)
    monkeypatch.setattr(StudyReader, "refuse", None)
    assert bench.pipeline.analyse(uid, 1) is StudyState.FAILED


def test_a_late_image_makes_the_running_analysis_void(
    bench: PipelineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    uid = bench.receive()
    bench.complete()
    read = Predictor.trace

    def late(self: Predictor, studies: object, **options: object) -> object:
        bench.receive(instance=2, seed=2)
        return read(self, studies, **options)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Predictor, "trace", late)
        assert bench.pipeline.analyse(uid, 1) is None
    assert results(bench) == []
    bench.complete()
    assert bench.pipeline.analyse(uid, 2) is StudyState.REPORTED
    assert IndexQueries(bench.index.engine).result_counts()[ResultState.ENCODED] >= 1


def test_a_new_revision_names_the_report_that_it_takes_the_place_of(bench: PipelineHarness) -> None:
    uid = bench.receive()
    bench.complete()
    bench.pipeline.analyse(uid, 1)
    first = results(bench)[0]
    bench.receive(instance=2, seed=3)  # a late image
    bench.complete()
    assert bench.pipeline.analyse(uid, 2) is StudyState.REPORTED
    second = next(ds for ds in results(bench) if ds.Modality == "SR")
    assert bench.index.retry([uid], states=[StudyState.REPORTED]) == 1  # such as for another bundle
    assert bench.pipeline.analyse(uid, 3) is StudyState.REPORTED
    third = next(ds for ds in results(bench) if ds.Modality == "SR")
    for earlier, later in ((first, second), (second, third)):
        (study,) = later.PredecessorDocumentsSequence
        (series,) = study.ReferencedSeriesSequence
        assert (study.StudyInstanceUID, series.SeriesInstanceUID) == (uid, earlier.SeriesInstanceUID)
        (named,) = series.ReferencedSOPSequence
        assert (named.ReferencedSOPClassUID, named.ReferencedSOPInstanceUID) == (
            earlier.SOPClassUID,
            earlier.SOPInstanceUID,
        )
    assert "PredecessorDocumentsSequence" not in first


def test_a_failure_is_a_report_too(bench: PipelineHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    uid = bench.receive()
    bench.complete()

    def nonsense(self: Predictor, studies: object, **_: object) -> None:
        raise ModelError("the model's answer is not a number")

    with monkeypatch.context() as patch:
        patch.setattr(Predictor, "trace", nonsense)
        assert bench.pipeline.analyse(uid, 1) is StudyState.FAILED
    (answer,) = results(bench)
    said = answer.to_json()
    assert "not a number" in said
    assert "MODEL_FAILED" in said
    assert answer.CompletionFlag == "PARTIAL"
    assert "Image Library" not in said  # of images that were analysed


def test_a_destination_gets_the_kinds_that_it_wants(settings: Settings) -> None:
    pacs = settings.destinations[0].model_copy(update={"results": ("sr",)})
    wanting = settings.model_copy(update={"destinations": (pacs,)})
    with PipelineHarness(wanting).pipeline as pipeline:
        bench = PipelineHarness(wanting)
        uid = bench.receive()
        bench.complete()
        assert pipeline.analyse(uid, 1) is StudyState.REPORTED
        assert [ds.Modality for ds in results(bench)] == ["SR"]
        kept = {
            dcmread(bench.data_dir.results.path(name)).Modality for name in bench.data_dir.results.names()
        }
        assert kept == {"SR", "OT"}
