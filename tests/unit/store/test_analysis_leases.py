from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from dicom_node.runtime.lease_owner import Owner
from dicom_node.store.analysis_leases import Claim, Claims, EncodedResult
from dicom_node.store.audit import Overview
from dicom_node.store.delivery_queue import Outbox
from dicom_node.store.files import Spool, StoredFile
from dicom_node.store.index import Index
from dicom_node.store.states import ResultState, StudyState
from tests.unit.store.conftest import Clock, received

ME = Owner.this_process()


def complete(index: Index) -> None:
    index.add_instance(received())
    index.complete_due(0, 300)


def claim(claims: Claims, revision: int = 1) -> Claim:
    taken = claims.claim("1.2", revision, ME, 30)
    assert taken is not None
    return taken


def encoded(uid: str = "2.25.1") -> EncodedResult:
    return EncodedResult("sr", uid, "1.2.840.10008.5.1.4.1.1.88.34", StoredFile("d" * 64, 5, f"dd/{uid}.dcm"))


def state(index: Index) -> tuple[StudyState, str]:
    row = Overview(index.engine).studies()[0]
    return row.state, row.reason


def test_a_study_is_claimed_once(index: Index, claims: Claims) -> None:
    complete(index)
    assert claim(claims).attempts == 1
    assert claims.claim("1.2", 1, ME, 30) is None


def test_a_stale_revision_cannot_be_claimed(index: Index, claims: Claims) -> None:
    complete(index)
    assert claims.claim("1.2", 2, ME, 30) is None
    assert claims.claim("9.9", 1, ME, 30) is None


def test_what_was_set_aside_is_not_read(index: Index, claims: Claims) -> None:
    index.add_instance(received())
    index.add_instance(received(digest="b" * 64))
    index.complete_due(0, 300)
    assert [entry.digest for entry in claim(claims).instances] == ["a" * 64]


def test_the_outcome_its_results_and_their_deliveries_are_one_change(
    index: Index, claims: Claims, outbox: Outbox
) -> None:
    complete(index)
    assert claims.finish(claim(claims), StudyState.REPORTED, "", [encoded()], ["pacs", "orthanc"])
    assert state(index) == (StudyState.REPORTED, "")
    assert {entry.destination: entry.states for entry in outbox.backlogs()} == {
        "orthanc": {ResultState.ENCODED: 1},
        "pacs": {ResultState.ENCODED: 1},
    }


def test_a_late_image_takes_the_claim_away(index: Index, claims: Claims, outbox: Outbox) -> None:
    complete(index)
    taken = claim(claims)
    index.add_instance(received(sop="1.2.4", digest="b" * 64))
    assert not claims.renew(taken, 30)
    assert not claims.finish(taken, StudyState.REPORTED, "", [encoded()], ["pacs"])
    assert state(index) == (StudyState.RECEIVING, "")
    assert outbox.backlogs() == []


def test_an_outcome_without_a_reason_is_refused(index: Index, claims: Claims) -> None:
    complete(index)
    taken = claim(claims)
    with pytest.raises(ValueError, match="no outcome"):
        claims.finish(taken, StudyState.SKIPPED, "", [], [])
    with pytest.raises(ValueError, match="no outcome"):
        claims.finish(taken, StudyState.COMPLETE, "why", [], [])


def test_a_silent_worker_loses_its_claim_when_the_lease_ends(
    index: Index, claims: Claims, clock: Clock
) -> None:
    complete(index)
    taken = claim(claims)
    clock.now += 29
    assert claims.release_lapsed() == 0
    assert claims.renew(taken, 30)
    clock.now += 29
    assert claims.release_lapsed() == 0
    clock.now += 2
    assert claims.release_lapsed() == 1
    assert not claims.finish(taken, StudyState.FAILED, "late", [], [])
    assert claim(claims).attempts == 2


def test_a_dead_worker_loses_its_claim_at_once(index: Index, claims: Claims) -> None:
    complete(index)
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    stat = Path(f"/proc/{child.pid}/stat").read_text().rpartition(") ")[2].split()
    owner = replace(ME, pid=child.pid, started=int(stat[19]))
    assert claims.claim("1.2", 1, owner, 3600) is not None
    assert claims.release_lapsed() == 0
    child.kill()
    child.communicate()
    assert claims.release_lapsed() == 1


def test_a_fault_that_may_pass_does_not_count_as_a_try(index: Index, claims: Claims, clock: Clock) -> None:
    complete(index)
    index.take_queueable(300)
    claims.release(claim(claims), "disk full")
    assert state(index) == (StudyState.COMPLETE, "disk full")
    assert index.take_queueable(300) == []
    clock.now += 301
    assert index.take_queueable(300) == [("1.2", 1)]
    assert claim(claims).attempts == 1


def test_a_repeat_carries_the_time_of_the_first_try(index: Index, claims: Claims, clock: Clock) -> None:
    complete(index)
    first = claim(claims).created
    clock.now += 100
    claims.release_lapsed()
    assert claim(claims).created == first


def test_a_retry_is_a_new_revision(index: Index, claims: Claims) -> None:
    complete(index)
    claims.finish(claim(claims), StudyState.FAILED, "why", [], [])
    assert index.retry(["9.9"]) == 0
    assert index.retry() == 1
    assert claim(claims, revision=2).attempts == 1


def test_a_reported_study_is_retried_only_when_asked(index: Index, claims: Claims) -> None:
    complete(index)
    claims.finish(claim(claims), StudyState.REPORTED, "", [encoded()], [])
    assert index.retry() == 0
    assert index.retry(states=[StudyState.REPORTED]) == 1


def test_owner_names_survive_their_text() -> None:
    assert Owner.parse(str(ME)) == ME
    assert ME.pid == os.getpid()
    assert not ME.dead
    assert not replace(ME, host="elsewhere", started=1).dead


def test_the_audit_finds_what_is_missing(index: Index, claims: Claims, spool: Spool) -> None:
    content = bytes(128) + b"DICM" + b"\x02\x00\x00\x00UL\x04\x00" + (0).to_bytes(4, "little") + b"x"
    stored = spool.keep(content)
    index.add_instance(received(digest=stored.digest, size=stored.size, file=stored.name))
    overview = Overview(index.engine)
    assert overview.audit(spool, spool, read_files=True).conserved
    index.complete_due(0, 300)
    claims.finish(claim(claims), StudyState.SKIPPED, "not a chest", [], [])
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


def test_a_report_without_results_violates_the_audit(index: Index, claims: Claims, spool: Spool) -> None:
    complete(index)
    claims.finish(claim(claims), StudyState.REPORTED, "", [], [])
    violations = Overview(index.engine).audit(spool, spool).violations
    assert any("reported without a result" in line for line in violations)
