"""Retention in the sweep, and what the worker does without films that were purged."""

from __future__ import annotations

import re
import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import select

from dicom_node.audit_trail.trail import AuditTrail
from dicom_node.config.retention import RetentionSettings
from dicom_node.config.settings import Settings
from dicom_node.delivery.withdrawal import withdraw
from dicom_node.errors import NodeError
from dicom_node.results import codes
from dicom_node.store import database
from dicom_node.store.audit import IndexQueries
from dicom_node.store.states import StudyState
from dicom_node.store.tables import disk_usage
from tests.support.offline_node import OfflineNode
from tests.support.peers import until
from tests.support.pipeline_harness import PipelineHarness, reason, results
from worker.replay import replay
from worker.retention import RetentionTask

RULES = RetentionSettings(unconfirmed_days=10, check_seconds=0.01)
DAY = 86_400


def with_rules(settings: Settings) -> Settings:
    return settings.model_copy(update={"retention": RULES, "destinations": ()})


def later() -> float:
    return time.time() + 11 * DAY


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return with_rules(settings)


def reported(bench: PipelineHarness) -> str:
    """A study that was reported and kept here, and whose files were purged."""
    uid = bench.receive()
    bench.complete()
    assert bench.pipeline.analyse(uid, 1) is StudyState.REPORTED
    assert RetentionTask(bench.settings, bench.index.engine, later).once()
    assert list(bench.data_dir.spool.names()) == []
    return uid


def test_a_replay_says_that_the_film_was_purged(bench: PipelineHarness) -> None:
    uid = reported(bench)
    with pytest.raises(
        NodeError, match=r"a film was purged on \d{4}-\d\d-\d\d by retention.unconfirmed_days"
    ):
        replay(bench.settings, bench.index, uid)


def test_results_that_were_purged_are_withdrawn_by_nobody_and_that_is_said(bench: PipelineHarness) -> None:
    uid = reported(bench)
    with pytest.raises(NodeError, match="so no rejection note can name it"):
        withdraw(bench.settings, bench.index, uid, title=codes.REJECTED_FOR_SAFETY, reason="x")


def test_a_late_film_is_not_read_without_the_others_and_the_reason_says_what_to_do(
    bench: PipelineHarness,
) -> None:
    uid = reported(bench)
    bench.receive(instance=2, seed=2)
    bench.complete()
    assert bench.pipeline.analyse(uid, 2) is StudyState.FAILED
    assert reason(bench).startswith("a film was purged on")
    assert "send the whole study again" in reason(bench)
    bench.receive()
    bench.complete()
    assert bench.pipeline.analyse(uid, 3) is StudyState.REPORTED
    assert IndexQueries(bench.index.engine).audit(bench.data_dir.spool, bench.data_dir.results).conserved


def test_the_results_are_those_of_every_film_after_all_came_again(bench: PipelineHarness) -> None:
    uid = reported(bench)
    bench.receive()
    assert bench.index.retry([uid], states=[StudyState.REPORTED]) == 1
    assert bench.pipeline.analyse(uid, 2) is StudyState.REPORTED
    assert results(bench) == []  # kept here


def test_the_sweep_purges_and_measures_by_itself(tmp_path: Path) -> None:
    node = OfflineNode(tmp_path)
    node.finish(1, StudyState.REPORTED, destinations=())
    stop = threading.Event()
    RetentionTask(with_rules(node.settings), node.index.engine, later).start(stop)
    try:
        until(lambda: not list(node.data_dir.spool.names()), 30, "the film is purged")
    finally:
        stop.set()
    with database.reading(node.index.engine) as connection:
        assert len(connection.execute(select(disk_usage)).all()) == 1
    node.close()


def test_a_file_that_went_stale_ends_no_retention(
    bench: PipelineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, stop = RetentionTask(bench.settings, bench.index.engine, later), threading.Event()
    task._seconds = 0
    errors = [OSError(116, "Stale file handle")]

    def once(_: threading.Event) -> None:
        if errors:
            raise errors.pop()
        stop.set()

    monkeypatch.setattr(task, "once", once)
    task.run(stop)
    assert stop.is_set()


def test_a_purge_is_in_the_audit_trail_with_its_patient_and_rule(bench: PipelineHarness) -> None:
    uid = bench.receive()
    trail = AuditTrail.open(bench.settings, bench.index.engine)
    patient = trail.subjects.of_uid(uid).patient
    assert re.fullmatch(r"P-[0-9a-f]{10}", patient)
    bench.complete()
    bench.pipeline.analyse(uid, 1)
    RetentionTask(bench.settings, bench.index.engine, later).once()
    said = "".join(path.read_text() for path in sorted(bench.data_dir.audit_trail.iterdir()))
    entries = [line for line in said.splitlines() if "110105" in line]
    assert entries
    assert all("retention.unconfirmed_days" in entry for entry in entries)
    assert patient in entries[0], "the film was read before it went"
    named = {name for entry in entries for name in re.findall(r"P-[0-9a-f]{10}", entry)}
    assert named == {patient}, "and nobody else is named afterwards"
