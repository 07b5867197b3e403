"""The SCU of storage commitment and of queries towards archives that end associations and answer oddly."""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Callable
from io import BytesIO
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom.dsutils import decode, encode

from dicom_node.dimse.client import peer
from dicom_node.dimse.client.association import MessageExchange, RequestedAssociation
from dicom_node.dimse.client.confirmation import ConfirmationSession
from dicom_node.dimse.client.query_retrieve import QueryRetrieveSession
from dicom_node.dimse.commitment import CommitmentReport, InstanceReference
from dicom_node.errors import PeerUnavailable
from dicom_node.store.states import Confirmation
from tests.support.archive import report
from tests.support.odd_archive import OddArchive, Talk
from tests.support.peers import until
from tests.support.raw_association import P_DATA, command, even, fragment, pdu

REFERENCES = [
    InstanceReference("1.2.840.10008.5.1.4.1.1.88.33", f"1.2.3.{n}", "1.2", "1.2.9") for n in (1, 2)
]
ENDS: dict[str, Callable[[Talk], object]] = {
    "released": Talk.release,
    "aborted": Talk.abort,
    "closed": Talk.close,
}


def session(archive: OddArchive, reports: list[CommitmentReport]) -> ConfirmationSession:
    return ConfirmationSession(
        "ODD",
        "127.0.0.1",
        archive.port,
        calling_ae="NODE",
        response_seconds=60,
        on_report=reports.append,
    )


def retrieval(archive: OddArchive) -> QueryRetrieveSession:
    deadline = time.monotonic() + 60
    return QueryRetrieveSession("ODD", "127.0.0.1", archive.port, calling_ae="NODE", deadline=deadline)


