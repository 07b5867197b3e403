"""Faults of peers, each followed by a good film that must be taken as if nothing had happened."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import socket
import sqlite3
import statistics
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pynetdicom.pdu_primitives import P_DATA as P_DATA_PRIMITIVE
from sqlalchemy import text

from dicom_node.dimse.server.listener import AcceptedAssociation
from dicom_node.dimse.status import Status
from tests.support import factories
from tests.support.film_file import FilmFile
from tests.support.peers import until
from tests.support.raw_association import (
    ABORT,
    ASSOCIATE_AC,
    ASSOCIATE_RJ,
    ASSOCIATE_RQ,
    CR,
    EXPLICIT,
    IMPLICIT,
    P_DATA,
    RELEASE_RP,
    RELEASE_RQ,
    VERIFICATION,
    Answer,
    RawAssociation,
    associate_rq,
    data_pdus,
    echo_rq,
    fragment,
    item,
    message,
    pdu,
    store_rq,
)
from tests.support.receiver import Receiver

MakeFilm = Callable[..., FilmFile]


@pytest.fixture(autouse=True)
def good_film(receiver: Receiver, film: MakeFilm) -> Iterator[None]:
    """After every fault, the next good film is stored."""
    yield
    receiver.stores(film(99))


def rss() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def encoded_data_set(ds: Dataset) -> bytes:
    stream = DicomBytesIO()
    stream.is_little_endian, stream.is_implicit_VR = True, False
    write_dataset(stream, ds)
    return bytes(stream.getvalue())


def seconds_until_closed(wire: RawAssociation) -> float:
    begun = time.monotonic()
    assert wire.closed()
    return time.monotonic() - begun


# -- connections -----------------------------------------------------------------------------------


def test_a_silent_client_is_closed_at_the_artim_time(receiver: Receiver) -> None:
    with RawAssociation(receiver.port) as wire:
        assert seconds_until_closed(wire) < 2.5


def test_a_health_check_that_connects_and_leaves_costs_nothing(receiver: Receiver) -> None:
    for _ in range(20):
        RawAssociation(receiver.port).socket.close()
    until(receiver.idle, 1, "no thread is left")


@pytest.mark.parametrize("kind", [ASSOCIATE_RQ, P_DATA])
def test_a_pdu_that_does_not_go_on_is_closed_at_its_deadline(receiver: Receiver, kind: int) -> None:
    wire = receiver.associated() if kind == P_DATA else RawAssociation(receiver.port)
    with wire:
        wire.write(struct.pack(">BxL", kind, 1000))
        assert seconds_until_closed(wire) < 2.5


def test_a_trickle_does_not_extend_the_deadline(receiver: Receiver) -> None:
    with receiver.associated() as wire:
        begun = time.monotonic()
        wire.write(struct.pack(">BxL", P_DATA, 1000))
        with contextlib.suppress(ConnectionError):
            while time.monotonic() - begun < 5:
                wire.write(b"\0")
                time.sleep(0.1)
        assert time.monotonic() - begun < 3


def test_an_idle_association_is_aborted(receiver: Receiver) -> None:
    with receiver.associated() as wire:
        begun = time.monotonic()
        assert wire.read()[0] == ABORT
        assert 2.5 < time.monotonic() - begun < 6


def test_a_pdu_in_two_pieces_does_not_wait_for_a_late_acknowledgement(receiver: Receiver) -> None:
    """As DCMTK writes them, with Nagle's algorithm: the second piece waits for the first one's ACK."""
    request, took = message(echo_rq(), context_id=1), []
    with receiver.associated() as wire:
        wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
        for _ in range(40):
            begun = time.monotonic()
            for piece in (request[:6], request[6:]):
                wire.write(piece)
            assert wire.answer().status == 0
            took.append(time.monotonic() - begun)
    assert statistics.median(took) < 0.035, took  # Linux acknowledges after 40 ms


# -- lengths ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [ASSOCIATE_RQ, P_DATA, RELEASE_RQ])
def test_an_announced_length_is_checked_before_it_is_read(receiver: Receiver, kind: int) -> None:
    before = rss()
    with RawAssociation(receiver.port) if kind == ASSOCIATE_RQ else receiver.associated() as wire:
        wire.write(struct.pack(">BxL", kind, 0xFFFFFFF0))
        assert wire.read()[0] == ABORT
        assert wire.closed()
    assert rss() - before < 5 << 20


def test_a_pdu_above_the_negotiated_maximum_is_aborted(receiver: Receiver, film: MakeFilm) -> None:
    maximum = receiver.settings.max_pdu_bytes
    with receiver.associated() as wire:
        wire.write(data_pdus(3, store_rq(CR.encode(), b"1.2.3"), maximum, is_command=True))
        wire.write(data_pdus(3, bytes(2 * maximum), 2 * maximum, is_command=False))
        assert wire.read()[0] == ABORT


def test_a_data_set_without_end_is_aborted_at_the_cap_and_leaves_no_file(receiver: Receiver) -> None:
    before = rss()
    piece = data_pdus(3, bytes(100_000), 131072, is_command=False, last=False)
    with receiver.associated() as wire:
        wire.write(data_pdus(3, store_rq(CR.encode(), b"1.2.3"), 131072, is_command=True))
        with contextlib.suppress(ConnectionError):
            for _ in range(1000):
                wire.write(piece)
            pytest.fail("100 MB were taken")
    until(lambda: not any(receiver.spool.incoming.iterdir()), 5, "the temporary file is gone")
    assert rss() - before < 20 << 20


def test_a_command_without_end_is_aborted(receiver: Receiver) -> None:
    piece = data_pdus(3, bytes(60_000), 131072, is_command=True, last=False)
    with receiver.associated() as wire:
        wire.write(piece * 2)
        assert wire.read()[0] == ABORT


def test_requests_that_wait_for_no_answer_are_aborted(receiver: Receiver) -> None:
    """Without an asynchronous operations window a peer has one request open."""
    with receiver.associated() as wire:
        with contextlib.suppress(ConnectionError):
            for _ in range(2000):
                wire.write(message(store_rq(CR.encode(), b"1.2.3"), bytes(1000)))
        assert wire.closed()


# -- protocol --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        b"GET / HTTP/1.1\r\nHost: node\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),  # TLS ClientHello
        struct.pack(">BxL", 0x42, 10) + bytes(10),
        struct.pack(">BxL", ASSOCIATE_RQ, 0),
        pdu(RELEASE_RQ, bytes(4)),
        pdu(P_DATA, fragment(1, 3, b"x")),
        pdu(0x02, bytes(4)),
        bytes(100),
        random.Random(1).randbytes(5000),
        pdu(ASSOCIATE_RQ, random.Random(2).randbytes(500)),
        pdu(ASSOCIATE_RQ, struct.pack(">HH", 1, 0) + bytes([200]) * 32 + bytes(32) + bytes(20)),
    ],
    ids=["http", "tls", "unknown", "empty", "release", "data", "other", "zeros", "random", "items", "titles"],
)
def test_what_is_no_association_request_is_closed(
    receiver: Receiver, content: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    with RawAssociation(receiver.port) as wire:
        wire.write(content)
        assert wire.closed()
    assert "Traceback" not in "".join(capfd.readouterr())


@pytest.mark.parametrize(
    "content",
    [
        associate_rq([(1, VERIFICATION, [IMPLICIT])])[:6] + random.Random(3).randbytes(600),
        pdu(P_DATA, b""),
        pdu(P_DATA, b"\0\0\0\x05\x01"),
        pdu(P_DATA, struct.pack(">LBB", 1 << 31, 1, 3)),
        pdu(P_DATA, struct.pack(">L", 0) + bytes(10)),
        pdu(P_DATA, fragment(1, 3, b"no command")),
        pdu(P_DATA, fragment(3, 2, b"no command before")),
        pdu(P_DATA, fragment(77, 3, store_rq(CR.encode(), b"1.2.3"))),
        pdu(P_DATA, fragment(3, 3, store_rq(CR.encode(), b"1.2.3")) * 2),
        pdu(ASSOCIATE_RQ, bytes(100)),
        pdu(0x06, bytes(4)),
        random.Random(4).randbytes(3000),
    ],
    ids=[
        "second-request",
        "empty",
        "half-header",
        "huge-pdv",
        "zero-pdv",
        "no-command",
        "data-first",
        "context",
        "command-in-data",
        "request",
        "response",
        "random",
    ],
)
def test_what_is_no_message_aborts_the_association(
    receiver: Receiver, content: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    with receiver.associated() as wire:
        wire.write(content)
        wire.socket.shutdown(socket.SHUT_WR)
        assert wire.closed()
    assert "Traceback" not in "".join(capfd.readouterr())


def _contexts(*numbers: int) -> bytes:
    return associate_rq([(number, VERIFICATION, [IMPLICIT]) for number in numbers])


@pytest.mark.parametrize(
    "request_",
    [
        _contexts(),
        _contexts(1, 1),
        _contexts(2),
        _contexts(0),
        associate_rq(extra=item(0x58, b"x") * 10_000),
        associate_rq(extra=item(0x20, b"\1")),
        pdu(
            ASSOCIATE_RQ,
            associate_rq()[6:] + b"".join(item(0x20, bytes([1, 0, 0, 0])) for _ in range(10_000)),
        ),
    ],
    ids=["zero", "twice", "even", "null", "items", "short", "ten-thousand"],
)
def test_a_request_with_impossible_contexts_is_aborted_at_once(receiver: Receiver, request_: bytes) -> None:
    before, begun = rss(), time.process_time()
    with RawAssociation(receiver.port) as wire:
        wire.write(request_)
        assert wire.read()[0] == ABORT
    assert time.process_time() - begun < 1
    assert rss() - before < 20 << 20


def test_a_request_with_as_many_contexts_as_there_can_be_is_accepted(receiver: Receiver) -> None:
    with RawAssociation(receiver.port) as wire:
        kind, _ = wire.associate([(number, CR, [EXPLICIT, IMPLICIT]) for number in range(1, 256, 2)])
        assert kind == ASSOCIATE_AC
        wire.release()


# -- admission -------------------------------------------------------------------------------------


def test_another_called_ae_is_rejected(receiver: Receiver) -> None:
    with RawAssociation(receiver.port) as wire:
        assert wire.associate(called="OTHER") == (ASSOCIATE_RJ, bytes([0, 1, 1, 7]))
        assert wire.closed()


def test_an_unknown_calling_ae_and_a_known_one_from_elsewhere_are_rejected(tmp_path: Path) -> None:
    peers = ({"ae_title": "KNOWN", "host": "127.0.0.1"}, {"ae_title": "ELSEWHERE", "host": "192.0.2.1"})
    with Receiver(tmp_path / "closed", known_peers=peers) as receiver:
        for calling, expected in (
            ("KNOWN", ASSOCIATE_AC),
            ("ELSEWHERE", ASSOCIATE_RJ),
            ("OTHER", ASSOCIATE_RJ),
        ):
            with RawAssociation(receiver.port) as wire:
                kind, body = wire.associate(calling=calling)
                assert kind == expected
                assert kind == ASSOCIATE_AC or body == bytes([0, 1, 1, 3])


def test_associations_above_the_limit_are_rejected_for_now(receiver: Receiver) -> None:
    places = receiver.settings.max_associations - 1  # one is left to other addresses
    held = [receiver.associated() for _ in range(places)]
    with contextlib.ExitStack() as stack:
        for one in held:
            stack.enter_context(one)
            one.write(message(store_rq(CR.encode(), b"1.2.3")))  # a request that goes on: nobody is idle
        with RawAssociation(receiver.port) as wire:
            assert wire.associate() == (ASSOCIATE_RJ, bytes([0, 2, 3, 2]))
        held.pop().socket.close()
        until(lambda: _accepted(receiver), 5, "a place is free again")


def _accepted(receiver: Receiver) -> bool:
    with RawAssociation(receiver.port) as wire:
        return wire.associate()[0] == ASSOCIATE_AC


def test_hundreds_of_peers_at_once_are_each_served_or_rejected(tmp_path: Path) -> None:
    # A hundred threads of this process on one interpreter write late: a second is too short for them.
    receiver = Receiver(tmp_path / "receiver", max_associations=8)

    def ask(number: int) -> int:
        with RawAssociation(receiver.port, seconds=60) as wire:
            kind, body = wire.associate(calling=f"PEER{number}")
            if kind == ASSOCIATE_AC:
                wire.write(message(echo_rq(), context_id=1))
                kind, body = wire.read()
                if kind == P_DATA:
                    assert Answer(body[6:]).status == 0
                    # Served; whoever is slow to leave while others wait is told to.
                    wire.write(pdu(RELEASE_RQ, bytes(4)))
                    assert wire.read()[0] in (RELEASE_RP, ABORT)
                    return ASSOCIATE_AC
            assert kind == ABORT or body == bytes([0, 2, 3, 2])
            return kind

    with receiver, ThreadPoolExecutor(100) as pool:
        kinds = list(pool.map(ask, range(400)))
    # A peer so slow that it has not begun when others wait is told that it gave way.
    assert set(kinds) <= {ASSOCIATE_AC, ASSOCIATE_RJ, ABORT}
    assert kinds.count(ABORT) < 40
    assert kinds.count(ASSOCIATE_AC) >= receiver.settings.max_associations


def test_an_answer_that_is_ready_after_the_abort_is_dropped(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    with receiver.associated() as wire:
        (association,) = (each for each in threading.enumerate() if isinstance(each, AcceptedAssociation))
        answer = P_DATA_PRIMITIVE()
        answer.presentation_data_value_list = [[1, b"\x03"]]  # type: ignore[list-item]
        association.abort(block=False)
        association.dul.send_pdu(answer)
        assert wire.read()[0] == ABORT
        assert wire.closed()
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_a_hundred_requests_that_have_begun_at_the_same_moment_are_all_answered(receiver: Receiver) -> None:
    request = associate_rq()
    with contextlib.ExitStack() as stack:
        wires = [stack.enter_context(RawAssociation(receiver.port, seconds=30)) for _ in range(100)]
        for wire in wires:
            wire.write(request[:40])
        assert _accepted(receiver)  # the node has seen those before it
        for wire in wires:
            wire.write(request[40:])
        # One that was accepted and has not begun for a while gives way to others.
        assert {wire.read()[0] for wire in wires} <= {ASSOCIATE_AC, ASSOCIATE_RJ, ABORT}


def test_descriptors_above_1023_work(receiver: Receiver, film: MakeFilm) -> None:
    """``select`` would raise for them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    others = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    try:
        receiver.stores(film(5))
        until(receiver.idle, 5, "the association is over")
    finally:
        for other in others:
            os.close(other)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# -- interruptions ---------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["fin", "rst", "abort", "release"])
