"""Done means committed: of archives that confirm, fail, are silent, repeat themselves."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from sqlalchemy import update

from dicom_node.store import database
from dicom_node.store.recorded_results import REJECTION_NOTE, RecordedResults
from dicom_node.store.tables import delivery
from orthanc.harness import NodeAddress, Orthanc
from tests.support.archive import Archive
from tests.support.delivery_harness import SC, SR, DeliveryHarness
from tests.support.index_records import encoded_result
from tests.support.peers import until
from tests.support.receiver import Receiver

SECONDS = 20
DAY = 86_400
OUTAGE_SECONDS = float(os.environ.get("OUTAGE_SECONDS", "2"))


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    with Receiver(tmp_path / "receiver") as running:
        yield running


@pytest.fixture
def outgoing(tmp_path: Path, receiver: Receiver) -> Iterator[Callable[..., DeliveryHarness]]:
    made: list[DeliveryHarness] = []

    def make(destination: dict[str, Any], **settings: Any) -> DeliveryHarness:
        made.append(DeliveryHarness(tmp_path / "outgoing", receiver.index, destination, **settings))
        return made[-1]

    yield make
    for each in made:
        each.sender._release()


def archive(receiver: Receiver, **options: Any) -> Archive:
    return Archive(node=("DICOM_NODE", receiver.port), **options)


@pytest.mark.parametrize("way", ["the same", "a new", "a new without roles"])
def test_a_report_on_any_association_confirms(
    receiver: Receiver, outgoing: Callable[..., DeliveryHarness], way: str
) -> None:
    with archive(receiver) as pacs, outgoing(pacs.destination) as node:
        pacs.answering = {
            "the same": pacs.on_the_same,
            "a new": pacs.on_a_new,
            "a new without roles": partial(pacs.on_a_new, roles=False),
        }[way]
        assert node.send() == 2
        assert node.overview.confirmed_studies() == 0
        assert node.ask() == 2
        until(lambda: node.counts == {"CONFIRMED": 2}, SECONDS, "both are confirmed")
        (request,) = pacs.requests
        assert {item.ReferencedSOPInstanceUID for item in request.ReferencedSOPSequence} == {
            *node.uids.values()
        }
        until(lambda: pacs.report_statuses == [0], SECONDS, "the report was answered Success")
        assert node.overview.confirmed_studies() == 1
        assert node.conserved()
        node.clock.now += DAY
        assert (node.send(), node.ask(), len(pacs.stored)) == (0, 0, 2)


@pytest.mark.parametrize("commitment", [True, False])
def test_an_archive_that_serves_one_association_at_a_time_is_asked_on_the_only_one(
    receiver: Receiver, outgoing: Callable[..., DeliveryHarness], commitment: bool
) -> None:
    with archive(receiver, commitment=commitment) as pacs, outgoing(pacs.destination) as node:
        assert node.send() == 2
        assert node.ask() == 2
        assert pacs.open_when_asked
        assert set(pacs.open_when_asked) == {1}


def test_what_the_archive_lost_is_sent_again_and_asked_for_with_a_new_transaction(
    receiver: Receiver, outgoing: Callable[..., DeliveryHarness]
) -> None:
    with archive(receiver) as pacs, outgoing(pacs.destination, commitment_seconds=60) as node:
        pacs.answering, pacs.failed = pacs.on_a_new, {SC: 0x0112}
        node.send()
        node.ask()
        until(lambda: node.counts == {"CONFIRMED": 1, "ENCODED": 1}, SECONDS, "one is lost")
        assert "0112: no such object instance" in node.backlog.error
        assert (node.send(), node.conserved()) == (0, True)
        pacs.failed = {}
        node.clock.now += 600
        assert (node.send(), node.ask()) == (1, 1)
        until(lambda: node.counts == {"CONFIRMED": 2}, SECONDS, "it is confirmed as well")
        assert pacs.stored == [node.uids[SR], node.uids[SC], node.uids[SC]]
        first, second = (request.TransactionUID for request in pacs.requests)
        assert first != second
        assert [len(request.ReferencedSOPSequence) for request in pacs.requests] == [2, 1]


@pytest.mark.parametrize(
    ("reason", "state"),
    [(0x0110, "SENT"), (0x0213, "SENT"), (0x0122, "REJECTED"), (0x0131, "SENT")],
)
def test_each_reason_for_failure_has_its_consequence(
    receiver: Receiver, outgoing: Callable[..., DeliveryHarness], reason: int, state: str
) -> None:
    with archive(receiver) as pacs, outgoing(pacs.destination) as node:
        pacs.answering, pacs.failed = pacs.on_the_same, {SC: reason}
        node.send()
        node.ask()
        until(lambda: node.counts == {"CONFIRMED": 1, state: 1}, SECONDS, f"{reason:04X} is {state}")
        until(lambda: f"{reason:04X}" in node.backlog.error, SECONDS, "the reason is shown")
        assert node.conserved()
        assert len(pacs.stored) == 2


def test_a_question_that_is_never_answered_is_asked_anew_and_a_late_answer_counts(
    receiver: Receiver, outgoing: Callable[..., DeliveryHarness]
) -> None:
    with archive(receiver, query=False) as pacs, outgoing(pacs.destination) as node:
        node.send()
        for times in range(1, 6):
            assert node.ask() == 2
            assert node.ask() == 0
            assert len(pacs.requests) == times
            node.clock.now += 2 * DAY
        assert len({request.TransactionUID for request in pacs.requests}) == 5
        assert node.counts == {"SENT": 2}
        pacs.report_to_node(pacs.requests[1])
        assert node.counts == {"CONFIRMED": 2}
        assert node.ask() == 0
        assert len(pacs.stored) == 2


def test_an_archive_that_leaves_questions_unanswered_is_queried(
    receiver: Receiver, outgoing: Callable[..., DeliveryHarness]
) -> None:
    with archive(receiver) as pacs, outgoing(pacs.destination) as node:
        node.send()
        for _ in range(3):
            node.ask()
            node.clock.now += 2 * DAY
        assert node.counts == {"SENT": 2}
        node.ask()
        assert node.counts == {"CONFIRMED": 2}
        assert len(pacs.requests) == 3


def test_a_result_whose_questions_were_not_answered_is_queried_beside_new_ones(
    receiver: Receiver, outgoing: Callable[..., DeliveryHarness]
) -> None:
    with archive(receiver) as pacs, outgoing(pacs.destination) as node:
        node.send()
        with database.writing(receiver.index.engine) as connection:
            connection.execute(update(delivery).where(delivery.c.id == 1).values(inquiries=3))
        assert node.ask() == 2
        assert node.counts == {"CONFIRMED": 1, "SENT": 1}
        assert len(pacs.requests) == 1


@pytest.mark.parametrize("way", ["commitment", "query"])
def test_a_withdrawn_result_that_the_archive_lost_is_not_sent_again(
    receiver: Receiver, outgoing: Callable[..., DeliveryHarness], way: str
) -> None:
    with archive(receiver, commitment=way == "commitment") as pacs, outgoing(pacs.destination) as node:
        pacs.answering = pacs.on_the_same
        pacs.failed = {SC: 0x0112, SR: 0x0112}
        node.send()
        sent = [*pacs.stored]
        pacs.stored.clear()
        results = RecordedResults(receiver.index.engine)
        recorded = results.for_study("1.2")
        assert recorded is not None
        note = replace(encoded_result("2.25.3"), kind=REJECTION_NOTE)
        assert results.withdraw(recorded, note, []) == (0, [])
        for _ in range(3):
            node.ask()
            node.clock.now += 2 * DAY
        until(lambda: node.counts == {"WITHDRAWN": 2}, SECONDS, "both are taken back")
        assert len(sent) == 2
        assert (node.send(), node.ask(), pacs.stored) == (0, 0, [])


def test_answers_that_come_twice_change_nothing(
    receiver: Receiver, outgoing: Callable[..., DeliveryHarness]
) -> None:
    with archive(receiver) as pacs, outgoing(pacs.destination) as node:
        pacs.answering, pacs.failed = partial(pacs.on_the_same, times=3), {SC: 0x0112}
        node.send()
        node.ask()
        until(lambda: len(pacs.report_statuses) == 3, SECONDS, "three reports were answered")
        assert pacs.report_statuses == [0, 0, 0]
        assert node.counts == {"CONFIRMED": 1, "ENCODED": 1}
        node.clock.now += 2 * DAY
        node.send()
        pacs.report_to_node(pacs.requests[0])
        assert node.counts == {"CONFIRMED": 1, "SENT": 1}
        assert len(pacs.stored) == 3


def test_answers_that_cross_a_further_request_are_heard(
    receiver: Receiver, outgoing: Callable[..., DeliveryHarness]
) -> None:
    with archive(receiver) as pacs, outgoing(pacs.destination) as node:
        held: list[tuple[Any, Any]] = []
        pacs.answering = lambda event, request: held.append((event, request))
        node.send()
        for _ in range(2):
            node.ask()
            node.clock.now += 2 * DAY
        for event, request in held:
            pacs.on_the_same(event, request)
        until(lambda: pacs.report_statuses == [0, 0], SECONDS, "both reports were answered")
        assert node.counts == {"CONFIRMED": 2}
        assert pacs.associations == 3


def test_an_archive_without_commitment_is_queried(
    receiver: Receiver, outgoing: Callable[..., DeliveryHarness]
) -> None:
    with archive(receiver, commitment=False) as pacs, outgoing(pacs.destination) as node:
        node.send()
        assert node.ask() == 2
        assert node.counts == {"CONFIRMED": 2}


def test_what_a_query_does_not_find_is_sent_again_in_the_end(
    receiver: Receiver, outgoing: Callable[..., DeliveryHarness]
) -> None:
    with archive(receiver, commitment=False) as pacs, outgoing(pacs.destination) as node:
        node.send()
        pacs.stored.remove(node.uids[SC])
        for left in ("SENT", "SENT", "ENCODED"):
            node.ask()
            assert node.counts == {"CONFIRMED": 1, left: 1}
            node.clock.now += 2 * DAY
        assert "does not find it" in node.backlog.error
        assert (node.send(), node.ask()) == (1, 1)
        assert node.counts == {"CONFIRMED": 2}


def test_a_query_that_fails_again_and_again_is_said_once(
    receiver: Receiver, outgoing: Callable[..., DeliveryHarness], caplog: pytest.LogCaptureFixture
) -> None:
    with archive(receiver, commitment=False) as pacs, outgoing(pacs.destination) as node:
        node.send()
        pacs.find_status = 0xA700
        for _ in range(3):
            node.ask()
            node.clock.now += 2 * DAY
        assert node.counts == {"SENT": 2}
        warned = [record for record in caplog.records if "C-FIND answered A700" in record.getMessage()]
        assert [record.levelno for record in warned if record.levelno >= logging.WARNING] == [logging.WARNING]
        pacs.find_status = 0
        node.ask()
        assert node.counts == {"CONFIRMED": 2}


def test_a_query_that_is_not_offered_is_said(
    receiver: Receiver, outgoing: Callable[..., DeliveryHarness]
) -> None:
    with (
        archive(receiver, query=False) as pacs,
        outgoing({**pacs.destination, "confirm": "query"}) as node,
    ):
        node.send()
        assert node.ask() == 2
        assert node.counts == {"SENT": 2}
        assert "offers no query" in node.backlog.error


@pytest.mark.parametrize("commitment", [True, False])
def test_another_application_may_be_the_one_to_ask(
    receiver: Receiver, outgoing: Callable[..., DeliveryHarness], commitment: bool
) -> None:
    with (
        archive(receiver, commitment=False, query=False) as pacs,
        archive(receiver, commitment=commitment) as manager,
        outgoing({**pacs.destination, "confirm_ae_title": "ARCHIVE", "confirm_port": manager.port}) as node,
    ):
        manager.stored, manager.answering = pacs.stored, manager.on_the_same
        node.send()
        assert node.ask() == 2
        until(lambda: node.counts == {"CONFIRMED": 2}, SECONDS, "both are confirmed")
        assert (pacs.associations, manager.associations) == (1, 1)


def test_an_archive_that_refuses_to_commit_is_queried(
    receiver: Receiver, outgoing: Callable[..., DeliveryHarness]
) -> None:
    with archive(receiver) as pacs, outgoing(pacs.destination) as node:
        pacs.action_status = 0x0124
        node.send()
        node.ask()
        assert node.counts == {"CONFIRMED": 2}


def test_an_archive_that_can_be_asked_nothing_leaves_its_results_sent(
    receiver: Receiver, outgoing: Callable[..., DeliveryHarness], caplog: pytest.LogCaptureFixture
) -> None:
    with archive(receiver, commitment=False, query=False) as pacs, outgoing(pacs.destination) as node:
        node.send()
        assert node.ask() == 2
        assert node.counts == {"SENT": 2}
        assert "offers neither storage commitment nor query" in node.backlog.error
        assert node.ask() == 0
        node.clock.now += 86400
        assert node.ask() == 2
        # Once is enough: each result is asked for again and again.
        warned = [record for record in caplog.records if "offers neither" in record.getMessage()]
        assert [record.levelno for record in warned if record.levelno >= logging.WARNING] == [logging.WARNING]
        assert node.conserved()


def test_by_setting_the_answer_to_the_result_itself_counts(
    receiver: Receiver, outgoing: Callable[..., DeliveryHarness]
) -> None:
    with (
        archive(receiver, commitment=False, query=False) as pacs,
        outgoing({**pacs.destination, "confirm": "response"}) as node,
    ):
        node.send()
        assert node.ask() == 2
        assert node.counts == {"CONFIRMED": 2}
        assert pacs.associations == 1


def test_an_archive_that_is_away_when_it_is_asked_is_asked_later(
    receiver: Receiver, outgoing: Callable[..., DeliveryHarness]
) -> None:
    with archive(receiver) as pacs, outgoing(pacs.destination, connect_seconds=1) as node:
        node.send()
        node.sender._release()
        pacs.stop()
        assert node.ask() == 2
        assert node.ask() == 0
        assert "cannot connect" in node.backlog.error
        pacs.start()
        pacs.answering = pacs.on_the_same
        node.clock.now += 600
        node.ask()
        until(lambda: node.counts == {"CONFIRMED": 2}, SECONDS, "both are confirmed")


def test_the_reports_of_strangers_are_refused(
    receiver: Receiver, outgoing: Callable[..., DeliveryHarness]
) -> None:
    with archive(receiver) as pacs, outgoing(pacs.destination) as node:
        node.send()
        node.ask()
        (request,) = pacs.requests
        request.TransactionUID = "2.25.404"
        pacs.report_to_node(request)
        assert pacs.report_statuses == [0x0115]
        assert node.counts == {"SENT": 2}


# -- sending --------------------------------------------------------------------------------------------


def test_an_archive_that_rejects_the_report_keeps_the_picture(
    receiver: Receiver, outgoing: Callable[..., DeliveryHarness]
) -> None:
    with archive(receiver) as pacs, outgoing(pacs.destination) as node:
        pacs.store_status, pacs.answering = {SR: 0xC000}, pacs.on_the_same
        node.send()
        assert node.counts == {"SENT": 1, "REJECTED": 1}
        node.ask()
        until(lambda: node.counts == {"CONFIRMED": 1, "REJECTED": 1}, SECONDS, "the picture is confirmed")
        node.clock.now += DAY
        assert (node.send(), node.ask()) == (0, 0)
        assert node.overview.confirmed_studies() == 0
        assert node.conserved()
        pacs.store_status = {}
        assert node.delivery_queue.retry() == 1
        assert (node.send(), node.ask()) == (1, 1)
        until(lambda: node.counts == {"CONFIRMED": 2}, SECONDS, "the report is confirmed as well")
        assert sorted(pacs.stored) == sorted(node.uids.values())


@pytest.mark.parametrize(
    ("hours", "step", "least", "most"), [(1, 5, 8, 24), (72, 300, 300, 900)], ids=["an hour", "three days"]
)
def test_an_archive_that_is_down_for_hours_or_days_gets_everything_once(
    receiver: Receiver,
    outgoing: Callable[..., DeliveryHarness],
    hours: int,
    step: int,
    least: int,
    most: int,
) -> None:
    """The time is the clock's; tries get rarer, ten minutes apart at most, and none is lost."""
    pacs = archive(receiver)
    with outgoing(pacs.destination, connect_seconds=1) as node:
        tried = 0
        for _ in range(hours * 3600 // step):
            tried += node.send()
            node.clock.now += step
        assert least <= tried <= most
        assert node.counts == {"ENCODED": 2}
        assert "cannot connect" in node.backlog.error
        assert node.conserved()
        with pacs:
            pacs.answering = pacs.on_the_same
            node.clock.now += 600
            assert node.send() == 2
            node.ask()
            until(lambda: node.counts == {"CONFIRMED": 2}, SECONDS, "both are confirmed")
        assert sorted(pacs.stored) == sorted(node.uids.values())


def test_an_archive_that_is_down_for_a_while_gets_everything_once(
    receiver: Receiver, outgoing: Callable[..., DeliveryHarness]
) -> None:
    """In real time, by the sender's own loop."""
    pacs, stop = archive(receiver), threading.Event()
    with outgoing(
        pacs.destination, connect_seconds=1, backoff_seconds=0.2, backoff_cap_seconds=1, idle_seconds=0.5
    ) as node:
        node.delivery_queue._clock = node.sender._confirmer._commitments._clock = time.time
        loop = threading.Thread(target=node.sender.run, args=(stop,))
        loop.start()
        try:
            until(lambda: node.backlog.error, SECONDS, "a first try has failed")
            begun = time.monotonic()
            until(lambda: time.monotonic() - begun > OUTAGE_SECONDS, OUTAGE_SECONDS + 1, "the outage is over")
            assert node.counts == {"ENCODED": 2}
            with pacs:
                pacs.answering = pacs.on_the_same
                until(lambda: node.counts == {"CONFIRMED": 2}, SECONDS, "both are confirmed")
                assert sorted(pacs.stored) == sorted(node.uids.values())
                assert node.conserved()
        finally:
            stop.set()
            loop.join()


def test_an_association_that_is_refused_is_tried_again(
    receiver: Receiver, outgoing: Callable[..., DeliveryHarness]
) -> None:
    with archive(receiver) as pacs, outgoing(pacs.destination) as node:
        pacs._ae.require_calling_aet = ["SOMEBODY_ELSE"]
        assert node.send() == 1
        assert node.counts == {"ENCODED": 2}
        assert "association rejected" in node.backlog.error
        pacs._ae.require_calling_aet = []
        assert node.send() == 0
        node.clock.now += 600
        assert node.send() == 2
        assert len(pacs.stored) == 2


def test_an_archive_that_answers_duplicate_has_it(
    receiver: Receiver, outgoing: Callable[..., DeliveryHarness]
) -> None:
    with archive(receiver) as pacs, outgoing(pacs.destination) as node:
        pacs.store_status = {SR: 0x0111, SC: 0x0111}
        assert node.send() == 2
        assert node.counts == {"SENT": 2}
        node.clock.now += DAY
        assert node.send() == 0


# -- Orthanc --------------------------------------------------------------------------------------------


@pytest.mark.peer
def test_orthanc_commits_to_what_it_has_and_gets_again_what_it_lost(
    tmp_path: Path, receiver: Receiver, outgoing: Callable[..., DeliveryHarness]
) -> None:
    with (
        Orthanc(tmp_path / "orthanc", node=NodeAddress("DICOM_NODE", receiver.port)) as pacs,
        outgoing(orthanc(pacs)) as node,
    ):
        assert node.send() == 2
        (lost,) = pacs.find("Instance", SOPInstanceUID=node.uids[SC])
        pacs.request("DELETE", f"/instances/{lost}")
        node.ask()
        until(lambda: node.counts == {"CONFIRMED": 1, "ENCODED": 1}, SECONDS, "one is kept, one is lost")
        assert "0112" in node.backlog.error
        node.clock.now += DAY
        assert (node.send(), node.ask()) == (1, 1)
        until(lambda: node.counts == {"CONFIRMED": 2}, SECONDS, "both are kept")
        assert node.conserved()


@pytest.mark.peer
def test_orthanc_that_does_not_know_the_node_is_queried(
    tmp_path: Path, receiver: Receiver, outgoing: Callable[..., DeliveryHarness]
) -> None:
    """Without an entry in DicomModalities it ends the association at each request for commitment."""
    overrides = {"DicomAlwaysAllowFind": True}
    with (
        Orthanc(tmp_path / "orthanc", overrides=overrides) as pacs,
        outgoing(orthanc(pacs)) as node,
    ):
        node.send()
        for _ in range(3):
            node.ask()
            assert "without an answer to N-ACTION" in node.backlog.error
            node.clock.now += DAY
        node.ask()
        assert node.counts == {"CONFIRMED": 2}


@pytest.mark.peer
def test_orthanc_takes_results_by_stow_and_is_asked_by_qido(
    tmp_path: Path, receiver: Receiver, outgoing: Callable[..., DeliveryHarness]
) -> None:
    with (
        Orthanc(tmp_path / "orthanc", dicomweb=True) as pacs,
        outgoing({"name": "web", "kind": "dicomweb", "url": pacs.dicomweb_url}) as node,
    ):
        assert node.send() == 2
        assert node.counts == {"SENT": 2}
        for uid in node.uids.values():
            (kept,) = pacs.find("Instance", SOPInstanceUID=uid)
            assert dcmread(BytesIO(pacs.file(kept))).SOPInstanceUID == uid
        (lost,) = pacs.find("Instance", SOPInstanceUID=node.uids[SC])
        pacs.request("DELETE", f"/instances/{lost}")
        node.ask()
        assert node.counts == {"CONFIRMED": 1, "SENT": 1}
        assert "does not find it" in node.backlog.error
        pacs.stop()
        node.clock.now += DAY
        node.ask()
        assert "cannot connect" in node.backlog.error
        assert node.counts == {"CONFIRMED": 1, "SENT": 1}


def orthanc(pacs: Orthanc) -> dict[str, Any]:
    return {"name": "archive", "ae_title": pacs.ae_title, "host": pacs.host, "port": pacs.dicom_port}
