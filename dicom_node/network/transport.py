"""Sockets and associations that no peer can hold, flood or fill.

pynetdicom keeps the state machine and the negotiation; what it leaves open is closed here. Every read and
write has a deadline, and a PDU's length is checked before it is read. The threads of an association wait
for something to happen instead of asking a thousand times a second.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import select
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

from pynetdicom import _config
from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.timer import Timer
from pynetdicom.transport import AddressInformation, AssociationSocket

from dicom_node.errors import ConfigurationError

_LOG = logging.getLogger(__name__)

# pynetdicom logs what stands in messages, and a traceback for whatever a peer gets wrong; what matters is
# logged here. Its logger has a handler that does nothing, and nothing passes beyond that.
_config.LOG_HANDLER_LEVEL = "none"
logging.getLogger("pynetdicom").propagate = False

_BACKLOG = 1024
_POLL_MILLISECONDS = 250
_HEADER = struct.Struct(">BxL")
_PDV_HEADER = struct.Struct(">LB")
_ITEM_HEADER = struct.Struct(">BxH")
# PS3.8 D.1.1 counts the PDVs alone; some peers count the header as well.
_SLACK_BYTES = 1024
_DRAIN_BYTES = 1 << 20

_ASSOCIATE_RQ, _P_DATA = 0x01, 0x04
_MAX_ASSOCIATE_BYTES = 1 << 20
_ASSOCIATE_FIXED_BYTES = 68
_MAX_ITEMS = 4096
_CONTEXT_ITEM, _USER_ITEM = 0x20, 0x50
_SUB_ITEMS_AT = {_CONTEXT_ITEM: 4, _USER_ITEM: 0}


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket, to be shared by several processes.

    It does not block, so that a process whose sibling was quicker is not stuck in ``accept``. It may be
    bound again at once after a restart, but never beside another program that listens.

    Parameters
    ----------
    host
        Name or address to listen on.
    port
        0 takes a free one.

    Raises
    ------
    ConfigurationError
        When the address is not of this host, or the port is taken.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind)
    except OSError as error:
        raise ConfigurationError(f"dicom.host {host}: {error.strerror}") from None
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(_BACKLOG)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        raise ConfigurationError(
            f"cannot listen on {host}:{port}: {error.strerror}; set dicom.host and dicom.port to a free port "
            "of this host"
        ) from None
    return listening


class DeadlineSocket(AssociationSocket):
    """A socket on which no single PDU takes longer than it may.

    Parameters
    ----------
    assoc
        That it belongs to.
    seconds
        For one PDU, in either direction.
    client_socket, address
        As pynetdicom has them: an accepted socket, or the local address of one to be connected.
    """

    def __init__(
        self,
        assoc: Association,
        seconds: float,
        client_socket: socket.socket | None = None,
        address: AddressInformation | None = None,
    ) -> None:
        super().__init__(assoc, client_socket=client_socket, address=address)
        self._seconds = seconds
        cast("socket.socket", self.socket).setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def recv(self, nr_bytes: int) -> bytearray:
        """Read so many bytes; fewer when the peer closed the connection first.

        Raises
        ------
        TimeoutError
            When they did not come in time.
        OSError
            When the connection is gone, or no PDU is so long.
        """
        if nr_bytes > _MAX_ASSOCIATE_BYTES:
            raise OSError(f"the peer announced a PDU of {nr_bytes} bytes")
        return self.receive(nr_bytes, time.monotonic() + self._seconds)

    def receive(self, count: int, deadline: float) -> bytearray:
        """As :meth:`recv`, up to a moment of the monotonic clock."""
        peer = cast("socket.socket", self.socket)
        data = bytearray(count)
        view, position = memoryview(data), 0
        while position < count:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            peer.settimeout(left)
            read = peer.recv_into(view[position:])
            if not read:
                return data[:position]
            position += read
        return data

    def send(self, bytestream: bytes) -> None:
        """Write a PDU; a peer that does not take it in time has closed the connection."""
        try:
            peer = cast("socket.socket", self.socket)
            peer.settimeout(self._seconds)
            peer.sendall(bytestream)
        except (OSError, AttributeError):
            self.event_queue.put("Evt17")

    def cut(self) -> None:
        """End the connection, from any thread; whoever reads or waits notices at once."""
        with contextlib.suppress(OSError, AttributeError):
            cast("socket.socket", self.socket).shutdown(socket.SHUT_RDWR)

    def _shutdown_socket(self) -> None:
        # pynetdicom's own does not close a connection that the peer has reset.
        self.cut()
        if self.socket is not None:
            self.socket.close()


class AcceptedSocket(DeadlineSocket):
    """The socket of an acceptor, which waits for the peer and for the association at once.

    Parameters
    ----------
    assoc, seconds, client_socket
        As for :class:`DeadlineSocket`.
    """

    def __init__(self, assoc: Association, seconds: float, client_socket: socket.socket) -> None:
        super().__init__(assoc, seconds, client_socket=client_socket)
        self._peer_fd = client_socket.fileno()
        # An open file and no bare descriptor: waking after the end must not write to somebody else's.
        self._wake = os.fdopen(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK), "r+b", buffering=0)
        # poll, because select knows no descriptor above 1023.
        self._poll = select.poll()
        self._poll.register(self._peer_fd, select.POLLIN)
        self._poll.register(self._wake.fileno(), select.POLLIN)

    @property
    def ready(self) -> bool:
        """Whether the peer sent something; waits a while for it unless there is other work."""
        if self.socket is None or not self._is_connected:
            return False
        dul = self.assoc.dul
        # What TLS has decrypted already, poll does not see.
        buffered = isinstance(self.socket, ssl.SSLSocket) and self.socket.pending() > 0
        waits = dul.event_queue.empty() and dul.state_machine.current_state != "Sta13" and not buffered
        ready = dict(self._poll.poll(_POLL_MILLISECONDS if waits else 0))
        if ready.pop(self._wake.fileno(), 0):
            self._wake.read(8)
        return buffered or bool(ready)

    def wake(self) -> None:
        """End the waiting in :attr:`ready`, from another thread."""
        try:
            self._wake.write(b"\1" + bytes(7))
        except (OSError, ValueError):
            return  # the association has ended

    def drain(self) -> bool:
        """Throw away what the peer still sends; False when it has closed the connection."""
        try:
            peer = cast("socket.socket", self.socket)
            peer.settimeout(0)
            return bool(peer.recv(1 << 16))
        except ssl.SSLWantReadError:
            return True  # a record that is not whole yet
        except (OSError, AttributeError):
            return False

    def end(self) -> None:
        """Close everything; called by the last thread that uses it."""
        self._shutdown_socket()
        self._wake.close()


class UpperLayer(DULServiceProvider):
    """Reads PDUs within limits (PS3.8 9.3).

    Parameters
    ----------
    assoc
        That it serves.
    max_pdu_bytes
        Announced to the peer, and enforced.
    pdu_seconds
        For a PDU that has begun.
    """

    def __init__(self, assoc: Association, *, max_pdu_bytes: int, pdu_seconds: float) -> None:
        super().__init__(assoc)
        self.daemon = True
        self._run_loop_delay = 0  # AcceptedSocket.ready waits instead
        self._pdu_seconds = pdu_seconds
        self._drained = 0
        self.artim_timer, self._idle_timer = _MonotonicTimer(30), _MonotonicTimer(60)
        self.to_user_queue = _WakingQueue(lambda: assoc.dimse.msg_queue.put((None, None)))
        # PS3.8 9.3.2 to 9.3.8: release and abort have a fixed length.
        self._longest = {
            _ASSOCIATE_RQ: _MAX_ASSOCIATE_BYTES,
            _P_DATA: max_pdu_bytes + _SLACK_BYTES,
        } | dict.fromkeys((0x02, 0x03, 0x05, 0x06, 0x07), 4)

    @property
    def peer(self) -> AcceptedSocket:
        """The connection."""
        return cast("AcceptedSocket", self.socket)

    def send_pdu(self, primitive: Any) -> None:
        """Queue a primitive and wake the thread that sends it."""
        super().send_pdu(primitive)
        self.peer.wake()

    def run_reactor(self) -> None:
        """Run until the connection is closed, whatever the peer does."""
        try:
            super().run_reactor()
        except Exception as error:  # noqa: BLE001 - the edge to the peer
            _LOG.error("%s: %s: %s; closed", self.assoc.name, type(error).__name__, error)
        finally:
            self.peer.end()
            self.to_user_queue.put(None)  # whoever waits for a primitive need not wait for its time-out

    def refuse(self, reason: str) -> None:
        """Abort the association for something that the peer did."""
        _LOG.warning("%s: %s; aborting", self.assoc.name, reason)
        self.event_queue.put("Evt19")  # invalid PDU: A-ABORT (PS3.8 table 9-10)

    def _read_pdu_data(self) -> None:
        if self.state_machine.current_state == "Sta13":
            self._discard()
            return
        try:
            kind, body = self._receive_pdu()
            if kind == _P_DATA:
                self._take(_Data(body), "Evt10")
                return
            if kind == _ASSOCIATE_RQ:
                _check_associate(body)
            self._take(*self._decode_pdu(bytearray(_HEADER.pack(kind, len(body))) + body))
        except EOFError:
            self.event_queue.put("Evt17")  # connection closed
        except TimeoutError:
            self.refuse("a PDU did not come to its end in time")
        except ssl.SSLError as error:  # the handshake is part of the first read
            _LOG.warning("%s: TLS failed: %s; closed", self.assoc.name, error.reason or error)
            self.event_queue.put("Evt17")
        except OSError:
            self.event_queue.put("Evt17")
        except _Malformed as error:
            self.refuse(str(error))
        except Exception as error:  # noqa: BLE001 - pynetdicom raises what it likes on a PDU that it cannot decode
            self.refuse(f"a PDU of type {kind:02X} cannot be decoded ({type(error).__name__})")

    def _take(self, pdu: Any, event: str) -> None:
        self._recv_pdu.put(pdu)
        self.event_queue.put(event)

    def _receive_pdu(self) -> tuple[int, bytearray]:
        seconds = self._pdu_seconds
        if self.state_machine.current_state == "Sta2":
            seconds = min(seconds, max(0.0, self.artim_timer.remaining))
        deadline = time.monotonic() + seconds
        header = self.peer.receive(_HEADER.size, deadline)
        if len(header) < _HEADER.size:
            raise EOFError
        kind, length = _HEADER.unpack(header)
        if kind not in self._longest:
            raise _Malformed(f"unknown PDU type {kind:02X}")
        if length > self._longest[kind]:
            raise _Malformed(
                f"a PDU of type {kind:02X} announces {length} bytes, allowed are {self._longest[kind]}"
            )
        body = self.peer.receive(length, deadline)
        if len(body) < length:
            raise EOFError
        return kind, body

    def _discard(self) -> None:
        # Sta13 waits for the peer to close, so that it can read our A-ABORT; not for ever.
        self._drained += 1 << 16
        if not self.peer.drain() or self._drained > _DRAIN_BYTES:
            self.peer.close()


class _MonotonicTimer(Timer):
    """A timer that no change of the clock moves."""

    def start(self) -> None:
        self._start_time, self._end_time = time.monotonic(), None

    def stop(self) -> None:
        self._end_time = time.monotonic()

    @property
    def remaining(self) -> float:
        if self.timeout is None:
            return 1.0
        if self._start_time is None:
            return self.timeout
        return self.timeout - ((self._end_time or time.monotonic()) - self._start_time)


class _WakingQueue(queue.Queue[Any]):
    """Tells somebody about every item."""

    def __init__(self, tell: Callable[[], None]) -> None:
        super().__init__()
        self._tell = tell

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:  # noqa: FBT001, FBT002
        super().put(item, block, timeout)
        self._tell()


class _Malformed(Exception):
    """A PDU that breaks PS3.8."""


class _Data:
    """A received P-DATA-TF: what pynetdicom's state machine asks of one, over the bytes as they came."""

    def __init__(self, body: bytearray) -> None:
        self._primitive = P_DATA()
        values = cast("list[Any]", self._primitive.presentation_data_value_list)
        view, position = memoryview(body), 0
        while position < len(view):
            try:
                length, context_id = _PDV_HEADER.unpack_from(view, position)
            except struct.error:
                raise _Malformed("a P-DATA ends inside a PDV's header") from None
            end = position + 4 + length
            if length < 2 or end > len(view):
                raise _Malformed(f"a PDV announces {length} bytes")
            values.append((context_id, view[position + _PDV_HEADER.size : end]))
            position = end

    def to_primitive(self) -> P_DATA:
        return self._primitive


