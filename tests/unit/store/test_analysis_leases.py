from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from dicom_node.runtime.lease_owner import LeaseOwner
from dicom_node.store import analysis_leases, database
from dicom_node.store.analysis_leases import AnalysisLeases, lease_expired
from dicom_node.store.analysis_records import AnalysisRecord, AnalysisRecords
from dicom_node.store.audit import IndexQueries
from dicom_node.store.delivery_queue import DeliveryQueue
from dicom_node.store.files import Spool
from dicom_node.store.index import Index
from dicom_node.store.states import ResultState, StudyState
from dicom_node.store.tables import study
from tests.support.clock import Clock
from tests.support.index_records import (
    THIS_PROCESS,
    complete_study,
    encoded_result,
    lease_study,
    received_instance,
)


def state(index: Index) -> tuple[StudyState, str]:
    row = IndexQueries(index.engine).studies()[0]
    return row.state, row.reason


def test_a_study_is_leased_once(index: Index, leases: AnalysisLeases) -> None:
    complete_study(index)
    assert lease_study(leases).attempts == 1
    assert leases.acquire("1.2", 1, THIS_PROCESS, 30) is None


def test_a_stale_revision_cannot_be_leased(index: Index, leases: AnalysisLeases) -> None:
    complete_study(index)
    assert leases.acquire("1.2", 2, THIS_PROCESS, 30) is None
    assert leases.acquire("9.9", 1, THIS_PROCESS, 30) is None


def test_what_was_set_aside_is_not_read(index: Index, leases: AnalysisLeases) -> None:
    index.add_instance(received_instance())
    index.add_instance(received_instance(digest="b" * 64))
    index.complete_due(0, 300)
    assert [entry.digest for entry in lease_study(leases).instances] == ["a" * 64]


def test_the_outcome_its_results_and_their_deliveries_are_one_change(
    index: Index, leases: AnalysisLeases, delivery_queue: DeliveryQueue
) -> None:
    complete_study(index)
    assert leases.finish(
        lease_study(leases), StudyState.REPORTED, "", [encoded_result()], ["pacs", "orthanc"]
    )
    assert state(index) == (StudyState.REPORTED, "")
    assert {entry.destination: entry.states for entry in delivery_queue.backlogs()} == {
        "orthanc": {ResultState.ENCODED: 1},
        "pacs": {ResultState.ENCODED: 1},
    }


def test_a_lease_says_what_is_to_be_analysed(index: Index, leases: AnalysisLeases, clock: Clock) -> None:
    index.add_instance(received_instance(study="1.3", sop="1.3.1", digest="e" * 64))
    index.add_instance(received_instance())
    index.add_instance(received_instance(sop="1.2.4", digest="b" * 64))
    index.complete_due(0, 300)
    completed = clock.now
    clock.now += 100
    lease = lease_study(leases)
    assert (lease.study_instance_uid, lease.revision, lease.owner) == ("1.2", 1, str(THIS_PROCESS))
    assert lease.created == datetime.fromtimestamp(completed, UTC)
    assert [(each.study_instance_uid, each.digest) for each in lease.instances] == [
        ("1.2", "a" * 64),
        ("1.2", "b" * 64),
    ]
    with database.reading(index.engine) as connection:
        query = select(study.c.updated_at, study.c.lease_until).where(study.c.id == lease.study_id)
        assert tuple(connection.execute(query).one()) == (clock.now, clock.now + 30)


def test_a_lease_that_another_worker_has_taken_over_records_nothing(
    index: Index, leases: AnalysisLeases, clock: Clock
) -> None:
    complete_study(index)
    lost = lease_study(leases)
    clock.now += 31
    leases.release_expired()
    assert leases.acquire("1.2", 1, LeaseOwner("elsewhere", 1, 1), 30) is not None
    assert not leases.renew(lost, 30)
    assert not leases.finish(lost, StudyState.REPORTED, "", [encoded_result()], [])


