"""Associations whose PDU streams are damaged at random: types, lengths, items, headers of PDVs, their order.

The same seed gives the same streams. Where a requestor would wait for an answer, most wait for a moment.
"""

from __future__ import annotations

import contextlib
import functools
import random
import select
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tests.support.factories import film
from tests.support.mutated_films import EncodedFilm, numbered
from tests.support.raw_association import (
    ABORT,
    ASSOCIATE_RQ,
    CR,
    EXPLICIT,
    IMPLICIT,
    P_DATA,
    RELEASE_RQ,
    VERIFICATION,
    RawAssociation,
    associate_rq,
    command,
    data_pdus,
    echo_rq,
    fragment,
    item,
    message,
    parse_command,
    pdu,
    store_rq,
)

_CONTEXTS = ((1, VERIFICATION, [IMPLICIT]), (3, CR, [EXPLICIT]))
_NUMBERS = (0, 1, 2, 3, 5, 6, 7, 127, 128, 255)
_LENGTHS = (0, 1, 2, 3, 6, 1 << 15, 0xFFFF, 1 << 17, 1 << 20, 1 << 31, 0xFFFFFFFF)
_PATIENCE = 0.3
"""Seconds for an answer; the node may owe none, and wait for more."""
_HEADER = struct.Struct(">BxL")


@dataclass(slots=True)
class Answers:
    """What the node said to a stream.

    Attributes
    ----------
    kinds
        Types of the PDUs, in order.
    stored
        SOP Instance UIDs that were answered Success.
    refused
        Number of responses with another status, by the status.
    rest
        Bytes at the end that are no whole PDU.
    """

    kinds: list[int] = field(default_factory=list)
    stored: list[str] = field(default_factory=list)
    refused: Counter[int] = field(default_factory=Counter)
    rest: bytes = b""

    @classmethod
    def of(cls, content: bytes) -> Answers:
        """Answers from all bytes that the node wrote."""
        found, position = cls(), 0
        while position + _HEADER.size <= len(content):
            kind, length = _HEADER.unpack_from(content, position)
            body = content[position + _HEADER.size : position + _HEADER.size + length]
            if len(body) < length:
                break
            position += _HEADER.size + length
            found.kinds.append(kind)
            if kind == P_DATA:
                found._add(body)
        found.rest = content[position:]
        return found

    def _add(self, body: bytes) -> None:
        values = parse_command(body[6:])
        (status,) = struct.unpack("<H", values[0x0900])
        if status != 0:
            self.refused[status] += 1
        elif values[0x0100] == struct.pack("<H", 0x8001):
            self.stored.append(values[0x1000].rstrip(b"\0").decode())


@dataclass(frozen=True, slots=True)
class PduStream:
    """PDUs of an association, from its request to its end.

    Attributes
    ----------
    name
        What was done to it.
    patient
        Whether each answer is awaited for a moment, as a requestor does, before the next PDU is written.
    """

    name: str
    pdus: tuple[bytes, ...]
    patient: bool

    def exchange(self, port: int, seconds: float = 60) -> Answers:
        """Write the stream to a node, and read to the end of the connection.

        Raises
        ------
        TimeoutError
            When the node has not closed the connection by then.
        """
        received = bytearray()
        with RawAssociation(port, seconds=seconds) as wire:
            # An A-ABORT, and then the end, may come before all is written.
            with contextlib.suppress(ConnectionError):
                for each in self.pdus:
                    wire.write(each)
                    if self.patient and _asks(each) and select.select([wire.socket], [], [], _PATIENCE)[0]:
                        received += wire.socket.recv(1 << 16)
                wire.end()
            with contextlib.suppress(ConnectionError):
                while piece := wire.socket.recv(1 << 16):
                    received += piece
        return Answers.of(bytes(received))


def _asks(encoded: bytes) -> bool:
    """Whether a whole PDU asks for an answer: a request, or the last fragment of a message."""
    kind, place = encoded[:1], _HEADER.size + 5
    if kind == bytes([P_DATA]) and len(encoded) > place:
        context_id, header = encoded[place - 1], encoded[place]
        return header & 3 == 2 or (context_id, header & 3) == (1, 3)
    return kind in (bytes([ASSOCIATE_RQ]), bytes([RELEASE_RQ]))


def mutated_associations(seed: int, count: int, first: int = 1) -> Iterator[PduStream]:
    """Yield damaged streams; their films are instances and studies of their own.

    Parameters
    ----------
    first
        Number of the first stream, from which the UIDs of its films are made.
    """
    for number in range(first, first + count):
        chosen = random.Random(f"{seed}-{number}")
        pdus, done = _pdus(number, chosen), []
        for _ in range(chosen.choice((1, 1, 1, 2, 3))):
            mutate = chosen.choice(_MUTATIONS)
            pdus = [each for each in mutate(pdus, chosen) if each] or pdus
            done.append(mutate.__name__.strip("_"))
        yield PduStream(", ".join(done), tuple(pdus), chosen.random() < 0.9)


@functools.cache
def _film() -> EncodedFilm:
    """Film that is read by its header only, which is quick: no chest film."""
    return EncodedFilm.of("CR", film(rows=64, columns=56, body_part="HAND"))


