from __future__ import annotations

from dataclasses import replace

import pytest

from dicom_node.store.analysis_leases import Claims
from dicom_node.store.audit import Overview
from dicom_node.store.commitments import Commitments, Statement, Verdict
from dicom_node.store.delivery_queue import Delivery, Outbox
from dicom_node.store.files import Spool
from dicom_node.store.index import Index
from dicom_node.store.states import Confirmation, ResultState, StudyState
from tests.unit.store.conftest import Clock
from tests.unit.store.test_analysis_leases import ME, claim, complete, encoded

KEPT, LOST = Statement(Verdict.KEPT), Statement(Verdict.LOST, "no such object instance")


@pytest.fixture
def commitments(index: Index, clock: Clock) -> Commitments:
    return Commitments(index.engine, clock)


@pytest.fixture
def taken(index: Index, claims: Claims, outbox: Outbox) -> list[Delivery]:
    """Two results that the destination took, to be confirmed."""
    complete(index)
    results = [encoded("2.25.1"), encoded("2.25.2")]
    claims.finish(claim(claims), StudyState.REPORTED, "", results, ["pacs"])
    for entry in outbox.take("pacs", ME, 60):
        outbox.sent(entry)
    return due(outbox)


def due(outbox: Outbox, state: ResultState = ResultState.SENT) -> list[Delivery]:
    return outbox.take("pacs", ME, 60, state=state)


def fates(index: Index) -> dict[str, int]:
    return {str(state): count for state, count in Overview(index.engine).result_counts().items() if count}


def test_what_is_kept_is_confirmed_and_so_is_its_study(
    index: Index, commitments: Commitments, taken: list[Delivery]
) -> None:
    commitments.ask("2.25.9", taken, 300)
    assert Overview(index.engine).confirmed_studies() == 0
    assert commitments.answer("2.25.9", {"2.25.1": KEPT}) == 1
    assert fates(index) == {"SENT": 1, "CONFIRMED": 1}
    assert Overview(index.engine).confirmed_studies() == 0
    commitments.ask("2.25.10", taken[1:], 300)
    assert commitments.answer("2.25.10", {"2.25.2": KEPT, "2.25.77": KEPT}) == 1
    assert Overview(index.engine).confirmed_studies() == 1


def test_what_is_lost_is_sent_again_after_a_while_and_the_rest_is_not(
    index: Index, outbox: Outbox, commitments: Commitments, taken: list[Delivery], clock: Clock
) -> None:
    commitments.ask("2.25.9", taken, 300)
    commitments.answer("2.25.9", {"2.25.1": LOST, "2.25.2": KEPT})
    assert fates(index) == {"ENCODED": 1, "CONFIRMED": 1}
    assert due(outbox, ResultState.ENCODED) == []
    clock.now += 300
    (again,) = due(outbox, ResultState.ENCODED)
    assert (again.sop_instance_uid, again.attempts) == ("2.25.1", 1)
    assert outbox.backlogs()[0].error == "no such object instance"


def test_what_is_refused_is_rejected_and_what_is_undecided_is_asked_again(
    index: Index, outbox: Outbox, commitments: Commitments, taken: list[Delivery], clock: Clock
) -> None:
    commitments.ask("2.25.9", taken, 300)
    commitments.answer(
        "2.25.9",
        {"2.25.1": Statement(Verdict.REFUSED, "class"), "2.25.2": Statement(Verdict.UNDECIDED, "busy")},
    )
    assert fates(index) == {"REJECTED": 1, "SENT": 1}
    clock.now += 300
    assert [entry.sop_instance_uid for entry in due(outbox)] == ["2.25.2"]


def test_a_question_without_an_answer_is_due_again(
    outbox: Outbox, commitments: Commitments, taken: list[Delivery], clock: Clock
) -> None:
    commitments.ask("2.25.9", taken, 300)
    clock.now += 299
    assert due(outbox) == []
    clock.now += 1
    assert [entry.inquiries for entry in due(outbox)] == [1, 1]


def test_an_answer_that_comes_twice_changes_nothing(
    index: Index, outbox: Outbox, commitments: Commitments, taken: list[Delivery], clock: Clock
) -> None:
    commitments.ask("2.25.9", taken, 300)
    answer = {"2.25.1": LOST, "2.25.2": KEPT}
    assert commitments.answer("2.25.9", answer) == 2
    assert commitments.answer("2.25.9", answer) == 0
    clock.now += 300
    (again,) = due(outbox, ResultState.ENCODED)
    outbox.sent(again)
    assert commitments.answer("2.25.9", answer) == 0
    assert fates(index) == {"SENT": 1, "CONFIRMED": 1}


def test_a_late_answer_confirms_but_takes_nothing_back(
    index: Index, outbox: Outbox, commitments: Commitments, taken: list[Delivery], clock: Clock
) -> None:
    commitments.ask("2.25.9", taken, 300)
    clock.now += 300
    commitments.ask("2.25.10", due(outbox), 300)
    assert commitments.answer("2.25.9", {"2.25.1": KEPT, "2.25.2": LOST}) == 1
    assert fates(index) == {"SENT": 1, "CONFIRMED": 1}


def test_an_answer_about_an_earlier_sending_takes_nothing_back(
    index: Index, outbox: Outbox, commitments: Commitments, taken: list[Delivery], clock: Clock
) -> None:
    """A query did not find them, so they were sent again; then the archive answers about the first time."""
    commitments.ask("2.25.9", taken, 300)
    clock.now += 300
    for entry in due(outbox):
        outbox.postponed(entry, "not found", 0)
    for entry in due(outbox, ResultState.ENCODED):
        outbox.sent(entry)
    assert commitments.answer("2.25.9", {"2.25.1": LOST, "2.25.2": KEPT}) == 1
    assert fates(index) == {"SENT": 1, "CONFIRMED": 1}


def test_an_unknown_transaction_is_told_apart(commitments: Commitments) -> None:
    assert commitments.answer("2.25.404", {"2.25.1": KEPT}) is None


def test_one_destination_does_not_answer_for_another(
    index: Index, claims: Claims, outbox: Outbox, commitments: Commitments
) -> None:
    complete(index)
    claims.finish(claim(claims), StudyState.REPORTED, "", [encoded("2.25.1")], ["pacs", "second"])
    for name in ("pacs", "second"):
        for entry in outbox.take(name, ME, 60):
            outbox.sent(entry)
    commitments.ask("2.25.9", due(outbox), 300)
    commitments.answer("2.25.9", {"2.25.1": KEPT})
    assert fates(index) == {"SENT": 1, "CONFIRMED": 1}
    assert Overview(index.engine).confirmed_studies() == 0


def test_a_confirmation_names_its_witness(
    index: Index, outbox: Outbox, taken: list[Delivery], spool: Spool
) -> None:
    outbox.confirmed(taken[0], Confirmation.QUERY)
    outbox.unconfirmed(taken[1], "not found", 30)
    assert fates(index) == {"SENT": 1, "CONFIRMED": 1}
    assert not [line for line in Overview(index.engine).audit(spool, spool).violations if "delivery" in line]
    with pytest.raises(ValueError, match="no transition: CONFIRMED to SENT"):
        outbox.sent(replace(taken[0], state=ResultState.CONFIRMED))


def test_retry_asks_at_once_and_sends_nothing_twice(outbox: Outbox, taken: list[Delivery]) -> None:
    for entry in taken:
        outbox.unconfirmed(entry, "not found", 3000)
    assert outbox.retry() == 0
    assert len(due(outbox)) == 2
