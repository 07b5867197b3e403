from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import delete, event, func, select, update

from dicom_node.runtime.lease_owner import LeaseOwner
from dicom_node.store import database
from dicom_node.store.analysis_leases import AnalysisLeases
from dicom_node.store.audit import IndexQueries
from dicom_node.store.delivery_queue import DeliveryQueue, DestinationBacklog
from dicom_node.store.index import Index
from dicom_node.store.recorded_results import REJECTION_NOTE, RecordedResults
from dicom_node.store.states import ResultState, StudyState
from dicom_node.store.tables import delivery
from tests.support.clock import Clock
from tests.support.index_records import (
    THIS_PROCESS,
    complete_study,
    encoded_result,
    lease_study,
    received_instance,
)
from tests.support.peers import until


@pytest.fixture
def filled(index: Index, leases: AnalysisLeases, delivery_queue: DeliveryQueue) -> DeliveryQueue:
    complete_study(index)
    results = [encoded_result("2.25.1"), encoded_result("2.25.2")]
    leases.finish(lease_study(leases), StudyState.REPORTED, "", results, ["pacs", "second"])
    return delivery_queue


def fates(index: Index) -> dict[str, int]:
    with_counts = IndexQueries(index.engine).result_counts()
    return {str(state): count for state, count in with_counts.items() if count}


def test_a_delivery_is_taken_once_and_in_order_of_age(filled: DeliveryQueue) -> None:
    taken = filled.take("pacs", THIS_PROCESS, 60)
    assert [entry.sop_instance_uid for entry in taken] == ["2.25.1", "2.25.2"]
    other = LeaseOwner("elsewhere", 1, 1)
    assert filled.take("pacs", other, 60) == []
    assert len(filled.take("second", other, 60)) == 2


def test_a_lease_that_ran_out_is_taken_over(filled: DeliveryQueue, clock: Clock) -> None:
    filled.take("pacs", THIS_PROCESS, 60)
    clock.now += 61
    assert len(filled.take("pacs", LeaseOwner("elsewhere", 1, 1), 60)) == 2


def test_what_others_held_until_now_and_what_is_free_is_taken_together(
    index: Index, filled: DeliveryQueue, clock: Clock
) -> None:
    first, second = filled.take("pacs", LeaseOwner("elsewhere", 1, 1), 60)
    filled.give_back([second], LeaseOwner("elsewhere", 1, 1))
    assert [entry.id for entry in filled.take("pacs", THIS_PROCESS, 60)] == [second.id]
    clock.now += 61
    assert [entry.id for entry in filled.take("pacs", LeaseOwner("third", 1, 1), 60)] == [first.id, second.id]


def test_one_statement_leases_all_that_is_free(index: Index, filled: DeliveryQueue) -> None:
    updates: list[str] = []

    @event.listens_for(index.engine, "before_cursor_execute")
    def _note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        updates.extend([statement] if statement.startswith("UPDATE") else [])

    assert len(filled.take("pacs", THIS_PROCESS, 60)) == 2
    assert len(updates) == 1


def test_what_was_sent_is_not_sent_again(index: Index, filled: DeliveryQueue, clock: Clock) -> None:
    for entry in filled.take("pacs", THIS_PROCESS, 60):
        filled.mark_sent(entry)
    clock.now += 1000
    assert filled.take("pacs", THIS_PROCESS, 60) == []
    assert fates(index) == {"SENT": 2, "ENCODED": 2}


def test_what_was_sent_in_one_go_is_asked_about_in_one_go(filled: DeliveryQueue, clock: Clock) -> None:
    clock.now += 0.5
    for entry in filled.take("pacs", THIS_PROCESS, 60):
        filled.mark_sent(entry, seconds=2)
        clock.now += 0.7
    asked = []
    for _ in range(8):
        asked.append(len(filled.take("pacs", THIS_PROCESS, 60, state=ResultState.SENT)))
        clock.now += 0.5
    assert sorted(asked) == [0] * 7 + [2]
    assert asked.index(2) >= 3