def test_a_film_that_is_cut_off_leaves_nothing_and_the_earlier_ones_stay(
    receiver: Receiver, film: MakeFilm, how: str
) -> None:
    first, second = film(1), film(2)
    with receiver.associated() as wire:
        assert wire.store(first.data_set, first.uid).status == 0
        encoded = message(store_rq(CR.encode(), second.uid.encode()), second.data_set, max_pdu=4096)
        wire.write(encoded[:-500])
        if how == "rst":
            wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif how == "abort":
            wire.write(pdu(ABORT, bytes(4)))
        elif how == "release":
            wire.write(pdu(RELEASE_RQ, bytes(4)))
    until(receiver.idle, 5, "nothing of the second film is left")
    assert receiver.uids() == [first.uid]
    assert len(list(receiver.spool.names())) == 1


def test_an_abort_between_film_and_answer_keeps_the_film(receiver: Receiver, film: MakeFilm) -> None:
    sent = film()
    with receiver.associated() as wire:
        wire.write(message(store_rq(CR.encode(), sent.uid.encode()), sent.data_set) + pdu(ABORT, bytes(4)))
    until(lambda: receiver.uids() == [sent.uid], 5, "the film is kept")
    with receiver.associated() as wire:
        assert wire.store(sent.data_set, sent.uid).status == 0
        wire.release()
    assert [row["receptions"] for row in receiver.instances()] == [2]