def test_a_lease_of_the_revision_before_records_nothing(index: Index, leases: AnalysisLeases) -> None:
    complete_study(index)
    before = lease_study(leases)
    index.add_instance(received_instance(sop="1.2.4", digest="b" * 64))
    index.complete_due(0, 300)
    lease_study(leases, revision=2)  # by the same worker
    assert not leases.finish(before, StudyState.REPORTED, "", [encoded_result()], [])


def test_of_two_studies_that_one_worker_holds_each_has_its_own_outcome(
    index: Index, leases: AnalysisLeases
) -> None:
    """A worker decodes its next study while it reads the present one."""
    complete_study(index)
    index.add_instance(received_instance(study="1.3", sop="1.3.1", digest="e" * 64))
    index.complete_due(0, 300)
    first, second = lease_study(leases), leases.acquire("1.3", 1, THIS_PROCESS, 30)
    assert second is not None
    leases.finish(second, StudyState.SKIPPED, "no chest film", [], [])
    queries = IndexQueries(index.engine)
    assert queries.study_counts()[StudyState.ANALYSING] == 1
    assert leases.finish(first, StudyState.REPORTED, "", [encoded_result()], [])
    counts = queries.study_counts()
    assert (counts[StudyState.REPORTED], counts[StudyState.SKIPPED]) == (1, 1)


def test_records_of_several_models_are_kept_in_their_order(index: Index, leases: AnalysisLeases) -> None:
    complete_study(index)
    records = [AnalysisRecord(name, "1", (), "absent", (), ()) for name in ("first", "second")]
    lease = lease_study(leases)
    assert leases.finish(lease, StudyState.REPORTED, "", [encoded_result()], [], records)
    kept = AnalysisRecords(index.engine).all_latest_of("1.2")
    assert [each.model for each in kept] == ["first", "second"]


def test_a_late_image_takes_the_lease_away(
    index: Index, leases: AnalysisLeases, delivery_queue: DeliveryQueue
) -> None:
    complete_study(index)
    taken = lease_study(leases)
    index.add_instance(received_instance(sop="1.2.4", digest="b" * 64))
    assert not leases.renew(taken, 30)
    assert not leases.finish(taken, StudyState.REPORTED, "", [encoded_result()], ["pacs"])
    assert state(index) == (StudyState.RECEIVING, "")
    assert delivery_queue.backlogs() == []


def test_an_outcome_without_a_reason_is_refused(index: Index, leases: AnalysisLeases) -> None:
    complete_study(index)
    taken = lease_study(leases)
    with pytest.raises(ValueError, match="no outcome"):
        leases.finish(taken, StudyState.SKIPPED, "", [], [])
    with pytest.raises(ValueError, match="no outcome"):
        leases.finish(taken, StudyState.COMPLETE, "why", [], [])


def test_a_silent_worker_loses_its_lease_when_the_lease_ends(
    index: Index, leases: AnalysisLeases, clock: Clock
) -> None:
    complete_study(index)
    taken = lease_study(leases)
    clock.now += 29
    assert leases.release_expired() == 0
    assert leases.renew(taken, 30)
    clock.now += 29
    assert leases.release_expired() == 0
    clock.now += 2
    assert leases.release_expired() == 1
    assert not leases.finish(taken, StudyState.FAILED, "late", [], [])
    assert lease_study(leases).attempts == 2


def test_a_dead_worker_loses_its_lease_at_once(index: Index, leases: AnalysisLeases) -> None:
    complete_study(index)
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    stat = Path(f"/proc/{child.pid}/stat").read_text().rpartition(") ")[2].split()
    owner = replace(THIS_PROCESS, pid=child.pid, started=int(stat[19]))
    assert leases.acquire("1.2", 1, owner, 3600) is not None
    assert leases.release_expired() == 0
    child.kill()
    child.communicate()
    assert leases.release_expired() == 1


