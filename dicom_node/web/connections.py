"""Connections of the page's server: deadlines for slow clients, and a place for those who ask at once.

uvicorn has no deadline for headers and bodies, and answers 503 to everybody when too many connections are
open. :class:`LimitedProtocol` adds to its HTTP/1.1 protocol, by h11:

- a deadline for a whole request, headers and body; a long body gets a second more for each 16 KiB;
- a deadline for a client that does not read its answer;
- a limit of connections, of all and of one address: beyond it the connection that has been silent for the
  longest makes room, of the address that has the most. One whose request is being answered is never closed.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

from uvicorn.protocols.http.h11_impl import H11Protocol

from dicom_node.config.addresses import is_within

KEEP_ALIVE_SECONDS: Final = 10
"""Seconds without a request after which a connection is closed."""
WRITE_SECONDS: Final = 30.0
"""Seconds for a client to take 48 KiB of its answer."""
_BYTES_PER_SECOND: Final = 16 * 1024
_AT_WORK_BYTES: Final = 64 * 1024
"""Bytes of a body from which a client counts as one that really sends something."""


def _last_answer(status: HTTPStatus, sentence: str, *headers: str) -> bytes:
    kind = "Content-Type: text/plain; charset=utf-8"
    head = (f"HTTP/1.1 {status} {status.phrase}", kind, "Connection: close", *headers)
    return "\r\n".join((*head, f"Content-Length: {len(sentence) + 1}", "", f"{sentence}\n")).encode()


_TIMED_OUT: Final = _last_answer(HTTPStatus.REQUEST_TIMEOUT, "the request came too slowly")
_NO_ROOM: Final = _last_answer(
    HTTPStatus.SERVICE_UNAVAILABLE, "there are too many connections; try again later", "Retry-After: 5"
)


@dataclass(slots=True)
class ConnectionLimits:
    """Limits of a server, and its open connections by the address of the other end.

    Parameters
    ----------
    most, most_per_address
        Most connections of all addresses, and of one that is no proxy.
    proxies
        Addresses and networks of trusted proxies.
    request_seconds
        Seconds to send a request, without the time for its body.
    """

    most: int
    most_per_address: int
    proxies: Sequence[str]
    request_seconds: float
    held: dict[str, set[LimitedProtocol]] = field(default_factory=lambda: defaultdict(set))

    def admit(self, new: LimitedProtocol) -> bool:
        """Make room for a connection and hold it; return False when there is none."""
        own = self.held[new.address]
        if len(own) >= self.most_per_address and not is_within(new.address, self.proxies):
            room = _close_one(own)
        elif sum(map(len, self.held.values())) >= self.most:
            room = any(_close_one(each) for each in sorted(self.held.values(), key=len, reverse=True))
        else:
            room = True
        if room:
            own.add(new)
        return room

    def release(self, old: LimitedProtocol) -> None:
        """Let go of a connection that has ended."""
        own = self.held.get(old.address, set())
        own.discard(old)
        if not own:
            self.held.pop(old.address, None)


def _close_one(connections: set[LimitedProtocol]) -> bool:
    """Close the connection that has been waited for the longest; return False when none is waited for."""
    waiting = [each for each in connections if each.waited_since is not None]
    if not waiting:
        return False
    min(waiting, key=lambda each: (each.at_work, each.waited_since or 0.0)).end()
    return True


class LimitedProtocol(H11Protocol):
    """HTTP/1.1 protocol of uvicorn with deadlines, and a limit of connections.

    Attributes
    ----------
    waited_since
        Time since when the client has been waited for; None while its request is answered.
    """

    def __init__(self, *words: Any, limits: ConnectionLimits, **named: Any) -> None:
        super().__init__(*words, **named)
        self._limits = limits
        self._timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._refused = False
        self._received = 0
        self._seconds = limits.request_seconds
        self.waited_since: float | None = None
        self.address = ""

    @property
    def at_work(self) -> bool:
        """True when so much of a body has come that the client is no idler."""
        return self._received > _AT_WORK_BYTES

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Admit a connection, or answer it 503."""
        super().connection_made(transport)
        self.address = self.client[0] if self.client else ""
        self._refused = not self._limits.admit(self)
        if self._refused:
            transport.write(_NO_ROOM)
            transport.close()
            self._timer = self.loop.call_later(self._seconds, transport.abort)
        else:
            self._wait(self._limits.request_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        """End a connection."""
        self._limits.release(self)
        for timer in (self._timer, self._write_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take a part of a request; a connection that is being closed takes none."""
        if self._refused or self.transport.is_closing():
            return
        self._received += len(data)
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete and not self.cycle.more_body:
            self._answer()

    def on_response_complete(self) -> None:
        """Wait for the next request of the connection."""
        self._received = 0
        self._wait(KEEP_ALIVE_SECONDS + self._limits.request_seconds)
        super().on_response_complete()
        if self.cycle is not None and not self.cycle.response_complete and not self.cycle.more_body:
            self._answer()  # the next request had come already

    def pause_writing(self) -> None:
        """Wait for a client to read its answer."""
        super().pause_writing()
        self._write_timer = self.loop.call_later(WRITE_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on with an answer."""
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()

    def end(self) -> None:
        """Close a connection whose request is late, with 408 when a part of it has come."""
        self._limits.release(self)
        answered = self.cycle is not None and self.cycle.response_started
        if answered or not self._received or self.transport.is_closing():
            self.transport.abort()
            return
        self.transport.write(_TIMED_OUT)
        self.transport.close()
        self._timer = self.loop.call_later(self._limits.request_seconds, self.transport.abort)

    def _wait(self, seconds: float) -> None:
        self.waited_since, self._seconds = time.monotonic(), seconds
        self._watch(seconds)

    def _answer(self) -> None:
        self.waited_since = None
        if self._timer is not None:
            self._timer.cancel()

    def _watch(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(seconds, self._look)

    def _look(self) -> None:
        """End the request when its time is over; a body is given more for what has come of it."""
        if self.waited_since is None:
            return
        if self.flow.read_paused:  # it is the node that does not take more of the body now
            self._watch(1)
            return
        allowed = self._seconds
        if self.cycle is not None and not self.cycle.response_complete:
            allowed += self._received / _BYTES_PER_SECOND
        left = self.waited_since + allowed - time.monotonic()
        if left > 0:
            self._watch(left)
        else:
            self.end()
