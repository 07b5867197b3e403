"""Association requests as devices write them: read, or rejected with the right reason (PS3.8, PS3.7)."""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dicom_node.dimse.server.listener import AcceptedAssociation
from tests.support.peers import until
from tests.support.raw_association import (
    ABORT,
    ASSOCIATE_AC,
    ASSOCIATE_RJ,
    ASSOCIATE_RQ,
    CR,
    EXPLICIT,
    IMPLICIT,
    VERIFICATION,
    RawAssociation,
    echo_rq,
    item,
    message,
    pdu,
)
from tests.support.receiver import Receiver

APPLICATION_CONTEXT = b"1.2.840.10008.3.1.1.1"
UNKNOWN_SYNTAX = b"1.2.840.113709.1.2.2"
NODE, MODALITY = b"DICOM_NODE".ljust(16), b"MODALITY".ljust(16)
LATIN_1 = "RÖNTGEN1".encode("latin-1")


def context(number: int = 1, abstract: bytes = VERIFICATION.encode(), *syntaxes: bytes) -> bytes:
    inner = item(0x30, abstract) + b"".join(item(0x40, each) for each in syntaxes or (IMPLICIT.encode(),))
    return item(0x20, bytes([number, 0, 0, 0]) + inner)


def user(
    *more: bytes,
    maximum: bytes | None = struct.pack(">L", 16384),
    implementation: bytes | None = b"1.2.3.4",
    version: bytes | None = b"TEST",
) -> bytes:
    """User information item; None leaves a sub-item out."""
    given = [(0x51, maximum), (0x52, implementation)]
    parts = [item(kind, value) for kind, value in given if value is not None] + [*more]
    return item(0x50, b"".join(parts + ([] if version is None else [item(0x55, version)])))


def request(
    *,
    called: bytes = NODE,
    calling: bytes = MODALITY,
    protocol: int = 1,
    application: bytes = item(0x10, APPLICATION_CONTEXT),
    contexts: bytes | None = None,
    user_items: bytes | None = None,
    reserved: bytes = bytes(32),
) -> bytes:
    fixed = struct.pack(">H2x16s16s32s", protocol, called, calling, reserved)
    parts = (
        application,
        context() if contexts is None else contexts,
        user() if user_items is None else user_items,
    )
    return pdu(ASSOCIATE_RQ, fixed + b"".join(parts))


def roles(uid: str, scu: int, scp: int) -> bytes:
    return item(0x54, struct.pack(">H", len(uid)) + uid.encode() + bytes([scu, scp]))


def identity(kind: int, first: bytes, second: bytes = b"", *, answer: bool = False) -> bytes:
    return item(
        0x58,
        bytes([kind, answer])
        + struct.pack(">H", len(first))
        + first
        + struct.pack(">H", len(second))
        + second,
    )


def uid_field(uid: bytes) -> bytes:
    return struct.pack(">H", len(uid)) + uid


def told(*more: bytes, **named: Any) -> dict[str, Any]:
    return {"user_items": user(*more, **named)}


REVERSED = item(0x50, item(0x55, b"TEST") + item(0x52, b"1.2.3.4") + item(0x51, struct.pack(">L", 16384)))
VERIFIED = VERIFICATION.encode()

