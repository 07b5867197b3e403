"""Sockets that no peer can hold: every read and write has a deadline.

pynetdicom keeps the state machine and the negotiation; what it leaves open is closed here and in
:mod:`dicom_node.dimse.server.upper_layer`. The threads of an association wait for something to happen
instead of asking a thousand times a second.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import socket
import ssl
import time
from typing import cast

from pynetdicom import _config
from pynetdicom.association import Association
from pynetdicom.transport import AddressInformation, AssociationSocket

from dicom_node.dimse.pdu import MAX_ASSOCIATE_BYTES
from dicom_node.errors import ConfigurationError

# pynetdicom logs what stands in messages, and a traceback for whatever a peer gets wrong; what matters is
# logged here. Its logger has a handler that does nothing, and nothing passes beyond that.
_config.LOG_HANDLER_LEVEL = "none"
logging.getLogger("pynetdicom").propagate = False

_BACKLOG = 1024
_POLL_MILLISECONDS = 250


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
        if nr_bytes > MAX_ASSOCIATE_BYTES:
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
