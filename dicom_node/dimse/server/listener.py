"""Listener: accepts connections, admits peers, and ends associations in order."""

from __future__ import annotations

import logging
import math
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import astuple
from pathlib import Path
from typing import Any, TypeAlias, cast

from pynetdicom._globals import MODE_ACCEPTOR
from pynetdicom.acse import ACSE
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.transport import AddressInformation, AssociationServer

from dicom_node.config.addresses import network_of, plain_address
from dicom_node.config.sections import DicomSettings
from dicom_node.dimse import rejection
from dicom_node.dimse.contexts import (
    presentation_contexts,
)
from dicom_node.dimse.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicom_node.dimse.pdu import AssociateRequest
from dicom_node.dimse.server.admission import Admission, RejectedRequest
from dicom_node.dimse.server.entrance import MAX_SILENT, Address, Entrance, crowding
from dicom_node.dimse.server.messages import DimseRequest, MessageExchange
from dicom_node.dimse.server.upper_layer import UpperLayer
from dicom_node.dimse.tls import server_context
from dicom_node.dimse.transport import AcceptedSocket

_LOG = logging.getLogger(__name__)

# Connections whose association request has begun, and association requests that wait for a place: most of
# each. Every one has two threads.
_MAX_NEGOTIATING = MAX_SILENT  # as many peers may be heard at the same moment
_MAX_WAITING = 32
# Of so many places one is left to other addresses, and at least one.
_RESERVED_ONE_IN = 8
# An association on which nothing happens for so long gives way to one that finds no place: after its last
# request, or without any, which a peer sends at once.
_IDLE_SECONDS = 1.0
_UNUSED_SECONDS = 0.2
_PLACE_SECONDS = 1.0  # longest wait for a place
_PLACE_POLL_SECONDS = 0.02
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

    def __init__(self, listener: Listener, client_socket: socket.socket, address: Address) -> None:
        super().__init__(listener.ae, MODE_ACCEPTOR)
        settings = listener.settings
        self.host = plain_address(str(address[0]))
        self.calling_ae = ""
        self.admitted_at = math.inf
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
        if rejected is None and (full := self._listener.admit(self)):
            return RejectedRequest(rejection.LIMIT, f"{full} (dicom.max_associations)")
        return rejected

    @property
    def idle_seconds(self) -> float:
        """Time since the peer sent anything; 0 while a request has begun and is not yet answered."""
        if self.dimse.busy:
            return 0.0
        timer = self.dul._idle_timer  # noqa: SLF001
        return min((timer.timeout or 0.0) - timer.remaining, time.monotonic() - self.admitted_at)

    @property
    def gives_way(self) -> bool:
        """True when another association may take its place."""
        return self.idle_seconds >= (_IDLE_SECONDS if self.dimse.used else _UNUSED_SECONDS)

    def refused(self, reason: str, detail: str) -> None:
        """Report that the peer was refused; called once it has its answer."""
        self._listener.on_refused(self, reason, detail)

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
            self._listener.on_ended(self)

    def _serve_request(self, msg: Any, context_id: int) -> None:  # noqa: ARG002 - pynetdicom's signature
        self._listener.serve(self, msg)