def _pdus(number: int, chosen: random.Random) -> list[bytes]:
    """Return the PDUs of a whole association: request, C-ECHO, one or two C-STORE, release."""
    films = [numbered(_film(), 2 * number + each) for each in range(chosen.choice((1, 1, 2)))]
    size = chosen.choice((256, 4096, 131072))
    found = [associate_rq(_CONTEXTS), message(echo_rq(), context_id=1)]
    for each in films:
        found += _split(
            message(store_rq(CR.encode(), each.sop_instance.encode()), each.data_set, max_pdu=size)
        )
    return [*found, pdu(RELEASE_RQ, bytes(4))]


def _split(content: bytes) -> list[bytes]:
    found, position = [], 0
    while position < len(content):
        _, length = _HEADER.unpack_from(content, position)
        end = position + _HEADER.size + length
        found.append(content[position:end])
        position = end
    return found


# -- each changes a list of PDUs


def _flip(content: bytes, chosen: random.Random, most: int = 1 << 20) -> bytes:
    changed = bytearray(content)
    for _ in range(chosen.choice((1, 2, 4, 20))):
        changed[chosen.randrange(min(len(changed), most))] ^= 1 << chosen.randrange(8)
    return bytes(changed)


def _bits(pdus: list[bytes], chosen: random.Random) -> list[bytes]:
    at = chosen.randrange(len(pdus))
    return [*pdus[:at], _flip(pdus[at], chosen), *pdus[at + 1 :]]


def _request_bits(pdus: list[bytes], chosen: random.Random) -> list[bytes]:
    return [_flip(pdus[0], chosen), *pdus[1:]]


def _header_bits(pdus: list[bytes], chosen: random.Random) -> list[bytes]:
    at = chosen.randrange(len(pdus))
    return [*pdus[:at], _flip(pdus[at], chosen, 60), *pdus[at + 1 :]]


def _type(pdus: list[bytes], chosen: random.Random) -> list[bytes]:
    at = chosen.randrange(len(pdus))
    return [*pdus[:at], bytes([chosen.choice(_NUMBERS)]) + pdus[at][1:], *pdus[at + 1 :]]


def _length(pdus: list[bytes], chosen: random.Random) -> list[bytes]:
    at = chosen.randrange(len(pdus))
    old = len(pdus[at]) - _HEADER.size
    new = chosen.choice((*_LENGTHS, old - 1, old + 1, old - 4, old + 6))
    return [
        *pdus[:at],
        pdus[at][:2] + struct.pack(">L", new & 0xFFFFFFFF) + pdus[at][6:],
        *pdus[at + 1 :],
    ]


def _item_length(pdus: list[bytes], chosen: random.Random) -> list[bytes]:
    """Change the length of an item of the request, or of a sub-item."""
    request, places, position = pdus[0], [], 74
    while position + 4 <= len(request):
        places.append(position + 2)
        kind, length = struct.unpack_from(">BxH", request, position)
        position += {0x20: 8, 0x50: 4}.get(kind, 4 + length)
    if not places:
        return pdus
    at = chosen.choice(places)
    new = struct.pack(">H", chosen.choice(_LENGTHS) & 0xFFFF)
    return [request[:at] + new + request[at + 2 :], *pdus[1:]]


def _items(pdus: list[bytes], chosen: random.Random) -> list[bytes]:
    """Add items to the request, known and unknown ones, or say one twice."""
    kind = chosen.choice((0x10, 0x20, 0x21, 0x30, 0x40, 0x50, 0x51, 0x53, 0x56, 0x58, 0x99, 0xFF))
    body = chosen.choice(
        (b"", chosen.randbytes(chosen.choice((1, 4, 300))), item(0x30, CR.encode()), b"1." * 200)
    )
    request = pdus[0][6:] + item(kind, body) * chosen.choice((1, 2, 200))
    return [pdu(1, request), *pdus[1:]]


def _context(pdus: list[bytes], chosen: random.Random) -> list[bytes]:
    """Name another presentation context in a PDV."""
    return _in_pdv(pdus, chosen, 4, chosen.choice(_NUMBERS))


def _message_header(pdus: list[bytes], chosen: random.Random) -> list[bytes]:
    """Change the message control header: command or data set, last fragment or not."""
    return _in_pdv(pdus, chosen, 5, chosen.choice(_NUMBERS))


def _pdv_length(pdus: list[bytes], chosen: random.Random) -> list[bytes]:
    return _in_pdv(pdus, chosen, chosen.randrange(4), chosen.choice(_NUMBERS))


def _in_pdv(pdus: list[bytes], chosen: random.Random, offset: int, value: int) -> list[bytes]:
    at = chosen.randrange(1, len(pdus) - 1) if len(pdus) > 2 else 0
    place = _HEADER.size + offset
    if len(pdus[at]) <= place:
        return pdus
    changed = pdus[at][:place] + bytes([value]) + pdus[at][place + 1 :]
    return [*pdus[:at], changed, *pdus[at + 1 :]]


