"""DICOM requestor over a plain socket: fast, and free to break every rule (PS3.8 section 9)."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Self

from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian

from dicom_node.store.files import data_set_offset

VERIFICATION = "1.2.840.10008.1.1"
CR = str(ComputedRadiographyImageStorage)
EXPLICIT = str(ExplicitVRLittleEndian)
IMPLICIT = "1.2.840.10008.1.2"

ASSOCIATE_RQ, ASSOCIATE_AC, ASSOCIATE_RJ, P_DATA, RELEASE_RQ, RELEASE_RP, ABORT = range(1, 8)
C_STORE_RQ, C_ECHO_RQ, C_FIND_RQ = 0x0001, 0x0030, 0x0020

Context = tuple[int, str, Sequence[str]]


def even(value: bytes, padding: bytes = b"\0") -> bytes:
    return value + padding * (len(value) % 2)


def pdu(kind: int, body: bytes) -> bytes:
    return struct.pack(">BxL", kind, len(body)) + body


def item(kind: int, body: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(body)) + body


def context_item(number: int, abstract_syntax: str, transfer_syntaxes: Iterable[str]) -> bytes:
    syntaxes = b"".join(item(0x40, syntax.encode()) for syntax in transfer_syntaxes)
    return item(0x20, bytes([number, 0, 0, 0]) + item(0x30, abstract_syntax.encode()) + syntaxes)


def associate_rq(
    contexts: Iterable[Context] = ((1, VERIFICATION, [IMPLICIT]), (3, CR, [EXPLICIT])),
    *,
    called: str = "DICOM_NODE",
    calling: str = "WIRE",
    extra: bytes = b"",
) -> bytes:
    user = item(0x51, struct.pack(">L", 1 << 17)) + item(0x52, b"1.2.3.4")
    body = struct.pack(">HH16s16s32x", 1, 0, called.ljust(16).encode(), calling.ljust(16).encode())
    body += item(0x10, b"1.2.840.10008.3.1.1.1")
    body += b"".join(context_item(*context) for context in contexts)
    return pdu(ASSOCIATE_RQ, body + item(0x50, user) + extra)


def command(elements: Mapping[int, bytes]) -> bytes:
    body = b"".join(
        struct.pack("<HHL", 0, key, len(value)) + value for key, value in sorted(elements.items())
    )
    return struct.pack("<HHLL", 0, 0, 4, len(body)) + body


def store_rq(
    sop_class: bytes, sop_instance: bytes, *, message_id: int = 1, data_set_type: int = 1, operation: int = 1
) -> bytes:
    return command(
        {
            0x0002: even(sop_class),
            0x0100: struct.pack("<H", operation),
            0x0110: struct.pack("<H", message_id),
            0x0700: struct.pack("<H", 0),
            0x0800: struct.pack("<H", data_set_type),
            0x1000: even(sop_instance),
        }
    )


def echo_rq(message_id: int = 1) -> bytes:
    return command(
        {
            0x0002: even(VERIFICATION.encode()),
            0x0100: struct.pack("<H", C_ECHO_RQ),
            0x0110: struct.pack("<H", message_id),
            0x0800: struct.pack("<H", 0x0101),
        }
    )


def fragment(context_id: int, header: int, content: bytes) -> bytes:
    return struct.pack(">LBB", len(content) + 2, context_id, header) + content


def data_pdus(context_id: int, content: bytes, max_pdu: int, *, is_command: bool, last: bool = True) -> bytes:
    """Encode a command or a data set as P-DATA-TF PDUs."""
    size = max_pdu - 6
    pieces = [content[start : start + size] for start in range(0, len(content), size)] or [b""]
    return b"".join(
        pdu(
            P_DATA,
            fragment(context_id, int(is_command) | (2 if last and number == len(pieces) else 0), piece),
        )
        for number, piece in enumerate(pieces, 1)
    )


def message(
    request: bytes, data_set: bytes | None = None, *, context_id: int = 3, max_pdu: int = 131072
) -> bytes:
    encoded = data_pdus(context_id, request, max_pdu, is_command=True)
    if data_set is not None:
        encoded += data_pdus(context_id, data_set, max_pdu, is_command=False)
    return encoded


def data_set_of(path: Path) -> bytes:
    content = path.read_bytes()
    return content[data_set_offset(content[:144]) :]


def max_pdu_of(acceptance: bytes) -> int:
    """Return the largest PDU that an A-ASSOCIATE-AC accepts, at most 128 KiB (PS3.8 D.1)."""
    place = acceptance.rfind(b"\x51\x00\x00\x04")
    return min(131072, struct.unpack_from(">L", acceptance, place + 4)[0] or 131072)


def parse_command(content: bytes) -> dict[int, bytes]:
    values, position = {}, 0
    while position < len(content):
        _, element, length = struct.unpack_from("<HHL", content, position)
        values[element] = content[position + 8 : position + 8 + length]
        position += 8 + length
    return values


class Answer:
    """DIMSE response (PS3.7 9.3)."""

    def __init__(self, content: bytes) -> None:
        values = parse_command(content)
        self.operation = struct.unpack("<H", values[0x0100])[0]
        self.message_id = struct.unpack("<H", values[0x0120])[0]
        self.status = struct.unpack("<H", values[0x0900])[0]
        self.comment = values.get(0x0902, b"").decode().rstrip()


class RawAssociation:
    """TCP connection of a requestor."""

    def __init__(self, port: int, host: str = "127.0.0.1", seconds: float = 15) -> None:
        self.socket = socket.create_connection((host, port), seconds)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.max_pdu = 131072

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def write(self, content: bytes) -> None:
        self.socket.sendall(content)

    def end(self) -> None:
        """Say that nothing more will be written; what the peer says can still be read."""
        with contextlib.suppress(OSError):  # the peer has ended the connection
            self.socket.shutdown(socket.SHUT_WR)

    def _exactly(self, count: int) -> bytes:
        content = b""
        while len(content) < count:
            piece = self.socket.recv(count - len(content))
            if not piece:
                raise EOFError("the peer closed the connection")
            content += piece
        return content

    def read(self) -> tuple[int, bytes]:
        """Read the next PDU: its type and body; EOFError or ConnectionError when there is none."""
        kind, length = struct.unpack(">BxL", self._exactly(6))
        return kind, self._exactly(length)

    def associate(self, *arguments: object, **options: object) -> tuple[int, bytes]:
        self.write(associate_rq(*arguments, **options))  # type: ignore[arg-type]
        return self.read()

    def answer(self) -> Answer:
        kind, body = self.read()
        assert kind == P_DATA, f"PDU type {kind:02X}: {body!r}"
        assert body[5] == 3, body[:6]
        return Answer(body[6:])

    def store(self, data_set: bytes, sop_instance: str | bytes, sop_class: str = CR) -> Answer:
        uid = sop_instance.encode() if isinstance(sop_instance, str) else sop_instance
        self.write(message(store_rq(sop_class.encode(), uid), data_set, max_pdu=self.max_pdu))
        return self.answer()

    def echo(self) -> Answer:
        self.write(message(echo_rq(), context_id=1))
        return self.answer()

    def release(self) -> None:
        self.write(pdu(RELEASE_RQ, bytes(4)))
        assert self.read()[0] == RELEASE_RP

    def closed(self) -> bool:
        """Whether the peer ends the connection in time; all that it sends before is dropped."""
        try:
            while self.socket.recv(1 << 16):
                pass
        except ConnectionError:
            return True
        except TimeoutError:
            return False
        return True