# -- data sets -------------------------------------------------------------------------------------


def test_a_command_that_names_another_instance_is_answered_a900(receiver: Receiver, film: MakeFilm) -> None:
    sent = film()
    with receiver.associated() as wire:
        answer = wire.store(sent.data_set, "1.2.3.4")
        assert (answer.status, answer.comment) == (0xA900, "SOPInstanceUID is not the one of the command")
        wire.release()
    assert receiver.instances() == []


def test_a_class_that_is_not_the_one_of_command_and_context_is_answered_a900(
    receiver: Receiver, film: MakeFilm
) -> None:
    other = "1.2.840.10008.5.1.4.1.1.7"
    sent = film(SOPClassUID=other)
    with receiver.associated() as wire:
        assert wire.store(sent.data_set, sent.uid, sop_class=CR).status == 0xA900
        assert wire.store(sent.data_set, sent.uid, sop_class=other).status == 0xA900
        wire.release()
    assert receiver.instances() == []


BAD_UIDS = {
    "traversal": b"../../../tmp/evil",
    "absolute": b"/etc/passwd",
    "long": b"1." + b"2" * 63,
    "nul": b"1.2\x00.3",
    "unicode": "1.2.\u0663".encode(),
    "empty": b"",
    "space": b"1.2 .3",
    "dots": b"1..2",
    "one": b"1",
    "newline": b"1.2.3\n",
    "two values": b"1.2\\1.3",
}