def test_a_postponed_delivery_waits_for_its_turn(filled: DeliveryQueue, clock: Clock) -> None:
    first, second = filled.take("pacs", THIS_PROCESS, 60)
    filled.postpone(first, "connection refused", 30)
    filled.give_back([second], THIS_PROCESS)
    assert [entry.attempts for entry in filled.take("pacs", THIS_PROCESS, 60)] == [0]
    filled.postpone(second, "connection refused", 30)
    clock.now += 30
    assert [entry.attempts for entry in filled.take("pacs", THIS_PROCESS, 60)] == [1, 1]
    assert next(b.error for b in filled.backlogs() if b.destination == "pacs") == "connection refused"


def test_what_has_been_due_for_longest_comes_first_and_no_more_than_asked(
    filled: DeliveryQueue, clock: Clock
) -> None:
    first, second = filled.take("pacs", THIS_PROCESS, 60)
    filled.postpone(first, "connection refused", 20)
    filled.postpone(second, "connection refused", 10)
    clock.now += 30
    assert [entry.id for entry in filled.take("pacs", THIS_PROCESS, 60, limit=1)] == [second.id]
    assert [entry.id for entry in filled.take("pacs", THIS_PROCESS, 60, limit=1)] == [first.id]
    clock.now += 61
    assert [entry.id for entry in filled.take("pacs", THIS_PROCESS, 60)] == [second.id, first.id]


def test_an_error_that_no_database_takes_is_recorded_without_what_it_refuses(
    filled: DeliveryQueue, clock: Clock
) -> None:
    def error() -> str:
        return next(each.error for each in filled.backlogs() if each.destination == "pacs")

    first, _ = filled.take("pacs", THIS_PROCESS, 60)
    filled.pause("pacs", THIS_PROCESS, "no\0room \ud800", 30)
    assert error() == "noroom ?"
    clock.now += 1
    filled.postpone(first, "still no\0room \ud800", 30)
    assert error() == "still noroom ?"


def test_a_destination_that_pauses_keeps_all_waiting_and_the_one_that_was_tried_comes_last(
    filled: DeliveryQueue, clock: Clock
) -> None:
    first, second = filled.take("pacs", THIS_PROCESS, 60)
    assert filled.pause("pacs", THIS_PROCESS, "connection refused", 30) == 2
    filled.postpone(first, "connection refused", 30)
    assert filled.take("pacs", THIS_PROCESS, 60) == []
    assert len(filled.take("second", THIS_PROCESS, 60)) == 2
    assert next(b.error for b in filled.backlogs() if b.destination == "pacs") == "connection refused"
    clock.now += 30
    assert [entry.id for entry in filled.take("pacs", THIS_PROCESS, 60)] == [second.id, first.id]


def test_a_pause_leaves_alone_what_another_sender_holds(filled: DeliveryQueue, clock: Clock) -> None:
    elsewhere = LeaseOwner("elsewhere", 1, 1)
    filled.take("pacs", elsewhere, 60)
    assert filled.pause("pacs", THIS_PROCESS, "connection refused", 30) == 0
    clock.now += 61
    assert filled.pause("pacs", THIS_PROCESS, "connection refused", 30) == 2


def test_a_retry_ends_the_pause_of_a_destination(filled: DeliveryQueue) -> None:
    filled.pause("pacs", THIS_PROCESS, "connection refused", 600)
    assert filled.retry(["pacs"]) == 2
    assert len(filled.take("pacs", THIS_PROCESS, 60)) == 2