def _swapped(pdus: list[bytes], chosen: random.Random) -> list[bytes]:
    one, other = chosen.randrange(len(pdus)), chosen.randrange(len(pdus))
    changed = list(pdus)
    changed[one], changed[other] = changed[other], changed[one]
    return changed


def _repeated(pdus: list[bytes], chosen: random.Random) -> list[bytes]:
    at = chosen.randrange(len(pdus))
    return [*pdus[:at], *[pdus[at]] * chosen.choice((2, 3, 50)), *pdus[at + 1 :]]


def _left_out(pdus: list[bytes], chosen: random.Random) -> list[bytes]:
    at = chosen.randrange(len(pdus))
    return [*pdus[:at], *pdus[at + 1 :]] if len(pdus) > 1 else pdus


def _aborted(pdus: list[bytes], chosen: random.Random) -> list[bytes]:
    """Abort in the middle, or go on as if there had been no abort."""
    at = chosen.randrange(1, len(pdus) + 1)
    abort = pdu(ABORT, bytes([0, 0, chosen.choice((0, 2, 9)), chosen.choice((0, 6, 77))]))
    return [*pdus[:at], abort, *(pdus[at:] if chosen.random() < 0.5 else [])]


def _after_release(pdus: list[bytes], chosen: random.Random) -> list[bytes]:
    return [*pdus, *pdus[1 : chosen.randrange(len(pdus)) + 1]]


def _cut(pdus: list[bytes], chosen: random.Random) -> list[bytes]:
    at = chosen.randrange(len(pdus))
    return [*pdus[:at], pdus[at][: chosen.randrange(len(pdus[at]))]]


def _interleaved(pdus: list[bytes], chosen: random.Random) -> list[bytes]:
    """Put fragments of another message between those of the first, or several into one PDU."""
    at = chosen.randrange(1, max(len(pdus) - 1, 2))
    other = chosen.choice(
        (
            message(echo_rq(7), context_id=1),
            data_pdus(3, echo_rq(), 131072, is_command=True, last=False),
            data_pdus(3, chosen.randbytes(50), 131072, is_command=False),
            data_pdus(1, chosen.randbytes(50), 131072, is_command=False, last=False),
            pdu(P_DATA, b""),
            pdu(P_DATA, fragment(3, 0, b"") * 40),
            pdu(P_DATA, fragment(1, 3, echo_rq(9)) + fragment(3, 3, store_rq(CR.encode(), b"1.2.3"))),
        )
    )
    return [*pdus[:at], other, *pdus[at:]]


def _request(pdus: list[bytes], chosen: random.Random) -> list[bytes]:
    """Put another command in front of the messages: elements missing, of other lengths, or unknown."""
    elements = {
        0x0002: CR.encode() + b"\0",
        0x0100: struct.pack("<H", chosen.choice((0x0001, 0x0020, 0x0021, 0x0030, 0x0FFF, 0x8001, 0x0100))),
        0x0110: struct.pack("<H", 1),
        0x0700: struct.pack("<H", chosen.choice((0, 1, 2, 77))),
        0x0800: struct.pack("<H", chosen.choice((0x0101, 0x0001, 0x0000))),
        0x1000: chosen.choice((b"1.2.3\0", b"", b"../../etc/passwd", b"1" * 300, b"\xff\xfe")),
        chosen.choice((0x0001, 0x0600, 0x1031, 0x5000)): chosen.randbytes(chosen.choice((0, 2, 64))),
    }
    for key in chosen.sample(sorted(elements), chosen.choice((0, 1, 2))):
        elements[key] = chosen.choice((b"", elements[key] * 3, elements[key][:1]))
    if chosen.random() < 0.3:
        del elements[chosen.choice(sorted(elements))]
    content = command(elements)
    if chosen.random() < 0.4:
        content = _flip(content, chosen)
    return [pdus[0], data_pdus(3, content, 131072, is_command=True), *pdus[1:]]


def _garbage(pdus: list[bytes], chosen: random.Random) -> list[bytes]:
    at = chosen.randrange(len(pdus) + 1)
    junk = chosen.choice((b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", chosen.randbytes(200)))
    return [*pdus[:at], junk, *pdus[at:]]


def _bytes_more_or_less(pdus: list[bytes], chosen: random.Random) -> list[bytes]:
    """Remove or add bytes anywhere, so that all that follows is out of place."""
    which, count = chosen.randrange(len(pdus)), chosen.choice((1, 2, 5, 100))
    content = pdus[which]
    at = chosen.randrange(len(content) + 1)
    added = chosen.randbytes(count) if chosen.random() < 0.5 else b""
    return [*pdus[:which], content[:at] + added + content[at + (0 if added else count) :], *pdus[which + 1 :]]


_MUTATIONS: tuple[Callable[[list[bytes], random.Random], list[bytes]], ...] = (
    _bits,
    _request_bits,
    _header_bits,
    _type,
    _length,
    _item_length,
    _items,
    _context,
    _message_header,
    _pdv_length,
    _swapped,
    _repeated,
    _left_out,
    _aborted,
    _after_release,
    _cut,
    _interleaved,
    _interleaved,
    _request,
    _request,
    _garbage,
    _bytes_more_or_less,
)