@pytest.mark.parametrize("uid", BAD_UIDS.values(), ids=BAD_UIDS.keys())
def test_a_command_with_a_bad_uid_is_refused_with_a_reason(
    receiver: Receiver, film: MakeFilm, uid: bytes
) -> None:
    with receiver.associated() as wire:
        wire.write(message(store_rq(CR.encode(), uid), film().data_set))
        answer = wire.answer()
        assert answer.status == Status.INVALID_UID
        assert answer.comment == "AffectedSOPClassUID or InstanceUID is no UID"
        wire.release()
    assert receiver.instances() == []
    assert {path.name for path in receiver.folder.iterdir()} <= {
        "spool",
        *(f"index.sqlite{suffix}" for suffix in ("", "-wal", "-shm", ".lock")),
    }


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID"])
@pytest.mark.parametrize("uid", BAD_UIDS.values(), ids=BAD_UIDS.keys())
def test_a_data_set_with_a_bad_uid_is_refused_with_a_reason(
    receiver: Receiver, film: MakeFilm, keyword: str, uid: bytes
) -> None:
    sent = film()
    good = str(sent.ds[keyword].value).encode()
    old = struct.pack("<2sH", b"UI", len(good) + len(good) % 2) + good + b"\0" * (len(good) % 2)
    padded = uid + b"\0" * (len(uid) % 2)
    bad = sent.data_set.replace(old, struct.pack("<2sH", b"UI", len(padded)) + padded, 1)
    assert bad != sent.data_set
    with receiver.associated() as wire:
        answer = wire.store(bad, sent.uid)
        assert answer.status == (Status.INVALID_UID if uid else Status.MISSING_UID)
        assert answer.comment.startswith(keyword)
        wire.release()
    assert receiver.instances() == []


