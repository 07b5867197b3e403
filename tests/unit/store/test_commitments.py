from __future__ import annotations

from dataclasses import replace

import pytest

from dicom_node.store.analysis_leases import AnalysisLeases
from dicom_node.store.audit import IndexQueries
from dicom_node.store.commitments import CommitmentAnswer, CommitmentOutcome, StorageCommitments
from dicom_node.store.delivery_queue import Delivery, DeliveryQueue
from dicom_node.store.files import Spool
from dicom_node.store.index import Index
from dicom_node.store.recorded_results import REJECTION_NOTE, RecordedResults
from dicom_node.store.states import Confirmation, ResultState, StudyState
from tests.support.clock import Clock
from tests.support.index_records import (
    THIS_PROCESS,
    complete_study,
    delivery_states,
    encoded_result,
    lease_study,
    received_instance,
)

KEPT, LOST = (
    CommitmentAnswer(CommitmentOutcome.KEPT),
    CommitmentAnswer(CommitmentOutcome.LOST, "no such object instance"),
)


@pytest.fixture
def commitments(index: Index, clock: Clock) -> StorageCommitments:
    return StorageCommitments(index.engine, clock)


@pytest.fixture
def taken(index: Index, leases: AnalysisLeases, delivery_queue: DeliveryQueue) -> list[Delivery]:
    """Two results that the destination took, to be confirmed."""
    complete_study(index)
    results = [encoded_result("2.25.1"), encoded_result("2.25.2")]
    leases.finish(lease_study(leases), StudyState.REPORTED, "", results, ["pacs"])
    for entry in delivery_queue.take("pacs", THIS_PROCESS, 60):
        delivery_queue.mark_sent(entry)
    return due(delivery_queue)


def due(delivery_queue: DeliveryQueue, state: ResultState = ResultState.SENT) -> list[Delivery]:
    return delivery_queue.take("pacs", THIS_PROCESS, 60, state=state)


def withdraw(index: Index) -> None:
    results = RecordedResults(index.engine)
    recorded = results.for_study("1.2")
    assert recorded is not None
    note = replace(encoded_result("2.25.3"), kind=REJECTION_NOTE)
    results.withdraw(recorded, note, ["pacs"])


def fates(index: Index) -> dict[str, int]:
    return delivery_states(index.engine)


def test_what_is_kept_is_confirmed_and_so_is_its_study(
    index: Index, commitments: StorageCommitments, taken: list[Delivery]
) -> None:
    commitments.record_request("2.25.9", taken, 300)
    assert IndexQueries(index.engine).confirmed_studies() == 0
    assert commitments.record_answers("2.25.9", {"2.25.1": KEPT}) == 1
    assert fates(index) == {"SENT": 1, "CONFIRMED": 1}
    assert IndexQueries(index.engine).confirmed_studies() == 0
    commitments.record_request("2.25.10", taken[1:], 300)
    assert commitments.record_answers("2.25.10", {"2.25.2": KEPT, "2.25.77": KEPT}) == 1
    assert IndexQueries(index.engine).confirmed_studies() == 1


def test_what_is_lost_is_sent_again_after_a_while_and_the_rest_is_not(
    index: Index,
    delivery_queue: DeliveryQueue,
    commitments: StorageCommitments,
    taken: list[Delivery],
    clock: Clock,
) -> None:
    commitments.record_request("2.25.9", taken, 300)
    commitments.record_answers("2.25.9", {"2.25.1": LOST, "2.25.2": KEPT})
    assert fates(index) == {"ENCODED": 1, "CONFIRMED": 1}
    assert due(delivery_queue, ResultState.ENCODED) == []
    clock.now += 300
    (again,) = due(delivery_queue, ResultState.ENCODED)
    assert (again.sop_instance_uid, again.attempts) == ("2.25.1", 1)
    assert delivery_queue.backlogs()[0].error == "no such object instance"