READ: dict[str, dict[str, Any]] = {
    "as the standard has it": {},
    # User information: what is unknown is skipped, nothing of it is a reason to refuse (PS3.7 D.3.3).
    "version name of one character": told(version=b"1"),
    "version name of 17 characters": told(version=b"X" * 17),
    "version name of 64 characters": told(version=b"X" * 64),
    "version name empty": told(version=b""),
    "version name in Latin-1": told(version="Röntgen".encode("latin-1")),
    "version name padded with NUL": told(version=b"GE_1.0\0\0"),
    "version name absent": told(version=None),
    "implementation class absent": told(implementation=None),
    "implementation class empty": told(implementation=b""),
    "implementation class with a leading zero": told(implementation=b"1.2.036.1"),
    "implementation class padded with NUL": told(implementation=b"1.2.840.1\0"),
    "maximum length absent": told(maximum=None),
    "maximum length of two bytes": told(maximum=b"\x40\0"),
    "maximum length without limit": told(maximum=bytes(4)),
    "maximum length of 4 GiB": told(maximum=b"\xff" * 4),
    "maximum length of 128 bytes": told(maximum=struct.pack(">L", 128)),
    "no user information": {"user_items": b""},
    "empty user information": {"user_items": item(0x50, b"")},
    "user information in reverse order": {"user_items": REVERSED},
    "unknown user sub-item": told(item(0x60, b"abcd")),
    "unknown item": {"application": item(0x10, APPLICATION_CONTEXT) + item(0x60, b"abcd")},
    # AE titles: blanks do not count, and what comes after NUL is no part of a title.
    "called AE title padded with NUL": {"called": b"DICOM_NODE".ljust(16, b"\0")},
    "called AE title with rubbish after NUL": {"called": b"DICOM_NODE\0QXYZ1"},
    "called AE title with leading blanks": {"called": b"  DICOM_NODE".ljust(16)},
    "calling AE title padded with NUL": {"calling": b"MODALITY".ljust(16, b"\0")},
    "calling AE title in Latin-1": {"calling": LATIN_1.ljust(16)},
    "calling AE title with a backslash": {"calling": b"A\\B".ljust(16)},
    # Only bit 0 of the protocol version is tested (PS3.8 table 9-11).
    "protocol version with bit 1 too": {"protocol": 3},
    "protocol version with all bits": {"protocol": 0xFFFF},
    # UIDs: padded ones are read; what is unknown refuses its own context and no other.
    "application context padded with NUL": {"application": item(0x10, APPLICATION_CONTEXT + b"\0")},
    "abstract syntax padded with NUL": {"contexts": context(1, VERIFIED + b"\0")},
    "abstract syntax padded with a blank": {"contexts": context(1, VERIFIED + b" ")},
    "transfer syntax padded with NUL": {"contexts": context(1, VERIFIED, IMPLICIT.encode() + b"\0")},
    "transfer syntax padded with a blank": {"contexts": context(1, VERIFIED, IMPLICIT.encode() + b" ")},
    "transfer syntax twice": {"contexts": context(1, VERIFIED, *[IMPLICIT.encode()] * 2)},
    "an empty transfer syntax beside": {"contexts": context(1, VERIFIED, IMPLICIT.encode(), b"")},
    "a context of unknown transfer syntaxes beside": {
        "contexts": context() + context(3, CR.encode(), UNKNOWN_SYNTAX)
    },
    "a context without transfer syntaxes beside": {
        "contexts": context() + item(0x20, bytes([3, 0, 0, 0]) + item(0x30, CR.encode()))
    },
    "a context without an abstract syntax beside": {
        "contexts": context() + item(0x20, bytes([3, 0, 0, 0]) + item(0x40, IMPLICIT.encode()))
    },
    "an abstract syntax that is no UID beside": {"contexts": context() + context(3, b"1.2.840.113619.4.2.x")},
    "an abstract syntax with leading zeros beside": {
        "contexts": context() + context(3, b"1.2.840.0113619.04.2")
    },
    "an unknown sub-item in a context": {
        "contexts": item(
            0x20,
            bytes([1, 0, 0, 0]) + item(0x30, VERIFIED) + item(0x70, b"x") + item(0x40, IMPLICIT.encode()),
        )
    },
    "context numbers descending": {"contexts": b"".join(context(number) for number in (255, 5, 1))},
    "one abstract syntax in 128 contexts": {
        "contexts": b"".join(context(number) for number in range(1, 256, 2))
    },
    # Negotiations: a role that makes no sense is none, the others are not supported (PS3.7 D.3.3).
    "both roles of Verification": told(roles(VERIFICATION, 1, 1)),
    "no role of Verification": told(roles(VERIFICATION, 0, 0)),
    "roles of a class that is not proposed": told(roles("1.2.840.10008.5.1.4.1.1.7", 1, 1)),
    "roles that contradict each other": told(roles(VERIFICATION, 1, 0), roles(VERIFICATION, 0, 1)),
    "roles of value 2": told(roles(VERIFICATION, 2, 2)),
    "roles cut short": told(item(0x54, b"\0")),
    "unlimited operations window": told(item(0x53, bytes(4))),
    "operations window of 8 and 1": told(item(0x53, b"\0\x08\0\x01")),
    "user name, with an answer asked for": told(identity(1, b"tech", answer=True)),
    "user name and passcode": told(identity(2, b"tech", b"secret")),
    "user name without its passcode": told(identity(2, b"tech")),
    "Kerberos ticket": told(identity(3, b"ticket")),
    "SAML assertion": told(identity(4, b"<saml/>")),
    "JSON web token": told(identity(5, b"a.b.c")),
    "user identity of an undefined type": told(identity(6, b"x")),
    "user identity twice": told(identity(1, b"a"), identity(1, b"b")),
    "extended negotiation": told(item(0x56, uid_field(VERIFIED) + b"\1\1")),
    "common extended negotiation": told(
        item(0x57, uid_field(VERIFIED) + uid_field(b"1.2.840.10008.4.2") + bytes(2))
    ),
}
"""Requests that an acceptor reads: it accepts them, and answers C-ECHO in their Verification context."""

