"""Listener: accepts connections, admits peers, and ends associations in order."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import astuple
from pathlib import Path
from socketserver import TCPServer
from typing import Any, TypeAlias, cast

from pynetdicom._globals import MODE_ACCEPTOR
from pynetdicom.acse import ACSE
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.transport import AddressInformation, AssociationServer

from dicom_node.config.sections import DicomSettings
from dicom_node.dimse import rejection
from dicom_node.dimse.contexts import (
    presentation_contexts,
)
from dicom_node.dimse.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicom_node.dimse.pdu import AssociateRequest
from dicom_node.dimse.server.admission import Admission, RejectedRequest, plain_address
from dicom_node.dimse.server.messages import DimseRequest, MessageExchange
from dicom_node.dimse.server.upper_layer import UpperLayer
from dicom_node.dimse.tls import server_context
from dicom_node.dimse.transport import AcceptedSocket

_LOG = logging.getLogger(__name__)

# Connections without an association request have a limit of their own, so that silent ones cannot keep peers
# out. A peer sends its request at once; when the limit is reached, the oldest one is closed after this long.
_MAX_SILENT = 32
_SILENT_SECONDS = 1.0
# A process at its limit waits this long, so that its siblings accept first.
_YIELD_SECONDS = 0.005
_ACCEPT_POLL_SECONDS = 0.25
_STOP_POLL_SECONDS = 0.02
_CUT_SECONDS = 1.0
# Longest time for an A-ABORT to reach a peer, which may still be sending.
_ABORT_SECONDS = 1.0


class AcceptedAssociation(Association):
    """Association that the node accepted.

    Parameters
    ----------
    listener
        Listener that accepted the connection.
    client_socket
        Socket of the connection.
    address
        Address of the peer.
    """

    def __init__(self, listener: Listener, client_socket: socket.socket, address: tuple[Any, ...]) -> None:
        super().__init__(listener.ae, MODE_ACCEPTOR)
        settings = listener.settings
        self.host = plain_address(str(address[0]))
        self.calling_ae = ""
        self.connected_at = time.monotonic()
        self.name = f"{self.host}:{address[1]}"
        self._server = listener
        self._listener = listener
        self.acse = _Acceptance(self)
        self.dul: UpperLayer = UpperLayer(
            self, max_pdu_bytes=settings.max_pdu_bytes, pdu_seconds=settings.pdu_seconds
        )
        self.dimse: MessageExchange = listener.message_exchange(self, self.dul.refuse)
        # The upper layer ends the wait for a request, so that a peer that began one gets an A-ABORT.
        self.acse_timeout = settings.association_seconds + _ABORT_SECONDS
        self.dul.artim_timer.timeout = settings.association_seconds
        self.network_timeout = settings.idle_seconds
        if listener.tls is not None:
            # The handshake runs in the thread of this association, with the deadline of its first PDU: a slow
            # or silent peer delays nobody else.
            client_socket = listener.tls.wrap_socket(
                client_socket, server_side=True, do_handshake_on_connect=False
            )
        self.set_socket(AcceptedSocket(self, settings.pdu_seconds, client_socket))
        self.acceptor.maximum_length = settings.max_pdu_bytes
        self.acceptor.ae_title = settings.ae_title
        self.acceptor.address_info = AddressInformation.from_tuple(client_socket.getsockname())
        self.acceptor.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        self.acceptor.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        self.acceptor.supported_contexts = listener.contexts
        self.requestor.address_info = AddressInformation.from_tuple(address)

    def find_rejection(self) -> RejectedRequest | None:
        """Return the rejection of the association request that arrived; None when it is admitted."""
        request = cast("AssociateRequest", self.dul.request)
        self.calling_ae = request.calling_ae
        rejected = self._listener.admission.find_rejection(request, self.host)
        if rejected is None and not self._listener.admit(self):
            most = self._listener.settings.max_associations
            return RejectedRequest(rejection.LIMIT, f"{most} associations are open (dicom.max_associations)")
        return rejected

    def run_reactor(self) -> None:
        """Run until the association has ended, then clean up."""
        try:
            super().run_reactor()
        except Exception as error:  # noqa: BLE001 - whatever a peer triggers must end only its association
            self.dul.refuse(f"{type(error).__name__}: {error}")
            self.dul.join(_ABORT_SECONDS)
        finally:
            self.dul.kill_dul()
            self.dul.peer.cut()
            self.dul.join()
            # A film that arrived completely is kept, even if its sender did not wait for the answer.
            for request in self.dimse.unserved():
                self._listener.serve(self, request)
            self.dimse.discard_unfinished()
            self._listener.forget(self)

    def _serve_request(self, msg: Any, context_id: int) -> None:  # noqa: ARG002 - pynetdicom's signature
        self._listener.serve(self, msg)


Serve: TypeAlias = Callable[[AcceptedAssociation, DimseRequest], None]


class _Acceptance(ACSE):
    """Association control that rejects peers before it negotiates."""

    def negotiate_association(self) -> None:
        association = cast("AcceptedAssociation", self.assoc)
        if (rejected := association.find_rejection()) is None:
            super().negotiate_association()
            _LOG.info("%s: associated", association.name)
            return
        _LOG.warning("%s: %s: %s", association.name, rejected.rejection, rejected.detail)
        self.send_reject(*astuple(rejected.rejection))
        association.kill()


class Listener(AssociationServer):
    """Association server on a listening socket that other processes may share.

    Parameters
    ----------
    settings
        DICOM section of the settings: limits and known peers.
    listening
        Socket from :func:`dicom_node.dimse.transport.bind`; the listener keeps a duplicate.
    serve
        Called in the association's thread with every request; it answers the request and never raises.
    folder, check_room
        As for :class:`dicom_node.dimse.server.messages.IncomingFile`.
    """

    def __init__(
        self,
        settings: DicomSettings,
        listening: socket.socket,
        *,
        serve: Serve,
        folder: Path,
        check_room: Callable[[], None],
    ) -> None:
        self.settings = settings
        self.admission = Admission(settings)
        self.tls = server_context(settings)
        self.serve = serve
        self._listening = listening
        self._folder = folder
        self._check_room = check_room
        self._lock = threading.Lock()
        self._silent: dict[AcceptedAssociation, None] = {}  # oldest first
        self._admitted: set[AcceptedAssociation] = set()
        self._thread = threading.Thread(target=self._accept, name="accept", daemon=True)
        ae = ApplicationEntity(settings.ae_title)
        ae.maximum_associations = 1 << 16  # admit() counts
        super().__init__(ae, listening.getsockname(), settings.ae_title, presentation_contexts())

    # -- socketserver ------------------------------------------------------------------------------

    def server_bind(self) -> None:
        """Take the listening socket instead of binding another."""
        cast("socket.socket", self.socket).close()
        self.socket = self._listening.dup()
        # Python takes a socket from an inherited descriptor for a blocking one, and a duplicate would make it
        # blocking for all processes: one whose sibling accepted first would wait in accept, and not end.
        self.socket.setblocking(False)
        self.server_address = self.socket.getsockname()

    def server_activate(self) -> None:
        """Do nothing: the socket listens already."""

    def server_close(self) -> None:
        """Close the duplicate of this process; siblings go on accepting."""
        cast("socket.socket", self.socket).close()

    def service_actions(self) -> None:
        """Do nothing between two connections."""

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection."""
        if len(self._admitted) >= self.settings.max_associations:
            time.sleep(_YIELD_SECONDS)
        return super().get_request()

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ARG002
        """Wait until one more connection without a request is allowed; close the oldest if need be."""
        while len(self._silent) >= _MAX_SILENT:
            with self._lock:
                oldest = next(iter(self._silent), None)
            if oldest and time.monotonic() - oldest.connected_at > _SILENT_SECONDS:
                _LOG.warning("%s: silent for too long while others wait; closed", oldest.name)
                oldest.dul.peer.cut()
                self.forget(oldest)
            else:
                time.sleep(_YIELD_SECONDS)
        return True

    def process_request(self, request: Any, client_address: Any) -> None:
        """Start the association of an accepted connection."""
        try:
            association = AcceptedAssociation(self, request, client_address)
        except OSError:  # the peer has left already
            self.shutdown_request(request)
            return
        with self._lock:
            self._silent[association] = None
        association.start()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """Log the exception of a connection; called while it is handled."""
        _LOG.exception("%s: the connection was dropped", client_address[0])

    # -- associations ------------------------------------------------------------------------------

    def message_exchange(
        self, association: AcceptedAssociation, refuse: Callable[[str], None]
    ) -> MessageExchange:
        """Return the message exchange of a new association."""
        return MessageExchange(
            association,
            folder=self._folder,
            check_room=self._check_room,
            max_instance_bytes=self.settings.max_instance_bytes,
            refuse=refuse,
        )

    def admit(self, association: AcceptedAssociation) -> bool:
        """Count an association in; return False when the process is at its limit."""
        with self._lock:
            self._silent.pop(association, None)
            if len(self._admitted) >= self.settings.max_associations:
                return False
            self._admitted.add(association)
            return True

    def forget(self, association: AcceptedAssociation) -> None:
        """Count an association out."""
        with self._lock:
            self._silent.pop(association, None)
            self._admitted.discard(association)

    # -- life --------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to accept connections."""
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """Accept no more connections, finish the current request of each association, and end it.

        Parameters
        ----------
        seconds
            Time limit; associations that are still busy then are cut off without an answer.
        """
        deadline = time.monotonic() + seconds
        TCPServer.shutdown(self)
        self._thread.join()
        self.server_close()
        for association in [*self._silent]:
            association.dul.peer.cut()
        while self._admitted and time.monotonic() < deadline:
            for association in [*self._admitted]:
                if not association.dimse.busy:
                    association.abort(block=False)
            time.sleep(_STOP_POLL_SECONDS)
        busy = [*self._admitted]
        for association in busy:
            _LOG.warning("%s: cut off by the end of the process", association.name)
            association.abort(block=False)
        deadline = time.monotonic() + _ABORT_SECONDS
        for association in busy:
            association.dul.join(max(0.0, deadline - time.monotonic()))
            association.dul.peer.cut()
            association.join(_CUT_SECONDS)

    def _accept(self) -> None:
        self.serve_forever(_ACCEPT_POLL_SECONDS)
