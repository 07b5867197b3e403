"""Entrance of the DICOM port: accepts connections, and holds each until its peer sends something.

A connection that is silent costs a descriptor and no thread. No address keeps others out: where there is no
room, the address that holds the most gives way, and by its oldest connection. A peer sends its association
request at once, so that even one whose address floods the port is heard.
"""

from __future__ import annotations

import contextlib
import logging
import math
import selectors
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeAlias, TypeVar

from dicom_node.config.addresses import network_of, plain_address

_LOG = logging.getLogger(__name__)

MAX_SILENT: Final = 128
"""Most connections of a process on which nothing was sent yet."""
_ACCEPTED_AT_ONCE = 32  # fewer than MAX_SILENT: each connection is looked at before it can have to give way
_POLL_SECONDS = 0.25
# A process that is full, or lacks descriptors, waits this long, so that its siblings accept first.
_YIELD_SECONDS = 0.005
_SAME_SECONDS = 60.0
_NAMED_ADDRESSES = 64

Address: TypeAlias = tuple[Any, ...]
Held = TypeVar("Held")


def crowding(held: Iterable[Held], host_of: Callable[[Held], str]) -> Held:
    """Return what gives way: the oldest of the network that holds the most.

    Parameters
    ----------
    held
        What is held, oldest first; not empty.
    host_of
        Returns the address for which one is held.
    """
    networks = {each: network_of(host_of(each)) for each in held}
    counts = Counter(networks.values())
    most = max(counts.values())
    return next(each for each, network in networks.items() if counts[network] == most)


class DropLog:
    """Log of dropped connections: a line for the first of an address, then one a minute with their number."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._said: dict[str, tuple[float, int]] = {}

    def add(self, address: str, why: str) -> None:
        """Count a dropped connection.

        Parameters
        ----------
        address
            Address of the peer.
        why
            Reason, as a clause; the same for every address.
        """
        now = time.monotonic()
        with self._lock:
            if address not in self._said and len(self._said) >= _NAMED_ADDRESSES:
                recent = {key: value for key, value in self._said.items() if now - value[0] < _SAME_SECONDS}
                self._said = recent
                address = address if len(recent) < _NAMED_ADDRESSES else "further addresses"
            said_at, unsaid = self._said.get(address, (-math.inf, 0))
            if now - said_at < _SAME_SECONDS:
                self._said[address] = (said_at, unsaid + 1)
                return
            self._said[address] = (now, 0)
        _LOG.warning("%s: %s%s", address, why, f"; so were {unsaid} more before" if unsaid else "")


class Entrance:
    """Entrance of a listening socket that other processes may share.

    Parameters
    ----------
    listening
        Listening socket, which does not block.
    allows
        Returns whether a peer with an address may be heard; others are closed at once.
    full
        Returns whether the process has no place for a further association.
    begin
        Called with each connection on which something was sent, and with its address.
    seconds
        Most seconds until a peer sends something.
    """

    def __init__(
        self,
        listening: socket.socket,
        *,
        allows: Callable[[str], bool],
        full: Callable[[], bool],
        begin: Callable[[socket.socket, Address], None],
        seconds: float,
    ) -> None:
        self._listening = listening
        self._allows = allows
        self._full = full
        self._begin = begin
        self._seconds = seconds
        self._silent: dict[socket.socket, tuple[Address, float]] = {}  # address and time, oldest first
        self._selector = selectors.DefaultSelector()
        self._short = False
        self.dropped = DropLog()

    def run(self, stop: threading.Event) -> None:
        """Accept connections until `stop` is set; then close those on which nothing was sent."""
        self._selector.register(self._listening, selectors.EVENT_READ)
        while not stop.is_set():
            for key, _ in self._selector.select(_POLL_SECONDS):
                try:
                    if key.fileobj is self._listening:
                        self._accept()
                    elif key.fileobj in self._silent:  # it may have given way since
                        self._hear(key.fileobj)
                except Exception:  # noqa: BLE001 - whatever a connection causes, others are accepted
                    _LOG.exception("a connection was dropped")
            self._close_late()
        for connection in [*self._silent]:
            self._drop(connection)
        self._selector.close()

    def _accept(self) -> None:
        if self._full():
            time.sleep(_YIELD_SECONDS)
        for _ in range(_ACCEPTED_AT_ONCE):
            try:
                connection, address = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionError):
                return  # a sibling took it, or the peer has left already
            except OSError as error:
                self._make_room(error)
                return
            self._short = False
            host = plain_address(str(address[0]))
            if not self._allows(host):
                self.dropped.add(host, "no known peer has this address (dicom.known_peers); dropped")
                connection.close()
                continue
            if len(self._silent) >= MAX_SILENT:
                self._crowd_out()
            self._silent[connection] = (address, time.monotonic())
            self._selector.register(connection, selectors.EVENT_READ)

    def _hear(self, connection: socket.socket) -> None:
        """Pass on a connection that can be read."""
        address = self._forget(connection)
        try:
            if connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT):
                self._begin(connection, address)
                return
        except OSError:
            pass
        connection.close()  # the peer has left

    def _make_room(self, error: OSError) -> None:
        """Free a descriptor, because a connection could not be accepted without one."""
        if not self._short:
            _LOG.error("a connection cannot be accepted: %s; raise the limit of open files", error.strerror)
        self._short = True
        if self._silent:
            self._crowd_out()
        time.sleep(_YIELD_SECONDS)

    def _crowd_out(self) -> None:
        connection = crowding(self._silent, self._host)
        self.dropped.add(self._host(connection), "too many connections are silent; dropped")
        self._drop(connection)

    def _host(self, connection: socket.socket) -> str:
        return plain_address(str(self._silent[connection][0][0]))

    def _close_late(self) -> None:
        latest = time.monotonic() - self._seconds
        while (oldest := next(iter(self._silent), None)) and self._silent[oldest][1] < latest:
            self._drop(oldest)

    def _drop(self, connection: socket.socket) -> None:
        self._forget(connection)
        with contextlib.suppress(OSError):
            connection.close()

    def _forget(self, connection: socket.socket) -> Address:
        self._selector.unregister(connection)
        return self._silent.pop(connection)[0]
