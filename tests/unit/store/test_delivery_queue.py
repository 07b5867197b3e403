from __future__ import annotations

import pytest

from dicom_node.runtime.lease_owner import Owner
from dicom_node.store.analysis_leases import Claims
from dicom_node.store.audit import Overview
from dicom_node.store.delivery_queue import Outbox
from dicom_node.store.index import Index
from dicom_node.store.states import ResultState, StudyState
from tests.unit.store.conftest import Clock
from tests.unit.store.test_analysis_leases import ME, claim, complete, encoded


@pytest.fixture
def filled(index: Index, claims: Claims, outbox: Outbox) -> Outbox:
    complete(index)
    results = [encoded("2.25.1"), encoded("2.25.2")]
    claims.finish(claim(claims), StudyState.REPORTED, "", results, ["pacs", "second"])
    return outbox


def fates(index: Index) -> dict[str, int]:
    with_counts = Overview(index.engine).result_counts()
    return {str(state): count for state, count in with_counts.items() if count}


def test_a_delivery_is_taken_once_and_in_order_of_age(filled: Outbox) -> None:
    taken = filled.take("pacs", ME, 60)
    assert [entry.sop_instance_uid for entry in taken] == ["2.25.1", "2.25.2"]
    other = Owner("elsewhere", 1, 1)
    assert filled.take("pacs", other, 60) == []
    assert len(filled.take("second", other, 60)) == 2


def test_a_lease_that_ran_out_is_taken_over(filled: Outbox, clock: Clock) -> None:
    filled.take("pacs", ME, 60)
    clock.now += 61
    assert len(filled.take("pacs", Owner("elsewhere", 1, 1), 60)) == 2


def test_what_was_sent_is_not_sent_again(index: Index, filled: Outbox, clock: Clock) -> None:
    for entry in filled.take("pacs", ME, 60):
        filled.sent(entry)
    clock.now += 1000
    assert filled.take("pacs", ME, 60) == []
    assert fates(index) == {"SENT": 2, "ENCODED": 2}


def test_what_was_sent_in_one_go_is_asked_about_in_one_go(filled: Outbox, clock: Clock) -> None:
    clock.now += 0.5
    for entry in filled.take("pacs", ME, 60):
        filled.sent(entry, seconds=2)
        clock.now += 0.7
    asked = []
    for _ in range(8):
        asked.append(len(filled.take("pacs", ME, 60, state=ResultState.SENT)))
        clock.now += 0.5
    assert sorted(asked) == [0] * 7 + [2]
    assert asked.index(2) >= 3


def test_a_postponed_delivery_waits_for_its_turn(filled: Outbox, clock: Clock) -> None:
    first, second = filled.take("pacs", ME, 60)
    filled.postponed(first, "connection refused", 30)
    filled.postponed(second, "connection refused", 30, counted=False)
    assert filled.take("pacs", ME, 60) == []
    clock.now += 30
    assert [entry.attempts for entry in filled.take("pacs", ME, 60)] == [1, 0]
    assert next(b.error for b in filled.backlogs() if b.destination == "pacs") == "connection refused"


def test_a_long_pause_is_kept_and_a_clock_that_was_set_back_ends_it(filled: Outbox, clock: Clock) -> None:
    for entry in filled.take("pacs", ME, 60):
        filled.postponed(entry, "connection refused", 600)
    for _ in range(10):
        clock.now += 59
        assert filled.take("pacs", ME, 60) == []
    clock.now -= 86_400
    assert len(filled.take("pacs", ME, 60)) == 2


def test_a_rejected_delivery_stays_visible_and_can_be_retried(index: Index, filled: Outbox) -> None:
    first, _ = filled.take("pacs", ME, 60)
    filled.rejected(first, "0xC000 cannot understand")
    assert fates(index)["REJECTED"] == 1
    assert filled.retry(["second"]) == 0
    assert filled.retry(["pacs"]) == 1
    assert fates(index) == {"ENCODED": 4}


def test_a_late_answer_does_not_undo_a_final_state(index: Index, filled: Outbox) -> None:
    first, _ = filled.take("pacs", ME, 60)
    filled.sent(first)
    filled.rejected(first, "too late")
    assert "REJECTED" not in fates(index)