@pytest.mark.parametrize(
    ("holder", "until", "expired"),
    [
        ("nobody", None, True),
        ("nobody", 101.0, True),
        ("living", None, True),
        ("living", 99.0, True),
        ("living", 100.0, False),
        ("living", 101.0, False),
        ("dead", 101.0, True),
    ],
)
def test_a_lease_is_held_by_a_living_process_until_its_time_is_over(
    holder: str, until: float | None, expired: bool
) -> None:
    owners = {"living": str(THIS_PROCESS), "dead": str(replace(THIS_PROCESS, started=1))}
    assert lease_expired(owners.get(holder), until, 100.0) is expired


def test_a_fault_that_may_pass_does_not_count_as_a_try(
    index: Index, leases: AnalysisLeases, clock: Clock
) -> None:
    complete_study(index)
    index.take_queueable(300)
    leases.release(lease_study(leases), "disk full", counts=False)
    assert state(index) == (StudyState.COMPLETE, "disk full")
    assert index.take_queueable(300) == []
    clock.now += 301
    assert index.take_queueable(300) == [("1.2", 1)]
    assert lease_study(leases).attempts == 1


def test_a_try_that_counts_is_counted_and_the_next_one_knows_its_error(
    index: Index, leases: AnalysisLeases, clock: Clock
) -> None:
    complete_study(index)
    first = lease_study(leases)
    assert (first.attempts, first.last_error) == (1, "")
    leases.release(first, "a\0b \ud800", counts=True)  # no database takes these
    assert state(index) == (StudyState.COMPLETE, "ab ?")
    second = lease_study(leases)
    assert (second.attempts, second.last_error) == (2, "ab ?")
    clock.now += 3600
    assert leases.release_expired() == 1
    assert "the worker ended" in lease_study(leases).last_error


def test_a_repeat_carries_the_time_of_the_first_try(
    index: Index, leases: AnalysisLeases, clock: Clock
) -> None:
    complete_study(index)
    first = lease_study(leases).created
    clock.now += 100
    leases.release_expired()
    assert lease_study(leases).created == first


def test_a_retry_is_a_new_revision(index: Index, leases: AnalysisLeases) -> None:
    complete_study(index)
    leases.finish(lease_study(leases), StudyState.FAILED, "why", [], [])
    assert index.retry(["9.9"]) == 0
    assert index.retry() == 1
    assert lease_study(leases, revision=2).attempts == 1


def test_a_reported_study_is_retried_only_when_asked(index: Index, leases: AnalysisLeases) -> None:
    complete_study(index)
    leases.finish(lease_study(leases), StudyState.REPORTED, "", [encoded_result()], [])
    assert index.retry() == 0
    assert index.retry(states=[StudyState.REPORTED]) == 1


def test_an_override_of_the_gate_holds_for_every_try_of_one_revision(
    index: Index, leases: AnalysisLeases
) -> None:
    complete_study(index)
    leases.finish(lease_study(leases), StudyState.SKIPPED, "no chest film", [], [])
    assert index.retry(states=[StudyState.SKIPPED], override_gate=True) == 1
    first = lease_study(leases, revision=2)
    assert first.gate_overridden
    leases.release(first, "why", counts=True)
    second = lease_study(leases, revision=2)
    assert second.gate_overridden
    leases.finish(second, StudyState.REPORTED, "", [], [])
    assert index.retry(states=[StudyState.REPORTED]) == 1
    assert not lease_study(leases, revision=3).gate_overridden


def test_a_late_film_ends_an_override_of_the_gate(index: Index, leases: AnalysisLeases) -> None:
    complete_study(index)
    leases.finish(lease_study(leases), StudyState.SKIPPED, "no chest film", [], [])
    index.retry(states=[StudyState.SKIPPED], override_gate=True)
    index.add_instance(received_instance(sop_instance_uid="1.2.3.9", digest="d" * 64, file="late.dcm"))
    index.complete_due(0, 300)
    assert not lease_study(leases, revision=3).gate_overridden


def test_owner_names_survive_their_text() -> None:
    assert LeaseOwner.parse(str(THIS_PROCESS)) == THIS_PROCESS
    assert THIS_PROCESS.pid == os.getpid()
    assert not THIS_PROCESS.dead
    assert replace(THIS_PROCESS, started=1).dead
    assert len(str(replace(THIS_PROCESS, host="h" * 64, pid=4194304, started=10**12))) <= 128