def _check_associate(body: bytearray) -> None:
    """Refuse an A-ASSOCIATE-RQ whose decoding would take long or mean nothing (PS3.8 9.3.2).

    Presentation context ids are odd and each stands once, so there are at most 128.
    """
    ids: set[int] = set()
    count = 0
    for kind, begin, end in _items(body, _ASSOCIATE_FIXED_BYTES, len(body)):
        if kind == _CONTEXT_ITEM:
            context_id = body[begin] if end > begin else 0
            if context_id % 2 == 0 or context_id in ids:
                raise _Malformed(f"presentation context id {context_id} is even or stands twice")
            ids.add(context_id)
        count += 1
        if kind in _SUB_ITEMS_AT:
            count += sum(1 for _ in _items(body, begin + _SUB_ITEMS_AT[kind], end))
        if count > _MAX_ITEMS:
            raise _Malformed(f"an A-ASSOCIATE-RQ has more than {_MAX_ITEMS} items")
    if not ids:
        raise _Malformed("an A-ASSOCIATE-RQ proposes no presentation context")


def _items(body: bytearray, position: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield type, begin and end of every item between two positions."""
    while position < end:
        if position + _ITEM_HEADER.size > end:
            raise _Malformed("an A-ASSOCIATE-RQ ends inside an item's header")
        kind, length = _ITEM_HEADER.unpack_from(body, position)
        begin = position + _ITEM_HEADER.size
        position = begin + length
        if position > end:
            raise _Malformed("an A-ASSOCIATE-RQ ends inside an item")
        yield kind, begin, position
