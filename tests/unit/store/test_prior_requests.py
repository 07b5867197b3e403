"""Films that came because they were asked for, told from films that somebody sends."""

from __future__ import annotations

from typing import Any

import pytest

from dicom_node.store.audit import IndexQueries
from dicom_node.store.index import Index
from dicom_node.store.prior_pairs import PriorPairs
from dicom_node.store.prior_requests import ARRIVAL_SECONDS, PriorRequests, move_message_id
from dicom_node.store.received_instances import Admission
from dicom_node.store.states import StudyState
from tests.support.clock import Clock
from tests.support.index_records import received_instance

PRIOR = "1.2.7"
ITS_MESSAGE = move_message_id(PRIOR)
How = dict[str, Any]


@pytest.fixture
def requests(index: Index, clock: Clock) -> PriorRequests:
    return PriorRequests(index.engine, clock)


def state(index: Index, uid: str = PRIOR) -> tuple[StudyState, int]:
    (row,) = [row for row in IndexQueries(index.engine).studies() if row.study_instance_uid == uid]
    return row.state, row.revision


def ask(requests: PriorRequests, source_ae: str = "PACS") -> None:
    requests.record(PRIOR, source_ae=source_ae, move_destination="DICOM_NODE")


def take(index: Index, **how: Any) -> Admission:
    sent = {"study": PRIOR, "sop": "1.2.7.1", "digest": "b" * 64, "calling_ae": "PACS"}
    return index.add_instance(received_instance(**sent | how))


WHILE_ASKED: dict[str, tuple[How, bool]] = {
    "names the node": ({"moved_for": "DICOM_NODE"}, True),
    "names the node in lower case": ({"moved_for": "dicom_node"}, True),
    "is sent by another title": ({"moved_for": "DICOM_NODE", "calling_ae": "PACS_STORE"}, True),
    "names its own title and our message": ({"moved_for": "PACS", "move_message_id": ITS_MESSAGE}, True),
    "names a third title and our message": (
        {"moved_for": "GATEWAY", "calling_ae": "STORE", "move_message_id": ITS_MESSAGE},
        True,
    ),
    "names its own title and no message": ({"moved_for": "PACS"}, True),
    "names its own title in lower case": ({"moved_for": "pacs"}, True),
    "names the title it sends by": (
        {"moved_for": "STORE", "calling_ae": "STORE", "from_source": True},
        True,
    ),
    "names nobody": ({}, True),
    "names nobody, title in lower case": ({"calling_ae": "pacs"}, True),
    "names nobody, sends by another title": ({"calling_ae": "STORE", "from_source": True}, True),
    "is sent by a modality": ({"calling_ae": "MODALITY"}, False),
    "is moved here by a workstation": ({"moved_for": "WORKSTATION", "move_message_id": 1}, False),
    "is moved by a workstation without a message": ({"moved_for": "WORKSTATION"}, False),
    "is a modality's that names itself": ({"moved_for": "MODALITY", "calling_ae": "MODALITY"}, False),
}


@pytest.mark.parametrize(("how", "prior"), WHILE_ASKED.values(), ids=WHILE_ASKED.keys())
def test_what_was_asked_for_is_a_prior_and_what_others_send_is_not(
    index: Index, requests: PriorRequests, how: How, prior: bool
) -> None:
    ask(requests)
    take(index, **how)
    assert state(index) == ((StudyState.PRIOR, 0) if prior else (StudyState.RECEIVING, 1))
    assert index.complete_due(0, 300) == int(not prior)
    assert len(index.take_queueable(300)) == int(not prior)


AFTERWARDS: dict[str, tuple[How, bool]] = {
    "names the node": ({"moved_for": "DICOM_NODE"}, True),
    "names our message": ({"moved_for": "PACS", "move_message_id": ITS_MESSAGE}, True),
    "is forwarded": ({}, False),
    "is forwarded by another title": ({"calling_ae": "STORE", "from_source": True}, False),
    "is moved here by a workstation": ({"moved_for": "WORKSTATION", "move_message_id": 1}, False),
}


@pytest.mark.parametrize(("how", "prior"), AFTERWARDS.values(), ids=AFTERWARDS.keys())
def test_after_the_request_only_what_names_it_is_a_prior(
    index: Index, requests: PriorRequests, clock: Clock, how: How, prior: bool
) -> None:
    ask(requests)
    requests.close(PRIOR)
    clock.now += 60
    take(index, **how)
    assert state(index) == ((StudyState.PRIOR, 0) if prior else (StudyState.RECEIVING, 1))


@pytest.mark.parametrize("digest", ["b" * 64, "d" * 64])
def test_a_prior_that_its_source_forwards_within_the_hour_is_analysed(
    index: Index, requests: PriorRequests, clock: Clock, digest: str
) -> None:
    ask(requests)
    assert take(index) is Admission.PRIOR
    requests.close(PRIOR)
    clock.now += 600
    assert take(index, digest=digest) is Admission.NEW
    assert state(index) == (StudyState.RECEIVING, 1)
    assert index.complete_due(0, 300) == 1
    assert index.take_queueable(300) == [(PRIOR, 1)]


def test_a_source_that_sends_nothing_by_c_store_is_not_believed(
    index: Index, requests: PriorRequests
) -> None:
    ask(requests, source_ae="")
    assert take(index, from_source=True) is Admission.NEW


def test_nothing_is_a_prior_that_was_not_asked_for_or_long_ago(
    index: Index, requests: PriorRequests, clock: Clock
) -> None:
    take(index, study="1.2.9", sop="1.2.9.1", moved_for="DICOM_NODE")
    assert state(index, "1.2.9") == (StudyState.RECEIVING, 1)
    ask(requests)
    clock.now += ARRIVAL_SECONDS + 1
    take(index, moved_for="DICOM_NODE", move_message_id=ITS_MESSAGE)
    assert state(index) == (StudyState.RECEIVING, 1)


def test_a_study_that_was_requested_once_is_known_as_such(
    index: Index, requests: PriorRequests, clock: Clock
) -> None:
    ask(requests)
    requests.close(PRIOR)
    take(index)
    index.add_instance(received_instance())
    index.complete_due(0, 300)
    waiting = PriorPairs(index.engine, clock).unpaired()
    assert {each.study_instance_uid: each.was_requested for each in waiting} == {PRIOR: True, "1.2": False}


def test_message_ids_are_valid_and_mostly_differ() -> None:
    found = [move_message_id(f"1.2.{number}") for number in range(1000)]
    assert min(found) >= 1
    assert max(found) <= 0x7FFF
    assert len(set(found)) > 950