@pytest.mark.parametrize("place", [{"boot": "0" * 16}, {"namespace": 1}, {"boot": "", "namespace": 0}])
def test_a_process_that_cannot_be_seen_is_not_called_dead(place: dict[str, Any]) -> None:
    """A container of the same name, a copy of this machine, and an owner that an earlier version wrote."""
    assert not replace(THIS_PROCESS, started=1, **place).dead


def test_owner_names_of_earlier_versions_are_read() -> None:
    assert LeaseOwner.parse("pacs-1/17/123") == LeaseOwner("pacs-1", 17, 123)


def test_the_audit_finds_what_is_missing(index: Index, leases: AnalysisLeases, spool: Spool) -> None:
    content = bytes(128) + b"DICM" + b"\x02\x00\x00\x00UL\x04\x00" + (0).to_bytes(4, "little") + b"x"
    stored = spool.keep(content)
    index.add_instance(received_instance(digest=stored.digest, size=stored.size, file=stored.name))
    overview = IndexQueries(index.engine)
    assert overview.audit(spool, spool, read_files=True).conserved
    index.complete_due(0, 300)
    leases.finish(lease_study(leases), StudyState.SKIPPED, "not a chest", [], [])
    audit = overview.audit(spool, spool)
    assert audit.received == 1
    assert audit.fates == dict.fromkeys(audit.fates, 0) | {"skipped": 1}

    spool.path(stored.name).write_bytes(content[:-1] + b"y")
    assert overview.audit(spool, spool).conserved
    assert not overview.audit(spool, spool, read_files=True).conserved
    spool.path(stored.name).unlink()
    violations = overview.audit(spool, spool).violations
    assert len(violations) == 1
    assert "No such file" in violations[0]


def test_a_report_without_results_violates_the_audit(
    index: Index, leases: AnalysisLeases, spool: Spool
) -> None:
    complete_study(index)
    leases.finish(lease_study(leases), StudyState.REPORTED, "", [], [])
    violations = IndexQueries(index.engine).audit(spool, spool).violations
    assert any("reported without a result" in line for line in violations)


def test_every_lease_that_ran_out_is_released_and_its_study_waits_again(
    index: Index, leases: AnalysisLeases, clock: Clock
) -> None:
    for number in (1, 2, 3):
        index.add_instance(
            received_instance(study=f"1.{number}", sop=f"1.{number}.1", digest=f"{number}" * 64)
        )
    index.complete_due(0, 300)
    index.take_queueable(300)
    for number, seconds in ((1, 30), (2, 30), (3, 3600)):
        assert leases.acquire(f"1.{number}", 1, THIS_PROCESS, seconds) is not None
    clock.now += 31
    assert leases.release_expired() == 2
    with database.reading(index.engine) as connection:
        rows = connection.execute(
            select(
                study.c.state, study.c.owner, study.c.lease_until, study.c.queued_at, study.c.updated_at
            ).order_by(study.c.study_instance_uid)
        ).all()
    assert [tuple(row) for row in rows[:2]] == [(StudyState.COMPLETE, None, None, None, clock.now)] * 2
    assert (rows[2].state, rows[2].owner) == (StudyState.ANALYSING, str(THIS_PROCESS))
    assert index.take_queueable(300) == [("1.1", 1), ("1.2", 1)]


def test_a_lease_that_is_renewed_at_that_moment_is_not_released(
    index: Index, leases: AnalysisLeases, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    complete_study(index)
    taken = lease_study(leases)
    clock.now += 31

    def renewed_meanwhile(*_: object) -> bool:
        assert leases.renew(taken, 30)
        return True

    monkeypatch.setattr(analysis_leases, "lease_expired", renewed_meanwhile)
    assert leases.release_expired() == 0
    assert state(index)[0] == StudyState.ANALYSING