def test_what_is_refused_is_rejected_and_what_is_undecided_is_asked_again(
    index: Index,
    delivery_queue: DeliveryQueue,
    commitments: StorageCommitments,
    taken: list[Delivery],
    clock: Clock,
) -> None:
    commitments.record_request("2.25.9", taken, 300)
    commitments.record_answers(
        "2.25.9",
        {
            "2.25.1": CommitmentAnswer(CommitmentOutcome.REFUSED, "class"),
            "2.25.2": CommitmentAnswer(CommitmentOutcome.UNDECIDED, "busy"),
        },
    )
    assert fates(index) == {"REJECTED": 1, "SENT": 1}
    clock.now += 300
    assert [entry.sop_instance_uid for entry in due(delivery_queue)] == ["2.25.2"]


def test_a_question_without_an_answer_is_due_again(
    delivery_queue: DeliveryQueue, commitments: StorageCommitments, taken: list[Delivery], clock: Clock
) -> None:
    commitments.record_request("2.25.9", taken, 300)
    clock.now += 299
    assert due(delivery_queue) == []
    clock.now += 1
    assert [entry.inquiries for entry in due(delivery_queue)] == [1, 1]


def test_an_answer_that_comes_twice_changes_nothing(
    index: Index,
    delivery_queue: DeliveryQueue,
    commitments: StorageCommitments,
    taken: list[Delivery],
    clock: Clock,
) -> None:
    commitments.record_request("2.25.9", taken, 300)
    answer = {"2.25.1": LOST, "2.25.2": KEPT}
    assert commitments.record_answers("2.25.9", answer) == 2
    assert commitments.record_answers("2.25.9", answer) == 0
    clock.now += 300
    (again,) = due(delivery_queue, ResultState.ENCODED)
    delivery_queue.mark_sent(again)
    assert commitments.record_answers("2.25.9", answer) == 0
    assert fates(index) == {"SENT": 1, "CONFIRMED": 1}


def test_a_late_answer_confirms_but_takes_nothing_back(
    index: Index,
    delivery_queue: DeliveryQueue,
    commitments: StorageCommitments,
    taken: list[Delivery],
    clock: Clock,
) -> None:
    commitments.record_request("2.25.9", taken, 300)
    clock.now += 300
    commitments.record_request("2.25.10", due(delivery_queue), 300)
    assert commitments.record_answers("2.25.9", {"2.25.1": KEPT, "2.25.2": LOST}) == 1
    assert fates(index) == {"SENT": 1, "CONFIRMED": 1}


def test_an_answer_about_an_earlier_sending_takes_nothing_back(
    index: Index,
    delivery_queue: DeliveryQueue,
    commitments: StorageCommitments,
    taken: list[Delivery],
    clock: Clock,
) -> None:
    """A query did not find them, so they were sent again; then the archive answers about the first time."""
    commitments.record_request("2.25.9", taken, 300)
    clock.now += 300
    for entry in due(delivery_queue):
        delivery_queue.mark_lost(entry, "not found", 0)
    for entry in due(delivery_queue, ResultState.ENCODED):
        delivery_queue.mark_sent(entry)
    assert commitments.record_answers("2.25.9", {"2.25.1": LOST, "2.25.2": KEPT}) == 1
    assert fates(index) == {"SENT": 1, "CONFIRMED": 1}


def test_an_unknown_transaction_is_told_apart(commitments: StorageCommitments) -> None:
    assert commitments.record_answers("2.25.404", {"2.25.1": KEPT}) is None


def test_one_destination_does_not_answer_for_another(
    index: Index, leases: AnalysisLeases, delivery_queue: DeliveryQueue, commitments: StorageCommitments
) -> None:
    complete_study(index)
    leases.finish(
        lease_study(leases), StudyState.REPORTED, "", [encoded_result("2.25.1")], ["pacs", "second"]
    )
    for name in ("pacs", "second"):
        for entry in delivery_queue.take(name, THIS_PROCESS, 60):
            delivery_queue.mark_sent(entry)
    commitments.record_request("2.25.9", due(delivery_queue), 300)
    commitments.record_answers("2.25.9", {"2.25.1": KEPT})
    assert fates(index) == {"SENT": 1, "CONFIRMED": 1}
    assert IndexQueries(index.engine).confirmed_studies() == 0