def test_a_sender_that_starts_ends_the_pause_of_its_destination_alone(
    filled: DeliveryQueue, clock: Clock
) -> None:
    first, _ = filled.take("pacs", THIS_PROCESS, 60)
    filled.mark_rejected(first, "class not supported")
    filled.pause("pacs", THIS_PROCESS, "connection refused", 3600)
    filled.pause("orthanc", THIS_PROCESS, "connection refused", 3600)
    clock.now += 1
    assert filled.resume("pacs") == 1
    assert filled.resume("pacs") == 0
    assert [entry.attempts for entry in filled.take("pacs", THIS_PROCESS, 60)] == [0]
    assert filled.take("orthanc", THIS_PROCESS, 60) == []


def test_leases_are_renewed_as_long_as_a_batch_is_in_work(
    index: Index, filled: DeliveryQueue, clock: Clock
) -> None:
    batch = filled.take("pacs", THIS_PROCESS, 0.3)
    filled.mark_sent(batch[0])
    lease = select(delivery.c.lease_until).where(delivery.c.id == batch[1].id)

    def renewed() -> bool:
        with database.reading(index.engine) as connection:
            return bool(connection.execute(lease).scalar_one() == clock.now + 0.3)

    with filled.renewed(batch, THIS_PROCESS, 0.3):
        for _ in range(3):
            clock.now += 1
            until(renewed, 5, "the lease is renewed")
    elsewhere = LeaseOwner("elsewhere", 1, 1)
    assert filled.take("pacs", elsewhere, 60) == []
    clock.now += 1
    assert len(filled.take("pacs", elsewhere, 60)) == 1


def test_a_long_pause_is_kept_and_a_clock_that_was_set_back_ends_it(
    filled: DeliveryQueue, clock: Clock
) -> None:
    for entry in filled.take("pacs", THIS_PROCESS, 60):
        filled.postpone(entry, "connection refused", 600)
    for _ in range(10):
        clock.now += 59
        assert filled.take("pacs", THIS_PROCESS, 60) == []
    clock.now -= 86_400
    assert len(filled.take("pacs", THIS_PROCESS, 60)) == 2


def test_a_rejected_delivery_stays_visible_and_can_be_retried(index: Index, filled: DeliveryQueue) -> None:
    first, _ = filled.take("pacs", THIS_PROCESS, 60)
    filled.mark_rejected(first, "0xC000 cannot understand")
    assert fates(index)["REJECTED"] == 1
    assert filled.retry(["second"]) == 0
    assert filled.retry(["pacs"]) == 1
    assert fates(index) == {"ENCODED": 4}


def test_a_late_answer_does_not_undo_a_final_state(index: Index, filled: DeliveryQueue) -> None:
    first, _ = filled.take("pacs", THIS_PROCESS, 60)
    filled.mark_sent(first)
    filled.mark_rejected(first, "too late")
    assert "REJECTED" not in fates(index)


def test_a_read_sees_one_snapshot(index: Index, filled: DeliveryQueue) -> None:
    """Else an audit would count rows that came between its queries as lost."""
    count = select(func.count()).select_from(delivery)
    with database.reading(index.engine) as connection:
        before = connection.execute(count).scalar_one()
        with database.writing(index.engine) as other:
            other.execute(delete(delivery))
        assert connection.execute(count).scalar_one() == before == 4


def column(index: Index, name: str) -> dict[int, Any]:
    """Column of all deliveries by their number."""
    with database.reading(index.engine) as connection:
        return database.as_mapping(connection, select(delivery.c.id, delivery.c[name]))


def test_what_others_hold_is_neither_renewed_nor_given_back(
    index: Index, filled: DeliveryQueue, clock: Clock
) -> None:
    elsewhere = LeaseOwner("elsewhere", 1, 1)
    mine, theirs = filled.take("pacs", THIS_PROCESS, 60), filled.take("second", elsewhere, 60)
    before = column(index, "lease_until")
    clock.now += 10
    assert filled.renew([mine[0], *theirs], THIS_PROCESS, 60) == 1
    assert column(index, "lease_until") == before | {mine[0].id: clock.now + 60}
    filled.give_back([mine[0], *theirs], THIS_PROCESS)
    owners = column(index, "owner")
    assert owners == {mine[0].id: None, mine[1].id: str(THIS_PROCESS)} | {
        each.id: str(elsewhere) for each in theirs
    }
    assert column(index, "lease_until")[mine[0].id] is None


