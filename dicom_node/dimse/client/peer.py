"""Peer: a DICOM application that the node opens associations with, and its Verification SCU (C-ECHO)."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self, cast

from pydicom.uid import UID
from pynetdicom import evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]
from pynetdicom.transport import T_CONNECT, AddressInformation

from dicom_node.config.sections import DicomDestination, SenderSettings
from dicom_node.dimse.contexts import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicom_node.dimse.status import meaning_of
from dicom_node.dimse.tls import client_context
from dicom_node.dimse.transport import DeadlineSocket
from dicom_node.errors import PeerRejected, PeerUnavailable

_MAX_PDU_BYTES = 131072


@dataclass(eq=False)
class Peer:
    """DICOM application that the node opens associations with.

    Attributes
    ----------
    ae_title
        Called AE title.
    host, port
        Name or address, and TCP port, on which it listens.
    calling_ae
        AE title of the node.
    connect_seconds
        Most seconds for the TCP connection, and for the answer to the association request.
    response_seconds
        Most seconds for the answer to a request, and for each PDU.
    tls
        TLS context; None for a connection without TLS.
    """

    ae_title: str
    host: str
    port: int
    calling_ae: str = field(kw_only=True)
    connect_seconds: float = field(default=10, kw_only=True)
    response_seconds: float = field(default=60, kw_only=True)
    tls: ssl.SSLContext | None = field(default=None, kw_only=True)

    @classmethod
    def of(
        cls, destination: DicomDestination, calling_ae: str, settings: SenderSettings, **more: Any
    ) -> Self:
        """Return a configured destination as a peer.

        Raises
        ------
        ConfigurationError
            When its certificates cannot be read.
        """
        return cls(
            destination.ae_title,
            destination.host,
            destination.port,
            calling_ae=calling_ae,
            connect_seconds=settings.connect_seconds,
            response_seconds=settings.response_seconds,
            tls=client_context(destination) if destination.tls else None,
            **more,
        )

    def __post_init__(self) -> None:
        self._ae = _ApplicationEntity(self.calling_ae, self.response_seconds)
        self._ae.connection_timeout = self.connect_seconds
        self._ae.acse_timeout = self.connect_seconds
        self._ae.dimse_timeout = self.response_seconds
        self._ae.network_timeout = None  # the node itself ends idle associations
        self._ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        self._ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME

    @property
    def name(self) -> str:
        """Label of the peer for logs and errors."""
        return f"{self.ae_title}@{self.host}:{self.port}"

    def associate(
        self, contexts: list[PresentationContext], handlers: Sequence[evt.EventHandlerType] = ()
    ) -> Association:
        """Open an association.

        Parameters
        ----------
        contexts
            Presentation contexts to propose.
        handlers
            Event handlers of pynetdicom for requests that the peer may send.

        Raises
        ------
        PeerUnavailable
            When the peer cannot be reached, refuses, or does not answer.
        PeerRejected
            When it accepts none of the contexts.
        """
        try:
            association = self._ae.associate(
                self.host,
                self.port,
                contexts,
                ae_title=self.ae_title,
                max_pdu=_MAX_PDU_BYTES,
                evt_handlers=list(handlers),
                tls_args=None if self.tls is None else (self.tls, self.host),
            )
        except OSError as error:
            raise PeerUnavailable(
                f"{self.name}: {error.strerror or error}; check the host and the network"
            ) from None
        if association.is_established:
            return association
        connection = cast("_RequestorSocket", association.dul.socket)
        if connection.error is not None:
            raise PeerUnavailable(f"{self.name}: cannot connect: {_why(connection.error)}")
        if association.is_rejected:
            answer = cast("A_ASSOCIATE", association.acceptor.primitive)
            raise PeerUnavailable(
                f"{self.name}: association {answer.result_str.lower()}: {answer.reason_str.lower()}; "
                f"calling AE {self.calling_ae}, called AE {self.ae_title}"
            )
        if association.rejected_contexts:
            names = ", ".join(sorted({UID(context.abstract_syntax or "").name for context in contexts}))
            raise PeerRejected(f"{self.name}: accepts none of: {names}")
        raise PeerUnavailable(f"{self.name}: the association was aborted before it was accepted")

    def echo(self) -> float:
        """Verify that the peer answers (C-ECHO), and return the seconds until its answer.

        Raises
        ------
        PeerUnavailable, PeerRejected
            When it does not answer, or does not offer Verification.
        """
        association = self.associate([build_context(Verification)])
        try:
            begun = time.perf_counter()
            status = association.send_c_echo().get("Status")
            seconds = time.perf_counter() - begun
        finally:
            association.release()
        if status is None:
            raise PeerUnavailable(f"{self.name}: no answer to C-ECHO")
        if status != 0:
            raise PeerRejected(f"{self.name}: C-ECHO answered {status:04X}: {meaning_of(status).text}")
        return seconds


def _why(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}; check tls_ca of the destination"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {error.reason or error}"
    return f"{error.strerror or 'no answer in time'}; is it running?"


class _RequestorSocket(DeadlineSocket):
    """Socket of a requestor, which keeps the error of a failed connection and connects by TLS."""

    error: OSError | None = None
    tls: tuple[ssl.SSLContext, str] | None = None

    def connect(self, primitive: T_CONNECT) -> None:
        connection = cast("socket.socket", self.socket)
        try:
            connection.settimeout(self.assoc.connection_timeout)
            connection.connect(primitive.address_info.as_tuple)
            if self.tls is not None:
                context, host = self.tls
                connection = context.wrap_socket(connection, server_hostname=host)
                self.socket = connection
        except OSError as error:
            self.error = error
            connection.close()
            self.socket = None
            primitive.result = "Evt17"  # connection closed
        else:
            self.assoc.requestor.address_info = AddressInformation.from_tuple(connection.getsockname())
            self._is_connected = True
            primitive.result = "Evt2"  # connected
        self.provider_queue.put(primitive)
        self._ready.set()


class _ApplicationEntity(ApplicationEntity):
    """Application entity whose associations have a deadline for every PDU."""

    def __init__(self, ae_title: str, pdu_seconds: float) -> None:
        super().__init__(ae_title)
        self._pdu_seconds = pdu_seconds

    def _create_socket(
        self,
        assoc: Association,
        address: AddressInformation,
        tls_args: tuple[ssl.SSLContext, str] | None,
    ) -> DeadlineSocket:
        assoc.dul.daemon = True  # an interrupted program must end, whatever the peer does
        connection = _RequestorSocket(assoc, self._pdu_seconds, address=address)
        connection.tls = tls_args
        return connection