@pytest.mark.parametrize(
    "keyword", ["SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"]
)
def test_a_data_set_without_an_identifier_is_refused(
    receiver: Receiver, film: MakeFilm, keyword: str
) -> None:
    sent = film()
    del sent.ds[keyword]
    with receiver.associated() as wire:
        answer = wire.store(encoded_data_set(sent.ds), sent.uid)
        assert (answer.status, answer.comment) == (Status.MISSING_UID, f"{keyword} is missing or empty")
        wire.release()


def _nested(depth: int) -> bytes:
    """A sequence in a sequence, of undefined length all the way."""
    opening = struct.pack("<HH2sHL", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF)
    opening += struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
    return opening * depth


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", Status.MISSING_UID),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF\x00" * 50, Status.TRUNCATED),
        (b"%PDF-1.7 and so on and so on and so on", Status.TRUNCATED),
        (bytes(1000), Status.NOT_A_DATA_SET),
        (b"\x08", Status.TRUNCATED),
        (_nested(200), Status.TOO_COMPLEX),
        (_nested(20_000), Status.TOO_COMPLEX),
        (struct.pack("<HH2sH", 0x0009, 0x1001, b"LO", 0) * 120_000, Status.TOO_COMPLEX),
        (struct.pack("<HH2sHL", 0x0009, 0x1001, b"UN", 0, 0xFFFFFFF0), Status.TRUNCATED),
        (struct.pack("<HH2sHL", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF) + b"junk" * 4, Status.NOT_A_DATA_SET),
    ],
    ids=["empty", "jpeg", "pdf", "zeros", "byte", "nested", "deep", "many", "long", "sequence"],
)
def test_what_is_no_data_set_is_refused_with_a_reason(
    receiver: Receiver, content: bytes, status: Status
) -> None:
    before, begun = rss(), time.process_time()
    with receiver.associated() as wire:
        answer = wire.store(content, "1.2.3.4")
        assert answer.status == status, answer.comment
        assert answer.comment
        assert wire.echo().status == 0
        wire.release()
    assert time.process_time() - begun < 2
    assert rss() - before < 20 << 20
    assert receiver.instances() == []
    assert list(receiver.spool.names()) == []