def test_each_try_and_each_question_counts_once(index: Index, filled: DeliveryQueue, clock: Clock) -> None:
    first, second = filled.take("pacs", THIS_PROCESS, 60)
    filled.postpone(first, "no answer", 5)
    filled.mark_rejected(second, "class not supported")
    assert column(index, "attempts") == {first.id: 1, second.id: 1} | dict.fromkeys(
        (each.id for each in filled.take("second", THIS_PROCESS, 60)), 0
    )
    clock.now += 5
    (first,) = filled.take("pacs", THIS_PROCESS, 60)
    filled.mark_sent(first)
    assert (column(index, "attempts")[first.id], column(index, "inquiries")[first.id]) == (2, 0)
    for asked in (1, 2):
        (entry,) = filled.take("pacs", THIS_PROCESS, 60, state=ResultState.SENT)
        filled.mark_unconfirmed(entry, "no answer", 7)
        assert column(index, "inquiries")[entry.id] == asked
        assert filled.take("pacs", THIS_PROCESS, 60, state=ResultState.SENT) == []
        clock.now += 7
    (entry,) = filled.take("pacs", THIS_PROCESS, 60, state=ResultState.SENT)
    filled.mark_lost(entry, "not there any more", 30)
    assert column(index, "next_try_at")[entry.id] == clock.now + 30
    assert filled.take("pacs", THIS_PROCESS, 60) == []
    clock.now += 30
    (entry,) = filled.take("pacs", THIS_PROCESS, 60)
    assert (entry.attempts, entry.inquiries) == (2, 2)
    filled.mark_sent(entry)
    (entry,) = filled.take("pacs", THIS_PROCESS, 60, state=ResultState.SENT)
    assert entry.inquiries == 0  # of what was sent anew nobody has asked yet
    filled.mark_confirmed(entry, "commitment")
    assert column(index, "error")[entry.id] == ""


def test_a_pause_is_for_what_waits_and_no_longer_than_it_was(
    index: Index, filled: DeliveryQueue, clock: Clock
) -> None:
    first, second = filled.take("pacs", THIS_PROCESS, 60)
    filled.mark_sent(first)
    filled.postpone(second, "busy", 600)
    before = column(index, "next_try_at")
    assert filled.pause("pacs", THIS_PROCESS, "connection refused", 30) == 0
    assert column(index, "next_try_at") == before
    assert filled.pause("second", THIS_PROCESS, "connection refused", 30) == 2
    clock.now -= 86_400  # the clock was set back: what lies in the future by mistake is due again
    assert filled.pause("pacs", THIS_PROCESS, "connection refused", 30) == 1
    assert column(index, "next_try_at")[second.id] == clock.now + 30


def test_a_retry_leaves_leases_to_those_who_hold_them(
    index: Index, filled: DeliveryQueue, clock: Clock
) -> None:
    filled.pause("pacs", THIS_PROCESS, "connection refused", 600)
    clock.now += 600
    taken = filled.take("pacs", THIS_PROCESS, 60)
    filled.pause("second", THIS_PROCESS, "connection refused", 600)
    clock.now -= 1  # they are due in a moment, and held
    assert filled.retry() == 4
    owners = column(index, "owner")
    assert {owners[each.id] for each in taken} == {str(THIS_PROCESS)}
    assert set(column(index, "next_try_at").values()) == {clock.now}


