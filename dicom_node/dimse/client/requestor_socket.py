"""Socket of a requestor: connects by TCP or TLS."""

from __future__ import annotations

import contextlib
import socket
import ssl
from typing import cast

from pynetdicom.association import Association
from pynetdicom.transport import T_CONNECT, AddressInformation

from dicom_node.dimse.transport import ANY_ADDRESS, WaitingSocket


class RequestorSocket(WaitingSocket):
    """Socket of a requestor, which keeps the error of a failed connection and connects by TLS.

    Parameters
    ----------
    assoc, seconds
        As for :class:`~dicom_node.dimse.transport.WaitingSocket`.
    host, port
        Name or address of the peer, and its TCP port.
    tls
        TLS context; None for a connection without TLS.

    Attributes
    ----------
    error
        Error of the connection; None when it was made.
    """

    def __init__(
        self, assoc: Association, seconds: float, host: str, port: int, tls: ssl.SSLContext | None
    ) -> None:
        super().__init__(assoc, seconds, address=AddressInformation(ANY_ADDRESS, 0))
        self.error: OSError | ValueError | None = None
        self._peer, self._tls = (host, port), tls

    def connect(self, primitive: T_CONNECT) -> None:
        """Connect to the first address of the host that answers, IPv6 or IPv4."""
        try:
            cast("socket.socket", self.socket).close()
            self.socket = connection = socket.create_connection(self._peer, self.assoc.connection_timeout)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                self.socket = self._tls.wrap_socket(connection, server_hostname=self._peer[0])
        except (OSError, ValueError) as error:  # ValueError: a name that no resolver takes
            self.error = error
            self.finish()
            self.socket = None
            primitive.result = "Evt17"  # connection closed
        else:
            self.watch(self.socket)
            self._is_connected = True
            primitive.result = "Evt2"  # connected
        self.provider_queue.put(primitive)
        self._ready.set()

    def finish(self) -> None:
        """Close the connection."""
        with contextlib.suppress(OSError):
            self.end()
        self._ready.set()
