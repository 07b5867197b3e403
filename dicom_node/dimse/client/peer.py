"""Peer: a DICOM application that the node opens associations with, and its Verification SCU (C-ECHO)."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self, TypeVar

from pydicom.uid import UID
from pynetdicom import evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from dicom_node.config.destinations import DicomDestination
from dicom_node.config.sections import SenderSettings
from dicom_node.dimse.client.association import RequestedAssociation
from dicom_node.dimse.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicom_node.dimse.status import meaning_of
from dicom_node.dimse.tls import client_context
from dicom_node.errors import NodeError, PeerRejected, PeerUnavailable

_MAX_PDU_BYTES = 131072
MAX_ANSWERS: Final = 4096
"""Most responses to one query or retrieval."""

Answer = TypeVar("Answer")


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
        self._ae = ApplicationEntity(self.calling_ae)
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
    ) -> RequestedAssociation:
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
            return self._requested(contexts, handlers)
        except OSError as error:  # of this process, such as too many open files: no file is meant
            raise PeerUnavailable(f"{self.name}: cannot connect: {error.strerror or error}") from None

    def _requested(
        self, contexts: list[PresentationContext], handlers: Sequence[evt.EventHandlerType]
    ) -> RequestedAssociation:
        association = RequestedAssociation(
            self._ae,
            self.host,
            self.port,
            ae_title=self.ae_title,
            pdu_seconds=self.response_seconds,
            tls=self.tls,
        )
        association.requestor.maximum_length = _MAX_PDU_BYTES
        for number, context in enumerate(contexts):
            context.context_id = 2 * number + 1  # odd (PS3.8 9.3.2.2)
        association.requestor.requested_contexts = contexts
        for handler in handlers:
            association.bind(*handler)
        begun = time.monotonic()
        with self.translated("the association request", association):
            association.request()
        if association.is_established:
            association.start()
            return association
        association.cut()
        raise self._not_established(association, contexts, time.monotonic() - begun)

    def _not_established(
        self, association: RequestedAssociation, contexts: Sequence[PresentationContext], seconds: float
    ) -> PeerUnavailable | PeerRejected:
        """Return the error for an association that was not established."""
        if association.connection.error is not None:
            return PeerUnavailable(f"{self.name}: cannot connect: {_why(association.connection.error)}")
        if association.rejection is not None:
            return PeerUnavailable(
                f"{self.name}: {association.rejection}; "
                f"calling AE {self.calling_ae}, called AE {self.ae_title}"
            )
        if association.rejected_contexts:
            names = ", ".join(sorted({UID(context.abstract_syntax or "").name for context in contexts}))
            return PeerRejected(f"{self.name}: accepts none of: {names}")
        if seconds >= self.connect_seconds:
            return PeerUnavailable(
                f"{self.name}: no answer to the association request within {self.connect_seconds:.0f} s"
            )
        return PeerUnavailable(f"{self.name}: the association was aborted before it was accepted")

    @contextlib.contextmanager
    def translated(self, operation: str, association: RequestedAssociation | None = None) -> Iterator[None]:
        """Turn whatever pynetdicom raises at odd answers into one sentence, and end the association.

        Raises
        ------
        PeerUnavailable
            For any error but those of the node itself and those of files.
        """
        try:
            yield
        except (NodeError, OSError):
            raise
        except Exception as error:
            if association is not None:
                association.cut()
            raise PeerUnavailable(
                f"{self.name}: {operation} failed ({type(error).__name__}: {error})"
            ) from error

    def bounded(
        self, operation: str, association: RequestedAssociation, answers: Iterator[Answer]
    ) -> Iterator[Answer]:
        """Yield the responses to a query or a retrieval; end the association when they do not end.

        Raises
        ------
        PeerUnavailable
            When there are more than :data:`MAX_ANSWERS`.
        """
        for number, answer in enumerate(answers):
            if number >= MAX_ANSWERS:
                association.cut()
                raise PeerUnavailable(f"{self.name}: {operation} gave more than {MAX_ANSWERS} answers")
            yield answer

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
            with self.translated("C-ECHO", association):
                status = association.send_c_echo().get("Status")
            seconds = time.perf_counter() - begun
        finally:
            association.end(orderly=True)
        if status is None:
            raise PeerUnavailable(f"{self.name}: no answer to C-ECHO")
        if status != 0:
            raise PeerRejected(f"{self.name}: C-ECHO answered {status:04X}: {meaning_of(status).text}")
        return seconds


def _why(error: OSError | ValueError) -> str:
    if isinstance(error, socket.gaierror | UnicodeError):
        return f"the name cannot be resolved: {error.strerror if isinstance(error, OSError) else error}"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}; check tls_ca of the destination"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {error.reason or error}"
    if isinstance(error, ValueError):
        return str(error)
    return f"{error.strerror or 'no answer in time'}; is it running?"