def test_a_sender_that_starts_resumes_what_waits_and_nobody_holds(
    index: Index, filled: DeliveryQueue, clock: Clock
) -> None:
    elsewhere = LeaseOwner("elsewhere", 1, 1)
    for entry in filled.take("pacs", THIS_PROCESS, 60):
        filled.postpone(entry, "connection refused", 3600)
    with database.writing(index.engine) as connection:
        first, second = sorted(entry for entry, value in column(index, "attempts").items() if value == 1)
        held = {"owner": str(elsewhere), "lease_until": clock.now + 60}
        connection.execute(update(delivery).where(delivery.c.id == first).values(**held))
    assert filled.resume("pacs") == 1
    assert column(index, "next_try_at")[second] == clock.now
    clock.now += 61  # its lease ran out
    assert filled.resume("pacs") == 1
    filled.pause("second", THIS_PROCESS, "connection refused", 3600)
    for entry in filled.take("pacs", THIS_PROCESS, 60):
        filled.mark_sent(entry, seconds=500)
    before = column(index, "next_try_at")
    assert filled.resume("pacs") == 0  # what was sent waits to be asked about, and others are no business
    assert column(index, "next_try_at") == before


def test_backlogs_count_by_destination_and_name_the_oldest_and_the_last_open_error(
    index: Index, leases: AnalysisLeases, filled: DeliveryQueue, clock: Clock
) -> None:
    made = clock.now
    first, second = filled.take("pacs", THIS_PROCESS, 60)
    clock.now += 100
    index.add_instance(received_instance(study="1.3", sop="1.3.1", digest="e" * 64))
    index.complete_due(0, 300)
    later = leases.acquire("1.3", 1, THIS_PROCESS, 30)
    assert later is not None
    leases.finish(later, StudyState.REPORTED, "", [encoded_result("2.25.3")], ["pacs", "alone"])
    found = {each.destination: each for each in filled.backlogs()}
    assert list(found) == ["alone", "pacs", "second"]
    assert {name: (each.states, each.oldest, each.error) for name, each in found.items()} == {
        "alone": ({ResultState.ENCODED: 1}, made + 100, ""),
        "pacs": ({ResultState.ENCODED: 3}, made, ""),
        "second": ({ResultState.ENCODED: 2}, made, ""),
    }
    filled.postpone(second, "first error", 5)
    clock.now += 1
    filled.postpone(first, "second error", 5)
    filled.mark_rejected(filled.take("alone", THIS_PROCESS, 60)[0], "for good")
    for entry in filled.take("second", THIS_PROCESS, 60):
        filled.mark_sent(entry)
    clock.now += 1
    (third,) = filled.take("pacs", THIS_PROCESS, 60)
    filled.mark_sent(third)  # later, and without an error
    found = {each.destination: each for each in filled.backlogs()}
    assert found["pacs"] == DestinationBacklog(
        "pacs", {ResultState.ENCODED: 2, ResultState.SENT: 1}, made, "second error"
    )
    assert found["alone"] == DestinationBacklog("alone", {ResultState.REJECTED: 1}, None, "for good")
    assert found["second"] == DestinationBacklog("second", {ResultState.SENT: 2}, None, "")


def test_an_error_of_the_only_result_is_named_until_the_result_is_withdrawn(
    index: Index, leases: AnalysisLeases, clock: Clock
) -> None:
    queue = DeliveryQueue(index.engine, clock)
    index.add_instance(received_instance())
    index.complete_due(0, 300)
    lease = leases.acquire("1.2", 1, THIS_PROCESS, 30)
    assert lease is not None
    leases.finish(lease, StudyState.REPORTED, "", [encoded_result()], ["pacs"])
    (only,) = queue.take("pacs", THIS_PROCESS, 60)
    queue.postpone(only, "connection refused", 5)
    assert [each.error for each in queue.backlogs()] == ["connection refused"]
    results = RecordedResults(index.engine, clock)
    recorded = results.for_study("1.2")
    assert recorded is not None
    results.withdraw(recorded, replace(encoded_result("2.25.9"), kind=REJECTION_NOTE), [])
    (backlog,) = queue.backlogs()
    assert ResultState.WITHDRAWN in backlog.states
    assert backlog.error == ""