Serve: TypeAlias = Callable[[AcceptedAssociation, DimseRequest], None]
OnEnded: TypeAlias = Callable[[AcceptedAssociation], None]
OnRefused: TypeAlias = Callable[[AcceptedAssociation, str, str], None]


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
        association.refused(str(rejected.rejection), rejected.detail)
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
    on_ended
        Called in the association's thread when it is over, of whatever cause; it never raises.
    on_refused
        Called in the same way when a peer was refused, with the reason and what was asked for.
    """

    def __init__(
        self,
        settings: DicomSettings,
        listening: socket.socket,
        *,
        serve: Serve,
        folder: Path,
        check_room: Callable[[], None],
        on_ended: OnEnded = lambda _association: None,
        on_refused: OnRefused = lambda _association, _reason, _detail: None,
    ) -> None:
        self.on_ended = on_ended
        self.on_refused = on_refused
        self.settings = settings
        self.admission = Admission(settings)
        self.tls = server_context(settings)
        self.serve = serve
        self._listening = listening
        self._folder = folder
        self._check_room = check_room
        self._places = threading.Condition()
        self._negotiating: dict[AcceptedAssociation, None] = {}  # oldest first, as the next
        self._waiting: dict[AcceptedAssociation, None] = {}
        self._admitted: set[AcceptedAssociation] = set()
        self._stopped = threading.Event()
        ae = ApplicationEntity(settings.ae_title)
        ae.maximum_associations = 1 << 16  # admit() counts
        super().__init__(ae, listening.getsockname(), settings.ae_title, presentation_contexts())
        self._entrance = Entrance(
            cast("socket.socket", self.socket),
            allows=self.admission.may_connect,
            full=lambda: len(self._admitted) >= settings.max_associations,
            begin=self._begin,
            seconds=settings.association_seconds,
        )
        self._thread = threading.Thread(
            target=self._entrance.run, args=(self._stopped,), name="accept", daemon=True
        )

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

    def admit(self, association: AcceptedAssociation) -> str:
        """Count an association in; an idle one gives way to it where there is no place.

        Returns
        -------
        str
            Empty, or why there was no place for one second, as a clause.
        """
        deadline = time.monotonic() + _PLACE_SECONDS
        with self._places:
            self._negotiating.pop(association, None)
            self._waiting[association] = None
            if len(self._waiting) > _MAX_WAITING:
                del self._waiting[crowding(self._waiting, _host)]
            while shortage := self._find_shortage(association):
                clause, rivals = shortage
                idle = [each for each in rivals if each.gives_way]
                if idle and self._is_next(association):
                    self._end_longest_idle(idle)
                elif time.monotonic() < deadline and association in self._waiting:
                    self._places.wait(_PLACE_POLL_SECONDS)
                else:
                    break
            self._waiting.pop(association, None)
            if shortage:
                return clause
            association.admitted_at = time.monotonic()
            self._admitted.add(association)
        return ""

    def _is_next(self, association: AcceptedAssociation) -> bool:
        """Return whether an association is the newest of its network that waits.

        The newest comes first, so that in a flood a real peer need not wait behind it.
        """
        network = network_of(association.host)
        return association is next(
            (each for each in reversed(self._waiting) if network_of(each.host) == network), None
        )

    def _find_shortage(
        self, association: AcceptedAssociation
    ) -> tuple[str, list[AcceptedAssociation]] | None:
        """Return why there is no place for an association, and those of which one may give way to it."""
        most = self.settings.max_associations
        share = most - max(1, most // _RESERVED_ONE_IN) if most > 1 else most
        network = network_of(association.host)
        same = [each for each in self._admitted if network_of(each.host) == network]
        if len(same) >= share:
            return f"{len(same)} associations of this address are open, of {most}", same
        if len(self._admitted) >= most:
            return f"{most} associations are open", [*self._admitted]
        return None

    def _end_longest_idle(self, idle: list[AcceptedAssociation]) -> None:
        """End an association: of the address with the most idle ones, the one that is idle for longest."""
        idle.sort(key=lambda each: -each.idle_seconds)
        ended = crowding(idle, _host)
        _LOG.warning("%s: idle for %.1f s while others wait; aborted", ended.name, ended.idle_seconds)
        self._admitted.discard(ended)
        ended.abort(block=False)

    def forget(self, association: AcceptedAssociation) -> None:
        """Count an association out."""
        with self._places:
            self._negotiating.pop(association, None)
            self._waiting.pop(association, None)
            self._admitted.discard(association)
            self._places.notify_all()

    def _begin(self, connection: socket.socket, address: Address) -> None:
        """Start the association of a connection on which something was sent."""
        with self._places:
            crowded = None
            if len(self._negotiating) >= _MAX_NEGOTIATING:
                crowded = crowding(self._negotiating, _host)
                del self._negotiating[crowded]
        if crowded is not None:
            self._entrance.dropped.add(crowded.host, "too many association requests are open; dropped")
            crowded.dul.peer.cut()
        try:
            association = AcceptedAssociation(self, connection, address)
        except OSError:  # the peer has left already
            self.shutdown_request(connection)
            return
        with self._places:
            self._negotiating[association] = None
        try:
            association.start()
        except RuntimeError:  # no thread can be started
            self.forget(association)
            self.shutdown_request(connection)
            raise

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
        self._stopped.set()
        self._thread.join()
        self.server_close()
        for association in [*self._negotiating, *self._waiting]:
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


def _host(association: AcceptedAssociation) -> str:
    return association.host