REJECTED: dict[str, tuple[dict[str, Any], tuple[int, int, int], str]] = {
    "called AE title in lower case": (
        {"called": b"dicom_node".ljust(16)},
        (1, 1, 7),
        "called AE title not recognised (1/1/7): dicom_node, but this node is DICOM_NODE",
    ),
    "called AE title of blanks": (
        {"called": b" " * 16},
        (1, 1, 7),
        "called AE title not recognised (1/1/7): none",
    ),
    "calling AE title of blanks": (
        {"calling": b" " * 16},
        (1, 1, 3),
        "calling AE title not recognised (1/1/3): none",
    ),
    "calling AE title of NUL": (
        {"calling": bytes(16)},
        (1, 1, 3),
        "calling AE title not recognised (1/1/3): none",
    ),
    "protocol version without bit 0": (
        {"protocol": 2},
        (1, 2, 2),
        "protocol version not supported (1/2/2): protocol version 2",
    ),
    "protocol version 0": (
        {"protocol": 0},
        (1, 2, 2),
        "protocol version not supported (1/2/2): protocol version 0",
    ),
    "unknown application context": (
        {"application": item(0x10, APPLICATION_CONTEXT[:-1] + b"99")},
        (1, 1, 2),
        "application context name not supported (1/1/2): 1.2.840.10008.3.1.1.99 is not DICOM's",
    ),
    "no application context": (
        {"application": b""},
        (1, 1, 2),
        "application context name not supported (1/1/2): none is not DICOM's",
    ),
}
"""Requests that are rejected, with result, source and reason (PS3.8 table 9-21), and what the log says."""

ABORTED: dict[str, tuple[bytes, str]] = {
    "even context number": (request(contexts=context(2)), "presentation context ID 2 is even or not unique"),
    "no context": (request(contexts=b""), "proposes no presentation context"),
    "an item that is longer than the request": (
        request(user_items=item(0x50, b"")[:-1] + b"\x40"),
        "ends inside an item",
    ),
    "an application context of another length": (
        request(contexts=item(0x20, bytes([1, 0, 0, 0]) + b"\x30\0\xff\xff" + VERIFIED)),
        "ends inside an item",
    ),
}
"""Requests that cannot be taken apart: an A-ABORT, and what the log says."""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    """Receiver of all requests: none of them may disturb the next."""
    with Receiver(tmp_path_factory.mktemp("node"), association_seconds=1, pdu_seconds=1) as running:
        yield running
        until(running.idle, 10, "no thread is left")


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    caplog.set_level(logging.INFO, "dicom_node.dimse")
    return lambda: "\n".join(caplog.messages)


@pytest.mark.parametrize("changes", READ.values(), ids=READ.keys())
def test_a_request_that_can_be_understood_is_accepted(node: Receiver, changes: dict[str, Any]) -> None:
    sent = request(**changes)
    with RawAssociation(node.port) as wire:
        wire.write(sent)
        kind, body = wire.read()
        assert kind == ASSOCIATE_AC, (kind, body)
        assert body[4:68] == sent[10:74], "titles and reserved bytes come back as they were sent"
        wire.write(message(echo_rq(), context_id=1))
        assert wire.answer().status == 0
        wire.release()


@pytest.mark.parametrize(("changes", "numbers", "sentence"), REJECTED.values(), ids=REJECTED.keys())
def test_a_request_that_may_not_be_accepted_is_rejected_with_its_reason(
    node: Receiver,
    said: Callable[[], str],
    changes: dict[str, Any],
    numbers: tuple[int, int, int],
    sentence: str,
) -> None:
    with RawAssociation(node.port) as wire:
        wire.write(request(**changes))
        assert wire.read() == (ASSOCIATE_RJ, bytes([0, *numbers]))
        assert wire.closed()
    calling = "?" if "calling" in changes else "MODALITY"
    assert f"{calling}@127.0.0.1:" in said()
    assert sentence in said()


