"""Message exchange: requests from fragments, answers in fragments, and each breach of DIMSE by its name."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydicom import dcmread
from pynetdicom.pdu_primitives import P_DATA

from dicom_node.dimse.server.file_meta import Reception, reception_of
from dicom_node.dimse.server.messages import DimseRequest, MessageExchange, Operation
from tests.support.raw_association import (
    CR,
    EXPLICIT,
    IMPLICIT,
    VERIFICATION,
    Answer,
    command,
    echo_rq,
    even,
    parse_command,
    store_rq,
)

MOST = 64
"""Largest data set of these exchanges, in bytes."""
DATA, COMMAND, LAST = 0, 1, 2
STORE = store_rq(CR.encode(), b"1.2.3", message_id=5)
COMMITMENT = "1.2.840.10008.1.20.1"
CONTEXTS = {1: (VERIFICATION, IMPLICIT), 3: (CR, EXPLICIT), 5: (COMMITMENT, IMPLICIT)}


def event_report(message_id: int = 9) -> bytes:
    return command(
        {
            0x0002: even(COMMITMENT.encode()),
            0x0100: struct.pack("<H", Operation.N_EVENT_REPORT),
            0x0110: struct.pack("<H", message_id),
            0x0800: struct.pack("<H", 1),
            0x1000: even(b"1.2.840.10008.1.20.1.1"),
            0x1002: struct.pack("<H", 2),
        }
    )


@dataclass
class Exchange:
    """Exchange of an association that was accepted with :data:`CONTEXTS`; what it sends is kept."""

    folder: Path
    longest: int = 0
    sent: list[Any] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        association: Any = SimpleNamespace(
            _accepted_cx={
                number: SimpleNamespace(abstract_syntax=abstract, transfer_syntax=[syntax])
                for number, (abstract, syntax) in CONTEXTS.items()
            },
            calling_ae="MODALITY",
            host="192.0.2.7",
            is_requestor=False,
            requestor=SimpleNamespace(maximum_length=self.longest),
            dul=SimpleNamespace(send_pdu=self.sent.append),
        )
        self.dimse = MessageExchange(
            association,
            folder=self.folder,
            check_room=lambda: None,
            max_instance_bytes=MOST,
            refuse=self.refused.append,
        )

    def hear(self, *fragments: tuple[int, int, bytes]) -> None:
        """Let the exchange take one P-DATA: context ID, control header and content of each fragment."""
        primitive = P_DATA()
        for context_id, header, content in fragments:
            primitive.presentation_data_value_list.append((context_id, bytes([header]) + content))
        self.dimse.receive_primitive(primitive)

    def request(self) -> DimseRequest:
        """Next complete request."""
        context_id, request = self.dimse.get_msg()
        assert request.context_id == context_id
        found: DimseRequest = request
        return found

    def answers(self) -> list[tuple[int, int, bytes]]:
        """Fragments that were sent."""
        return [
            (context_id, fragment[0], fragment[1:])
            for primitive in self.sent
            for context_id, fragment in primitive.presentation_data_value_list
        ]


@pytest.fixture
def exchange(tmp_path: Path) -> Iterator[Exchange]:
    one = Exchange(tmp_path)
    yield one
    one.dimse.discard_unfinished()


def test_an_echo_is_a_request_and_its_answer_a_response(exchange: Exchange) -> None:
    assert (exchange.dimse.used, exchange.dimse.busy) == (False, False)
    exchange.hear((1, COMMAND | LAST, echo_rq(0xFFF7)))
    assert (exchange.dimse.used, exchange.dimse.busy) == (True, True)
    request = exchange.request()
    assert (request.operation, request.message_id, request.context_id) == (Operation.C_ECHO, 0xFFF7, 1)
    assert (request.abstract_syntax, request.transfer_syntax) == (VERIFICATION, IMPLICIT)
    assert (request.sop_class_uid, request.sop_instance_uid) == (VERIFICATION, "")
    assert (request.incoming, request.information, request.event_type) == (None, None, 0)
    exchange.dimse.answer(request, 0)
    ((context_id, header, content),) = exchange.answers()
    assert (context_id, header) == (1, COMMAND | LAST)
    answer = Answer(content)
    assert (answer.operation, answer.message_id, answer.status) == (0x8030, 0xFFF7, 0)
    assert parse_command(content)[0x0800] == b"\x01\x01"
    assert 0x0902 not in parse_command(content)  # no comment where there is nothing to say
    assert (exchange.dimse.busy, exchange.refused) == (False, [])


def test_a_stored_data_set_comes_in_pieces_and_becomes_a_file(exchange: Exchange) -> None:
    data = b"\x10\x00\x10\x00PN\x04\x00A^B "
    exchange.hear((3, COMMAND, STORE[:30]))
    exchange.hear((3, COMMAND | LAST, STORE[30:]), (3, DATA, data[:5]))
    assert exchange.dimse.msg_queue.empty()
    exchange.hear((3, DATA | LAST, data[5:]))
    request = exchange.request()
    assert (request.operation, request.message_id) == (Operation.C_STORE, 5)
    assert (request.sop_class_uid, request.sop_instance_uid) == (CR, "1.2.3")
    assert (request.moved_for, request.move_message_id) == ("", 0)
    assert request.incoming is not None
    assert request.incoming.path is not None
    assert request.incoming.digest == hashlib.sha256(data).hexdigest()
    ds = dcmread(request.incoming.path)
    assert ds.PatientName == "A^B"
    assert (ds.file_meta.MediaStorageSOPInstanceUID, ds.file_meta.TransferSyntaxUID) == ("1.2.3", EXPLICIT)
    assert reception_of(ds.file_meta) == Reception("MODALITY", "192.0.2.7", "", 0)
    exchange.dimse.answer(request, 0xA700, "no room")
    assert Answer(exchange.answers()[0][2]).comment == "no room"
    assert list(exchange.folder.iterdir()) == []


def test_who_moved_a_film_is_kept_with_it(exchange: Exchange) -> None:
    moved = command(
        {
            0x0002: even(CR.encode()),
            0x0100: struct.pack("<H", Operation.C_STORE),
            0x0800: struct.pack("<H", 1),
            0x1000: even(b"1.2.3"),
            0x1030: b"WORKSTATION\0    and more",
            0x1031: struct.pack("<H", 0xFFFE),
        }
    )
    exchange.hear((3, COMMAND | LAST, moved), (3, DATA | LAST, b""))
    request = exchange.request()
    assert (request.message_id, request.moved_for, request.move_message_id) == (0, "WORKSTATION", 0xFFFE)
    assert request.incoming is not None
    assert request.incoming.path is not None
    assert reception_of(dcmread(request.incoming.path).file_meta) == Reception(
        "MODALITY", "192.0.2.7", "WORKSTATION", 0xFFFE
    )


@pytest.mark.parametrize(
    ("encoded", "title"), [(b"XRAY-X\0\0", "XRAY-X"), (b"R\xd6NTGEN ", "R\ufffdNTGEN"), (b"", "")]
)
def test_the_title_of_the_mover_is_text_whatever_it_is(
    exchange: Exchange, encoded: bytes, title: str
) -> None:
    moved = command(
        {
            0x0002: even(CR.encode()),
            0x0100: b"\x01\0",
            0x0800: b"\x01\0",
            0x1000: even(b"1.2.3"),
            0x1030: encoded,
        }
    )
    exchange.hear((3, COMMAND | LAST, moved), (3, DATA | LAST, b""))
    assert exchange.request().moved_for == title


@pytest.mark.parametrize("odd", [b"\x01", b"\x01\x00\x00\x00", b""])
def test_an_odd_message_id_of_the_mover_is_none(exchange: Exchange, odd: bytes) -> None:
    moved = command(
        {0x0002: even(CR.encode()), 0x0100: b"\x01\0", 0x0800: b"\x01\0", 0x1000: even(b"1.2.3"), 0x1031: odd}
    )
    exchange.hear((3, COMMAND | LAST, moved), (3, DATA | LAST, b""))
    assert exchange.request().move_message_id == 0


@pytest.mark.parametrize(("sop_class", "instance"), [(b"", b"1.2.3"), (CR.encode(), b""), (b"1.a", b"1.2.3")])
def test_a_film_without_its_identifiers_is_a_request_and_no_file(
    exchange: Exchange, sop_class: bytes, instance: bytes
) -> None:
    exchange.hear((3, COMMAND | LAST, store_rq(sop_class, instance)), (3, DATA | LAST, b"data"))
    request = exchange.request()
    assert request.incoming is not None
    assert (request.incoming.path, request.incoming.error) == (None, None)
    assert list(exchange.folder.iterdir()) == []


def test_the_information_of_an_event_is_gathered(exchange: Exchange) -> None:
    exchange.hear((5, COMMAND | LAST, event_report()), (5, DATA, b"one,"), (5, DATA | LAST, b"two"))
    request = exchange.request()
    assert (request.operation, request.message_id, request.event_type) == (Operation.N_EVENT_REPORT, 9, 2)
    assert (request.information, request.incoming) == (bytearray(b"one,two"), None)
    exchange.dimse.answer(request, 0)
    assert Answer(exchange.answers()[0][2]).operation == 0x8100


def test_the_next_request_begins_anew(exchange: Exchange) -> None:
    for number in range(1, 4):
        exchange.hear((3, COMMAND | LAST, store_rq(CR.encode(), b"1.2.%d" % number, message_id=number)))
        exchange.hear((3, DATA, bytes(MOST // 2)), (3, DATA | LAST, bytes(MOST // 2)))
        request = exchange.request()
        assert (request.message_id, request.sop_instance_uid) == (number, f"1.2.{number}")
        exchange.dimse.answer(request, 0)
        assert not exchange.dimse.busy
    assert exchange.refused == []


@pytest.mark.parametrize(
    ("fragments", "reason"),
    [
        ([(3, DATA | LAST, b"data")], "a data set came without its command"),
        ([(3, COMMAND | LAST, STORE), (1, DATA, b"")], "a data set came without its command"),
        ([(3, COMMAND | LAST, STORE), (3, COMMAND, b"")], "a command came inside a data set"),
        ([(3, COMMAND | LAST, STORE), (3, DATA, bytes(65))], "a data set is larger than 64 bytes"),
        (
            [(3, COMMAND | LAST, STORE), (3, DATA, bytes(64)), (3, DATA, b"\0")],
            "a data set is larger than 64 bytes",
        ),
        ([(1, COMMAND, bytes(1 << 16)), (1, COMMAND, b"\0")], "a command is larger than 65536 bytes"),
        ([(7, COMMAND | LAST, STORE)], "presentation context 7 was not accepted"),
        ([(1, COMMAND | LAST, command({0x0800: b"\x01\x01"}))], "a command lacks (0000,0100)"),
        ([(1, COMMAND | LAST, command({0x0100: b"\x30\0"}))], "a command lacks (0000,0800)"),
        ([(1, COMMAND | LAST, b"\0\0\0\x01\x09\0\0\0\x30")], "a command cannot be read"),
        (
            [(1, COMMAND | LAST, command({0x0100: b"\x30", 0x0800: b"\x01\x01"}))],
            "a command cannot be read",
        ),
        (
            [(5, COMMAND | LAST, event_report()), (5, DATA, bytes((1 << 20) + 1))],
            "a data set is larger than 1048576 bytes",
        ),
    ],
)
def test_a_breach_is_named(exchange: Exchange, fragments: list[tuple[int, int, bytes]], reason: str) -> None:
    exchange.hear(*fragments)
    assert exchange.refused == [reason]
    assert exchange.dimse.msg_queue.empty()


def test_the_largest_information_and_command_are_taken(exchange: Exchange) -> None:
    exchange.hear((5, COMMAND | LAST, event_report()), (5, DATA, bytes(1 << 20)), (5, DATA | LAST, b""))
    assert len(exchange.request().information or b"") == 1 << 20
    exchange.hear((1, COMMAND, bytes(1 << 16)))
    assert exchange.refused == []


def test_eight_requests_may_wait_and_no_ninth(exchange: Exchange) -> None:
    for number in range(8):
        exchange.hear((1, COMMAND | LAST, echo_rq(number)))
    assert exchange.refused == []
    exchange.hear((1, COMMAND | LAST, echo_rq(8)))
    assert exchange.refused == ["more than 8 requests wait for their answer"]


def test_what_was_complete_and_not_served_is_told_at_the_end(exchange: Exchange) -> None:
    exchange.hear((1, COMMAND | LAST, echo_rq(1)))
    exchange.dimse.msg_queue.put((None, None))
    exchange.hear((1, COMMAND | LAST, echo_rq(2)))
    assert [request.message_id for request in exchange.dimse.unserved()] == [1, 2]
    assert list(exchange.dimse.unserved()) == []


def test_the_file_of_a_request_that_never_ended_is_removed(exchange: Exchange) -> None:
    exchange.dimse.discard_unfinished()
    exchange.hear((3, COMMAND | LAST, STORE), (3, DATA, b"data"))
    assert len(list(exchange.folder.iterdir())) == 1
    exchange.dimse.discard_unfinished()
    assert list(exchange.folder.iterdir()) == []


def test_nothing_comes_of_waiting_for_nobody(exchange: Exchange) -> None:
    assert exchange.dimse.get_msg() == (None, None)


@pytest.mark.parametrize(
    ("longest", "most"), [(0, 1 << 16), (6, 1 << 16), (7, 1), (46, 40), (1 << 14, (1 << 14) - 6)]
)
def test_an_answer_is_cut_to_what_the_peer_takes(tmp_path: Path, longest: int, most: int) -> None:
    exchange = Exchange(tmp_path, longest)
    exchange.hear((1, COMMAND | LAST, echo_rq(3)))
    exchange.dimse.answer(exchange.request(), 0x0110, "why")
    fragments = exchange.answers()
    assert all(context_id == 1 and 0 < len(content) <= most for context_id, _, content in fragments)
    assert [header for _, header, _ in fragments] == [COMMAND] * (len(fragments) - 1) + [COMMAND | LAST]
    whole = b"".join(content for _, _, content in fragments)
    assert len(fragments) == -(-len(whole) // most)
    assert (Answer(whole).status, Answer(whole).comment) == (0x0110, "why")


@pytest.mark.parametrize(("operation", "answered"), [(0x8001, 0), (0x0FFF, 0), (0x0020, 1)])
def test_a_response_and_a_cancel_have_no_answer(exchange: Exchange, operation: int, answered: int) -> None:
    exchange.hear((3, COMMAND | LAST, store_rq(b"", b"", operation=operation, data_set_type=0x0101)))
    request = exchange.request()
    exchange.dimse.answer(request, 0x0211)
    assert len(exchange.answers()) == answered
    assert not exchange.dimse.busy
