"""Storage SCP over a plain socket that accepts, answers and ends associations in odd ways (PS3.8, PS3.7)."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterable
from typing import Any, Self

from tests.support.raw_association import (
    ABORT,
    ASSOCIATE_AC,
    ASSOCIATE_RJ,
    P_DATA,
    RELEASE_RP,
    RELEASE_RQ,
    command,
    even,
    fragment,
    item,
    parse_command,
    pdu,
)

Quirk = Callable[["Talk"], object]


class Talk:
    """One association of an odd archive.

    Attributes
    ----------
    archive
        Archive that accepted it.
    connection
        Socket of the connection.
    asked
        Body of the association request.
    context_id, request, data_set
        Presentation context, command and encoded data set of the last request.
    releasing
        Whether the archive asked for the release; it takes no more messages then (PS3.8 7.2).
    """

    def __init__(self, archive: OddArchive, connection: socket.socket) -> None:
        self.archive, self.connection = archive, connection
        self.asked = b""
        self.context_id, self.request, self.data_set = 0, dict[int, bytes](), b""
        self.releasing = False

    def read(self, count: int) -> bytes:
        content = b""
        while len(content) < count:
            piece = self.connection.recv(count - len(content))
            if not piece:
                raise EOFError
            content += piece
        return content

    def say(self, *pdus: bytes) -> None:
        self.connection.sendall(b"".join(pdus))

    def hang(self) -> None:
        """Do nothing until the node closes the connection."""
        while self.connection.recv(1 << 16):
            pass

    def accept(self, user: bytes | None = None, *, version: int = 1, titles: bytes = b"") -> None:
        """Accept every context, with the sub-items `user` in the User Information item."""
        contexts = b""
        for kind, content in _items(self.asked[68:]):
            if kind == 0x20:
                syntax = next(value for of, value in _items(content[4:]) if of == 0x40)
                contexts += item(0x21, bytes([content[0], 0, 0, 0]) + item(0x40, syntax))
        told = MAXIMUM_LENGTH + IMPLEMENTATION if user is None else user
        fixed = struct.pack(">HH", version, 0) + (titles or self.asked[4:36]) + self.asked[36:68]
        self.say(
            pdu(
                ASSOCIATE_AC,
                fixed + item(0x10, b"1.2.840.10008.3.1.1.1") + contexts + item(0x50, told),
            )
        )

    def reject(self, result: int, source: int, reason: int) -> None:
        self.say(pdu(ASSOCIATE_RJ, bytes([0, result, source, reason])))
        self.hang()

    def response(self, status: int = 0, **elements: bytes | None) -> bytes:
        """Response to the last request; `elements` by tag such as x0800, None: left out."""
        values: dict[int, bytes | None] = {
            0x0002: self.request.get(0x0002),
            0x0100: struct.pack("<H", 0x8000 | struct.unpack("<H", self.request[0x0100])[0]),
            0x0120: self.request[0x0110],
            0x0800: struct.pack("<H", 0x0101),
            0x0900: struct.pack("<H", status),
            0x1000: self.request.get(0x1000),
            **{int(tag[1:], 16): value for tag, value in elements.items()},
        }
        return command({tag: even(value) for tag, value in values.items() if value is not None})

    def answer(self, status: int = 0, **elements: bytes | None) -> None:
        self.say(self.data(self.response(status, **elements)))

    def data(self, *commands: bytes) -> bytes:
        """P-DATA-TF that holds commands."""
        return pdu(P_DATA, b"".join(fragment(self.context_id, 3, each) for each in commands))

    def release(self) -> None:
        self.say(pdu(RELEASE_RQ, bytes(4)))
        self.releasing = True

    def abort(self) -> None:
        self.say(pdu(ABORT, bytes(4)))
        raise EOFError

    def close(self) -> None:
        raise EOFError


MAXIMUM_LENGTH = item(0x51, struct.pack(">L", 16384))
IMPLEMENTATION = item(0x52, b"1.2.3.4")


class OddArchive:
    """Archive on a free port that takes everything, apart from its quirks.

    Parameters
    ----------
    connected
        Called when a connection was made, before anything is read.
    associated
        Called instead of accepting the association.
    stored
        Called instead of answering a request with Success.
    host
        Address to listen on.

    Attributes
    ----------
    stored
        SOP Instance UIDs of all C-STORE requests, repeats included.
    associations
        Number of connections.
    ends
        PDU types by which the node ended associations: A-RELEASE-RQ, A-RELEASE-RP, A-ABORT.
    """

    def __init__(
        self,
        connected: Quirk | None = None,
        associated: Quirk | None = None,
        stored: Quirk | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        self._connected, self._associated, self._answer = connected, associated, stored
        self.stored: list[str] = []
        self.associations = 0
        self.ends: list[int] = []
        self._listening = socket.create_server(
            (host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET
        )
        self.port = int(self._listening.getsockname()[1])
        self._threads: list[threading.Thread] = []
        self._open: list[socket.socket] = []

    def __enter__(self) -> Self:
        self._thread(self._serve)
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)

    @property
    def destination(self) -> dict[str, Any]:
        """Destination of this archive, as in the settings."""
        return {
            "name": "odd",
            "ae_title": "ODD",
            "host": "127.0.0.1",
            "port": self.port,
            "confirm": "response",
        }

    def _thread(self, target: Callable[..., object], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.associations += 1
                self._open.append(connection)
                self._thread(self._talk, Talk(self, connection))

    def _talk(self, talk: Talk) -> None:
        with contextlib.suppress(EOFError, OSError), talk.connection:
            if self._connected is not None:
                self._connected(talk)
            received = b""
            while True:
                kind, length = struct.unpack(">BxL", talk.read(6))
                body = talk.read(length)
                if kind == 0x01:
                    talk.asked = body
                    (self._associated or Talk.accept)(talk)
                elif kind == P_DATA and talk.releasing:
                    continue
                elif kind == P_DATA:
                    for context_id, header, content in _pdvs(body):
                        received += content if header & 1 else b""
                        if header == 3:
                            talk.context_id, talk.request = context_id, parse_command(received)
                            received = talk.data_set = b""
                        talk.data_set += content if not header & 1 else b""
                        # A response, of the node to a report, has no Message ID and is not answered.
                        asked = 0x0110 in talk.request
                        if header == 3 and asked and talk.request[0x0800] == struct.pack("<H", 0x0101):
                            talk.answer()
                        if header == 2:
                            self.stored.append(talk.request.get(0x1000, b"").rstrip(b"\0").decode())
                            (self._answer or Talk.answer)(talk)
                else:
                    self.ends.append(kind)
                    if kind == RELEASE_RQ:
                        talk.say(pdu(RELEASE_RP, bytes(4)))
                    return


def _items(content: bytes) -> Iterable[tuple[int, bytes]]:
    position = 0
    while position < len(content):
        kind, length = struct.unpack_from(">BxH", content, position)
        yield kind, content[position + 4 : position + 4 + length]
        position += 4 + length


def _pdvs(body: bytes) -> Iterable[tuple[int, int, bytes]]:
    position = 0
    while position < len(body):
        length, context_id, header = struct.unpack_from(">LBB", body, position)
        yield context_id, header, body[position + 6 : position + 4 + length]
        position += 4 + length