def test_a_film_that_ends_early_is_refused(receiver: Receiver, film: MakeFilm) -> None:
    sent = film()
    with receiver.associated() as wire:
        for missing in (1, 100, len(sent.data_set) // 2, len(sent.data_set) - 100):
            answer = wire.store(sent.data_set[:-missing], sent.uid)
            assert answer.status == Status.TRUNCATED, missing
        wire.release()
    assert receiver.instances() == []


def test_a_file_sent_as_a_data_set_is_refused(receiver: Receiver, film: MakeFilm) -> None:
    sent = film()
    with receiver.associated() as wire:
        assert wire.store(sent.path.read_bytes(), sent.uid).status == Status.NOT_A_DATA_SET
        wire.release()


def test_a_film_in_another_syntax_than_negotiated_is_refused(receiver: Receiver, film: MakeFilm) -> None:
    sent = film(transfer_syntax=IMPLICIT)
    with receiver.associated() as wire:
        assert 0xC000 <= wire.store(sent.data_set, sent.uid).status < 0xD000
        wire.release()


def test_odd_values_are_none_of_the_receivers_business(receiver: Receiver, film: MakeFilm) -> None:
    strange = film(
        PatientName='"><img onerror=x>',
        SpecificCharacterSet="ISO_IR 999",
        StudyDate="99999999999999999",
        Rows=65535,
        WindowWidth="-1e308",
    )
    receiver.stores(strange)


# -- storage ---------------------------------------------------------------------------------------


def test_too_little_room_is_answered_a700_and_later_taken(tmp_path: Path, film: MakeFilm) -> None:
    sent = film()
    with Receiver(tmp_path / "full", min_free_bytes=1 << 60) as receiver, receiver.associated() as wire:
        answer = wire.store(sent.data_set, sent.uid)
        assert (answer.status, answer.comment) == (0xA700, "no room; send again later")
        assert list(receiver.spool.names()) == []
        receiver.spool._min_free_bytes = 0
        assert wire.store(sent.data_set, sent.uid).status == 0


def test_a_spool_that_cannot_be_written_is_answered_a7xx_and_later_taken(
    receiver: Receiver, film: MakeFilm
) -> None:
    sent = film()
    hidden = receiver.folder / "hidden"
    with receiver.associated() as wire:
        receiver.spool.incoming.rename(hidden)
        assert wire.store(sent.data_set, sent.uid).status >> 8 == 0xA7
        hidden.rename(receiver.spool.incoming)
        assert wire.store(sent.data_set, sent.uid).status == 0
        wire.release()


def test_an_index_that_fails_is_answered_a7xx_and_later_taken(receiver: Receiver, film: MakeFilm) -> None:
    sent = film()

    def rename(old: str, new: str) -> None:
        with receiver.index.engine.begin() as connection:
            connection.execute(text(f"ALTER TABLE {old} RENAME TO {new}"))

    with receiver.associated() as wire:
        rename("instance", "gone")
        assert wire.store(sent.data_set, sent.uid).status == Status.STORAGE_FAILED
        rename("gone", "instance")
        assert wire.store(sent.data_set, sent.uid).status == 0
        wire.release()
    assert receiver.uids() == [sent.uid]


def test_an_index_that_another_program_keeps_locked_is_answered_a7xx_and_later_taken(
    receiver: Receiver, film: MakeFilm
) -> None:
    """The node waits 20 s for the other program."""
    sent = film()
    with contextlib.closing(sqlite3.connect(str(receiver.index.engine.url.database))) as other:
        other.execute("BEGIN IMMEDIATE")
        with receiver.associated() as wire:
            wire.socket.settimeout(60)
            assert wire.store(sent.data_set, sent.uid).status == Status.STORAGE_FAILED
            other.rollback()
            assert wire.store(sent.data_set, sent.uid).status == 0
            wire.release()
    assert receiver.uids() == [sent.uid]


def test_a_failure_that_nobody_foresaw_is_answered_and_survived(
    receiver: Receiver, film: MakeFilm, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = film()

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    with receiver.associated() as wire:
        with monkeypatch.context() as patched:
            patched.setattr(receiver.index, "add_instance", fail)
            assert wire.store(sent.data_set, sent.uid).status == Status.INTERNAL_ERROR
        assert wire.store(sent.data_set, sent.uid).status == 0
        wire.release()


def test_our_own_saliency_images_may_come_back(receiver: Receiver) -> None:
    """A Secondary Capture is kept; that it is not analysed is decided where films are selected."""
    capture = factories.film(rows=16, columns=16, sop_class="1.2.840.10008.5.1.4.1.1.7")
    with RawAssociation(receiver.port) as wire:
        wire.associate([(3, capture.SOPClassUID, [EXPLICIT])])
        data_set = encoded_data_set(capture)
        assert wire.store(data_set, capture.SOPInstanceUID, capture.SOPClassUID).status == 0
        wire.release()