@pytest.mark.parametrize(("sent", "sentence"), ABORTED.values(), ids=ABORTED.keys())
def test_a_request_that_cannot_be_taken_apart_is_aborted(
    node: Receiver, said: Callable[[], str], sent: bytes, sentence: str
) -> None:
    with RawAssociation(node.port) as wire:
        wire.write(sent)
        assert wire.read()[0] == ABORT
        assert wire.closed()
    assert "MODALITY@127.0.0.1:" in said()
    assert sentence in said()


def test_the_log_says_what_was_read_past(node: Receiver, said: Callable[[], str]) -> None:
    with RawAssociation(node.port) as wire:
        wire.write(
            request(calling=b"CT\0rubbish", protocol=3, **told(item(0x60, b"abcd"), version=b"X" * 17))
        )
        assert wire.read()[0] == ASSOCIATE_AC
    assert (
        "its request to DICOM_NODE is read in spite of: "
        r"calling AE title b'CT\x00rubbish\x00\x00\x00\x00\x00\x00', "
        "protocol version 3, user information sub-item 60, user information sub-item 55"
    ) in said()
    assert "CT@127.0.0.1:" in said()


def test_a_context_that_cannot_be_read_is_refused_alone(node: Receiver) -> None:
    with RawAssociation(node.port) as wire:
        unreadable = item(0x20, bytes([3, 0, 0, 0]) + item(0x30, CR.encode()))
        wire.write(
            request(
                contexts=context()
                + unreadable
                + context(5, b"1.2.x")
                + context(7, CR.encode(), EXPLICIT.encode())
            )
        )
        kind, body = wire.read()
    assert kind == ASSOCIATE_AC
    results, position = {}, 68
    while position < len(body):
        of, length = struct.unpack_from(">BxH", body, position)
        if of == 0x21:
            results[body[position + 4]] = body[position + 6]
        position += 4 + length
    # Accepted; transfer syntaxes not supported; abstract syntax not supported; accepted (PS3.8 table 9-18).
    assert results == {1: 0, 3: 4, 5: 3, 7: 0}


@pytest.mark.parametrize("maximum", [7, 64, 128])
def test_answers_are_no_longer_than_the_peer_wants_them(node: Receiver, maximum: int) -> None:
    with RawAssociation(node.port) as wire:
        wire.write(request(**told(maximum=struct.pack(">L", maximum))))
        assert wire.read()[0] == ASSOCIATE_AC
        wire.write(message(echo_rq(), context_id=1))
        command, last = b"", False
        while not last:
            _, body = wire.read()
            assert len(body) <= maximum
            assert body[5] & 1
            command, last = command + body[6:], bool(body[5] & 2)
    assert b"1.2.840.10008.1.1\0" in command


def test_an_error_of_the_negotiation_ends_in_an_abort(
    node: Receiver, said: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: AcceptedAssociation) -> None:
        raise ZeroDivisionError("by nobody")

    with RawAssociation(node.port) as wire, monkeypatch.context() as patched:
        patched.setattr(AcceptedAssociation, "find_rejection", fail)
        wire.write(request())
        assert wire.read()[0] == ABORT
        assert wire.closed()
    assert "MODALITY@127.0.0.1:" in said()
    assert "ZeroDivisionError: by nobody" in said()
    until(node.idle, 5, "the association is over")


def test_an_error_of_the_state_machine_ends_in_an_abort(
    node: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: AcceptedAssociation) -> None:
        raise ZeroDivisionError

    with RawAssociation(node.port) as wire, monkeypatch.context() as patched:
        patched.setattr("pynetdicom.pdu.A_ASSOCIATE_RQ.to_primitive", fail)
        wire.write(request())
        assert wire.read()[0] == ABORT
        assert wire.closed()


def test_a_request_that_does_not_go_on_ends_in_an_abort(node: Receiver) -> None:
    with RawAssociation(node.port) as wire:
        wire.write(request()[:50])
        assert wire.read()[0] == ABORT
        assert wire.closed()
