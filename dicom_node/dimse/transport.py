"""Sockets with a deadline for every read and write, so that no peer can block the node.

pynetdicom keeps the state machine and the negotiation; this module and
:mod:`dicom_node.dimse.server.upper_layer` add the limits that it lacks. The threads of an association wait
for events, where pynetdicom's own poll a thousand times a second. tests/unit/test_library_contract.py lists
the private names of pynetdicom that are used.
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

# pynetdicom logs the content of messages, which is patient data, and a traceback for every mistake of a peer.
# The node logs what matters itself, so that nothing of pynetdicom's log is passed on.
_config.LOG_HANDLER_LEVEL = "none"
logging.getLogger("pynetdicom").propagate = False

ANY_ADDRESS = "0.0.0.0"  # noqa: S104 - never used: a requestor's socket resolves the name of the peer itself
_BACKLOG = 4096
_POLL_MILLISECONDS = 250


def bind(host: str, port: int, section: str = "dicom") -> socket.socket:
    """Return a listening socket that several processes can share.

    It does not block, so that a process is not stuck in ``accept`` when a sibling took the connection. After
    a restart the port can be bound again at once, but not while another program listens on it.

    Parameters
    ----------
    host
        Name or address to listen on; ``::`` listens on all IPv6 and IPv4 addresses.
    port
        TCP port; 0 takes a free one.
    section
        Section of the settings that holds both, for the error.

    Raises
    ------
    ConfigurationError
        When the address does not belong to this host, or the port is taken.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind)
    except OSError as error:
        raise ConfigurationError(
            f"{section}.host {host}: {error.strerror}; set it to a name or an address of this host"
        ) from None
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:  # "::" takes IPv4 too, whatever is the default of this system
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listening.bind(address)
        listening.listen(_BACKLOG)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        raise ConfigurationError(
            f"cannot listen on {host}:{port}: {error.strerror}; set {section}.host and {section}.port to a "
            "free port of this host"
        ) from None
    return listening


class DeadlineSocket(AssociationSocket):
    """Socket with a deadline for every PDU.

    Parameters
    ----------
    assoc
        Association of the socket.
    seconds
        Most seconds for one PDU, in either direction.
    client_socket, address
        Parameters of pynetdicom: an accepted socket, or the local address of one to be connected.

    Attributes
    ----------
    stalled
        Whether the peer let a deadline pass.
    """

    stalled = False

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
        """Read a number of bytes; fewer when the peer closed the connection first.

        Raises
        ------
        TimeoutError
            When they did not arrive in time.
        OSError
            When the connection is gone, or the number is longer than any PDU.
        """
        if nr_bytes > MAX_ASSOCIATE_BYTES:
            raise OSError(f"the peer announced a PDU of {nr_bytes} bytes")
        return self.receive(nr_bytes, time.monotonic() + self._seconds)

    def receive(self, count: int, deadline: float) -> bytearray:
        """Read as :meth:`recv` does, with a deadline on the monotonic clock, in seconds."""
        peer = cast("socket.socket", self.socket)
        data = bytearray(count)
        view, position = memoryview(data), 0
        # Many peers, DCMTK's among them, write a PDU in two pieces and hold the second back until the first
        # is acknowledged (Nagle, RFC 896); Linux would let them wait for 40 ms. The option does not last.
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        while position < count:
            left = deadline - time.monotonic()
            if left <= 0:
                self.stalled = True
                raise TimeoutError
            peer.settimeout(left)
            try:
                read = peer.recv_into(view[position:])
            except TimeoutError:
                self.stalled = True
                raise
            if not read:
                return data[:position]
            position += read
        return data

    def send(self, bytestream: bytes) -> None:
        """Write a PDU; when the peer does not take it in time, the connection counts as closed."""
        try:
            peer = cast("socket.socket", self.socket)
            peer.settimeout(self._seconds)
            peer.sendall(bytestream)
        except (OSError, AttributeError) as error:
            self.stalled = self.stalled or isinstance(error, TimeoutError)
            self.event_queue.put("Evt17")

    def cut(self) -> None:
        """Shut the connection down, from any thread; a thread that reads or waits notices at once."""
        with contextlib.suppress(OSError, AttributeError):
            cast("socket.socket", self.socket).shutdown(socket.SHUT_RDWR)

    def _shutdown_socket(self) -> None:
        # pynetdicom's own method does not close a connection that the peer has reset.
        self.cut()
        if self.socket is not None:
            self.socket.close()


class WaitingSocket(DeadlineSocket):
    """Socket that waits for the peer and for its own association at the same time.

    Parameters
    ----------
    assoc, seconds, client_socket, address
        As for :class:`DeadlineSocket`.
    """

    def __init__(
        self,
        assoc: Association,
        seconds: float,
        client_socket: socket.socket | None = None,
        address: AddressInformation | None = None,
    ) -> None:
        super().__init__(assoc, seconds, client_socket=client_socket, address=address)
        # A file object, not a bare descriptor: a late wake-up must not write to a descriptor that is reused.
        self._wake = os.fdopen(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK), "r+b", buffering=0)
        # poll, because select cannot watch descriptors above 1023.
        self._poll = select.poll()
        self._poll.register(self._wake.fileno(), select.POLLIN)
        if client_socket is not None:
            self.watch(client_socket)

    def watch(self, connected: socket.socket) -> None:
        """Wait for this connection from now on."""
        self._poll.register(connected.fileno(), select.POLLIN)

    @property
    def ready(self) -> bool:
        """True when the peer sent something; waits up to 0.25 s for it unless there is other work."""
        if self.socket is None or not self._is_connected:
            return False
        dul = self.assoc.dul
        # poll does not see bytes that TLS has already decrypted.
        buffered = isinstance(self.socket, ssl.SSLSocket) and self.socket.pending() > 0
        waits = dul.event_queue.empty() and dul.state_machine.current_state != "Sta13" and not buffered
        ready = dict(self._poll.poll(_POLL_MILLISECONDS if waits else 0))
        if ready.pop(self._wake.fileno(), 0):
            self._wake.read(8)
        return buffered or bool(ready)

    def wake(self) -> None:
        """End the wait in :attr:`ready`, from another thread."""
        try:
            self._wake.write(b"\1" + bytes(7))
        except (OSError, ValueError):
            return  # the association has ended

    def end(self) -> None:
        """Close socket and wake-up descriptor; called by the last thread that uses them."""
        self._shutdown_socket()
        self._wake.close()


class AcceptedSocket(WaitingSocket):
    """Socket of an acceptor."""

    def drain(self) -> bool:
        """Discard bytes that the peer still sends; return False when it has closed the connection."""
        try:
            peer = cast("socket.socket", self.socket)
            peer.settimeout(0)
            return bool(peer.recv(1 << 16))
        except ssl.SSLWantReadError:
            return True  # a record that is not whole yet
        except (OSError, AttributeError):
            return False