ASK: dict[str, Callable[[OddArchive], object]] = {
    "N-ACTION": lambda archive: session(archive, []).commit("2.25.1", REFERENCES),
    "C-FIND": lambda archive: session(archive, []).find(REFERENCES),
    "C-FIND of priors": lambda archive: retrieval(archive).studies("P", "20200101", "20201231"),
    "C-MOVE of priors": lambda archive: list(retrieval(archive).fetch("1.2", ["1.2.9"])),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("asked", ASK)
def test_the_end_of_the_association_ends_the_wait_for_an_answer(asked: str, end: str) -> None:
    with OddArchive(stored=ENDS[end]) as archive:
        begun = time.monotonic()
        with pytest.raises(PeerUnavailable, match=end):
            ASK[asked](archive)
        assert time.monotonic() - begun < 5


def endless(talk: Talk, header: int) -> None:
    """Begin a response, and never end its command (1) or its data set (0)."""
    if header == 0:
        talk.say(talk.data(talk.response(0xFF00, x0800=b"\1\0")))
    # More than any limit; the node ends the association long before all of it.
    for _ in range(1 << 10):
        talk.say(pdu(P_DATA, fragment(talk.context_id, header, bytes(16000))))


@pytest.mark.parametrize("header", [0, 1], ids=["data set", "command"])
def test_a_response_without_end_is_given_up(header: int) -> None:
    with (
        OddArchive(stored=lambda talk: endless(talk, header)) as archive,
        pytest.raises(PeerUnavailable, match="the answer cannot be read"),
    ):
        session(archive, []).find(REFERENCES)


def pending(talk: Talk) -> None:
    """Answer a query with one match after the other, for ever."""
    found = Dataset()
    found.SOPInstanceUID = "1.2.3.1"
    encoded = encode(found, False, True) or b""
    while True:
        talk.say(
            talk.data(talk.response(0xFF00, x0800=b"\1\0")),
            pdu(P_DATA, fragment(talk.context_id, 2, encoded)),
        )


@pytest.mark.parametrize("asked", ["C-FIND", "C-FIND of priors"])
def test_matches_without_end_are_given_up(asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer, "MAX_ANSWERS", 20)
    with (
        OddArchive(stored=pending) as archive,
        pytest.raises(PeerUnavailable, match="C-FIND gave more than 20 answers"),
    ):
        ASK[asked](archive)


def report_request(talk: Talk) -> tuple[bytes, bytes]:
    """N-EVENT-REPORT request that answers the N-ACTION of a talk, and its data set."""
    syntax = UID("1.2.840.10008.1.2.1" if b"1.2.840.10008.1.2.1" in talk.asked else "1.2.840.10008.1.2")
    asked = decode(BytesIO(talk.data_set), syntax.is_implicit_VR, syntax.is_little_endian)
    event_type, information = report(asked)
    request = command(
        {
            0x0002: even(b"1.2.840.10008.1.20.1"),
            0x0100: struct.pack("<H", 0x0100),
            0x0110: struct.pack("<H", 7),
            0x0800: struct.pack("<H", 1),
            0x1000: even(b"1.2.840.10008.1.20.1.1"),
            0x1002: struct.pack("<H", event_type),
        }
    )
    encoded = encode(information, syntax.is_implicit_VR, syntax.is_little_endian)
    assert encoded is not None
    return request, encoded


@pytest.mark.parametrize("way", ["response first", "report first", "response within"])
def test_the_report_may_come_with_the_response_or_before_or_around_it(way: str) -> None:
    answered = threading.Event()

    def answer(talk: Talk) -> None:
        if struct.unpack("<H", talk.request[0x0100])[0] != 0x0130:
            answered.set()
            return
        request, data_set = report_request(talk)
        response = fragment(talk.context_id, 3, talk.response())
        told, data = fragment(talk.context_id, 3, request), fragment(talk.context_id, 2, data_set)
        order = {
            "response first": [response, told, data],
            "report first": [told, data, response],
            "response within": [told, response, data],
        }[way]
        talk.say(pdu(P_DATA, b"".join(order)))

    reports: list[CommitmentReport] = []
    with OddArchive(stored=answer) as archive:
        asking = session(archive, reports)
        assert Confirmation.COMMITMENT in asking.offered()
        begun = time.monotonic()
        asking.commit("2.25.1", REFERENCES)
        until(lambda: reports, 5, "the report is heard")
        assert time.monotonic() - begun < 5
        assert reports[0].transaction_uid == "2.25.1"
        assert set(reports[0].answers) == {"1.2.3.1", "1.2.3.2"}
        asking.release()


def matches(talk: Talk, *uids: str, final: dict[str, Any]) -> None:
    for uid in uids:
        found = Dataset()
        found.SOPInstanceUID = uid
        encoded = encode(found, False, True) or b""
        talk.say(
            talk.data(talk.response(0xFF00, x0800=b"\1\0")),
            pdu(P_DATA, fragment(talk.context_id, 2, encoded)),
        )
    talk.answer(**final)


@pytest.mark.parametrize("final", [{}, {"x0800": b"\0\0"}, {"x0800": None}, {"x0120": None}])
def test_the_matches_of_a_query_are_read_to_the_last(final: dict[str, Any]) -> None:
    with OddArchive(stored=lambda talk: matches(talk, "1.2.3.1", "1.2.3.2", final=final)) as archive:
        asking = session(archive, [])
        assert asking.find(REFERENCES) == {"1.2.3.1", "1.2.3.2"}
        assert asking.find(REFERENCES) == {"1.2.3.1", "1.2.3.2"}
        assert archive.associations == 1
        asking.release()


def test_the_thread_of_the_library_takes_no_response(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pynetdicom lets it sleep while a request is open, but looks only whether it is about to."""
    polls, get = [0], MessageExchange.get_msg

    def get_late(self: MessageExchange, block: bool = False) -> Any:
        if not block:
            polls[0] += 1
            return get(self, block=False)
        enough = polls[0] + 5
        until(lambda: polls[0] > enough, 5, "the thread has looked for messages")
        return get(self, block=True)

    awake = property(lambda _self: True, lambda _self, _value: None)
    monkeypatch.setattr(RequestedAssociation, "_is_paused", awake, raising=False)
    with OddArchive(stored=lambda talk: matches(talk, "1.2.3.1", "1.2.3.2", final={})) as archive:
        asking = session(archive, [])
        asking.offered()
        assert asking._association is not None
        monkeypatch.setattr(asking._association._reactor_checkpoint, "clear", lambda: None)
        monkeypatch.setattr(MessageExchange, "get_msg", get_late)
        for _ in range(2):
            assert asking.find(REFERENCES) == {"1.2.3.1", "1.2.3.2"}
        asking.release()