def test_a_confirmation_names_its_witness(
    index: Index, delivery_queue: DeliveryQueue, taken: list[Delivery], spool: Spool
) -> None:
    delivery_queue.mark_confirmed(taken[0], Confirmation.QUERY)
    delivery_queue.mark_unconfirmed(taken[1], "not found", 30)
    assert fates(index) == {"SENT": 1, "CONFIRMED": 1}
    assert not [
        line for line in IndexQueries(index.engine).audit(spool, spool).violations if "delivery" in line
    ]
    with pytest.raises(ValueError, match="a delivery that is CONFIRMED cannot be taken"):
        delivery_queue.mark_sent(replace(taken[0], state=ResultState.CONFIRMED))


def test_retry_asks_at_once_and_sends_nothing_twice(
    delivery_queue: DeliveryQueue, taken: list[Delivery]
) -> None:
    for entry in taken:
        delivery_queue.mark_unconfirmed(entry, "not found", 3000)
    assert delivery_queue.retry() == 0
    assert len(due(delivery_queue)) == 2


@pytest.mark.parametrize("outcome", [CommitmentOutcome.LOST, CommitmentOutcome.REFUSED])
def test_a_withdrawn_result_is_not_sent_again_when_the_destination_answers_that_it_does_not_keep_it(
    index: Index,
    delivery_queue: DeliveryQueue,
    commitments: StorageCommitments,
    taken: list[Delivery],
    clock: Clock,
    outcome: CommitmentOutcome,
) -> None:
    commitments.record_request("2.25.9", taken, 300)
    withdraw(index)
    commitments.record_answers("2.25.9", {"2.25.1": CommitmentAnswer(outcome, "gone"), "2.25.2": KEPT})
    assert fates(index) == {"WITHDRAWN": 1, "CONFIRMED": 1, "ENCODED": 1}  # one is the note
    clock.now += 300
    assert [entry.kind for entry in due(delivery_queue, ResultState.ENCODED)] == [REJECTION_NOTE]
    delivery_queue.retry()
    clock.now += 300
    assert [entry.kind for entry in due(delivery_queue, ResultState.ENCODED)] == [REJECTION_NOTE]


def test_a_withdrawn_result_is_not_sent_again_when_a_query_does_not_find_it(
    index: Index, delivery_queue: DeliveryQueue, taken: list[Delivery], clock: Clock
) -> None:
    withdraw(index)
    for entry in taken:
        delivery_queue.mark_lost(entry, "the destination does not find it", 30)
    clock.now += 30
    assert [entry.kind for entry in due(delivery_queue, ResultState.ENCODED)] == [REJECTION_NOTE]
    assert fates(index) == {"WITHDRAWN": 2, "ENCODED": 1}


def test_a_study_is_confirmed_when_what_is_left_of_it_after_a_withdrawal_is(
    index: Index, delivery_queue: DeliveryQueue, taken: list[Delivery]
) -> None:
    def confirmed() -> bool:
        return IndexQueries(index.engine).confirmed_studies() == 1

    withdraw(index)
    for entry in taken:
        delivery_queue.mark_lost(entry, "not found", 30)
    assert not confirmed()
    for entry in due(delivery_queue, ResultState.ENCODED):
        delivery_queue.mark_sent(entry)
    for entry in due(delivery_queue):
        delivery_queue.mark_confirmed(entry, Confirmation.QUERY)
    assert fates(index) == {"WITHDRAWN": 2, "CONFIRMED": 1}
    assert confirmed()
    index.add_instance(received_instance("1.2.4", digest="b" * 64))  # a late image: a new analysis is to come
    assert not confirmed()


def test_retry_of_one_destination_leaves_the_others_alone(
    delivery_queue: DeliveryQueue, taken: list[Delivery]
) -> None:
    for entry in taken:
        delivery_queue.mark_unconfirmed(entry, "not found", 3000)
    delivery_queue.retry(["second"])
    assert due(delivery_queue) == []
    delivery_queue.retry(["pacs"])
    assert len(due(delivery_queue)) == 2
