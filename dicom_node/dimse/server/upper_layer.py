"""Upper layer of an accepted association (PS3.8 9), with limits on the size and duration of PDUs."""

from __future__ import annotations

import contextlib
import logging
import queue
import ssl
import time
from typing import TYPE_CHECKING, Any, cast

from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider
from pynetdicom.pdu import A_ASSOCIATE_AC
from pynetdicom.timer import Timer

from dicom_node.dimse import rejection
from dicom_node.dimse.pdu import (
    ABORT,
    ASSOCIATE_RQ,
    ASSOCIATE_TITLES,
    HEADER,
    MAX_ASSOCIATE_BYTES,
    P_DATA_TF,
    AssociateRequest,
    DataPDU,
    MalformedPDU,
    ae_titles,
)
from dicom_node.dimse.transport import AcceptedSocket
from dicom_node.dimse.waking import TellingQueue

if TYPE_CHECKING:
    from dicom_node.dimse.server.listener import AcceptedAssociation

_LOG = logging.getLogger(__name__)

# The maximum length does not count the header of the PDU (PS3.8 D.1.1), but peers count differently.
_SLACK_BYTES = 1024
_DRAIN_BYTES = 1 << 20
_LINGER_SECONDS = 1.0
_PROVIDER = 2  # source of an A-ABORT (PS3.8 9.3.8)
_NAMED_ODDITIES = 5


class UpperLayer(DULServiceProvider):
    """Upper layer that enforces limits on received PDUs (PS3.8 9.3).

    Parameters
    ----------
    assoc
        Association that it serves.
    max_pdu_bytes
        Maximum PDU length that is announced to the peer, and enforced.
    pdu_seconds
        Most seconds for a PDU to arrive once it has begun.

    Attributes
    ----------
    request
        Association request of the peer; None before it came.
    """

    def __init__(self, assoc: Association, *, max_pdu_bytes: int, pdu_seconds: float) -> None:
        super().__init__(assoc)
        self.daemon = True
        self._run_loop_delay = 0  # AcceptedSocket.ready waits instead
        self._pdu_seconds = pdu_seconds
        self._drained = 0
        self.request: AssociateRequest | None = None
        self._titles = b""
        self.artim_timer, self._idle_timer = _MonotonicTimer(30), _MonotonicTimer(60)
        self.to_user_queue = TellingQueue(lambda: assoc.dimse.msg_queue.put((None, None)))
        # PS3.8 9.3.2 to 9.3.8: release and abort have a fixed length.
        self._longest = {
            ASSOCIATE_RQ: MAX_ASSOCIATE_BYTES,
            P_DATA_TF: max_pdu_bytes + _SLACK_BYTES,
        } | dict.fromkeys((0x02, 0x03, 0x05, 0x06, 0x07), 4)

    @property
    def peer(self) -> AcceptedSocket:
        """Socket of the connection."""
        return cast("AcceptedSocket", self.socket)

    def send_pdu(self, primitive: Any) -> None:
        """Queue a primitive and wake the thread that sends it."""
        super().send_pdu(primitive)
        self._idle_timer.restart()  # the time that an answer took is no idleness of the peer
        self.peer.wake()

    def run_reactor(self) -> None:
        """Run until the connection is closed, whatever the peer does."""
        try:
            super().run_reactor()
        except Exception as error:  # noqa: BLE001 - whatever a peer triggers must end only its association
            _LOG.error("%s: %s: %s; aborting", self.assoc.name, type(error).__name__, error)
            self.peer.send(HEADER.pack(ABORT, 4) + bytes([0, 0, _PROVIDER, 0]))
            self._linger()
        finally:
            self.peer.end()
            # A thread that waits for a primitive stops waiting.
            cast("queue.Queue[Any]", self.to_user_queue).put(None)

    def refuse(self, reason: str) -> None:
        """Abort the association because the peer violated the protocol; the reason is logged."""
        _LOG.warning("%s: %s; aborting", self.assoc.name, reason)
        self.event_queue.put("Evt19")  # invalid PDU: A-ABORT (PS3.8 table 9-10)

    def _process_recv_primitive(self) -> bool:
        if self.state_machine.current_state == "Sta13":
            # An answer that was ready when the association was aborted has no reader, and PS3.8 table 9-10 no
            # action for it.
            with contextlib.suppress(queue.Empty):
                while True:
                    self.to_provider_queue.get_nowait()
        return super()._process_recv_primitive()

    def _read_pdu_data(self) -> None:
        if self.state_machine.current_state == "Sta13":
            self._discard()
            return
        try:
            kind, body = self._receive_pdu()
            if kind == P_DATA_TF:
                self._take(DataPDU(body), "Evt10")
                return
            if kind == ASSOCIATE_RQ and self.request is None:
                body = self._understood(body)
            self._take(*self._decode_pdu(bytearray(HEADER.pack(kind, len(body))) + body))
        except EOFError:
            self.event_queue.put("Evt17")  # connection closed
        except TimeoutError:
            self.refuse("a PDU was not complete in time")
        except ssl.SSLError as error:  # the handshake is part of the first read
            _LOG.warning("%s: TLS failed: %s; closed", self.assoc.name, error.reason or error)
            cast("AcceptedAssociation", self.assoc).refused("TLS failed", str(error.reason or error))
            self.event_queue.put("Evt17")
        except OSError:
            self.event_queue.put("Evt17")
        except MalformedPDU as error:
            self.refuse(str(error))
        except Exception as error:  # noqa: BLE001 - pynetdicom's decoder raises any type of error
            self.refuse(f"a PDU of type {kind:02X} cannot be decoded ({type(error).__name__})")

    def _understood(self, body: bytearray) -> bytearray:
        """Return an association request in the form of the standard; from now on the log names its sender."""
        called, calling = ae_titles(body)
        self.assoc.name = f"{calling or '?'}@{self.assoc.name}"
        self._titles = bytes(body[ASSOCIATE_TITLES])
        self.request = request = AssociateRequest.of(body)
        if request.oddities:
            named = ", ".join(request.oddities[:_NAMED_ODDITIES])
            more = len(request.oddities) - _NAMED_ODDITIES
            _LOG.info(
                "%s: its request to %s is read in spite of: %s%s",
                self.assoc.name,
                called,
                named,
                f" and {more} more" if more > 0 else "",
            )
        if not request.protocol_version & 1:  # the state machine rejects it
            _LOG.warning(
                "%s: %s: protocol version %d",
                self.assoc.name,
                rejection.PROTOCOL_VERSION,
                request.protocol_version,
            )
        return bytearray(request.readable)

    def _take(self, pdu: Any, event: str) -> None:
        self._recv_pdu.put(pdu)
        self.event_queue.put(event)

    def _receive_pdu(self) -> tuple[int, bytearray]:
        seconds = self._pdu_seconds
        if self.state_machine.current_state == "Sta2":
            seconds = min(seconds, max(0.0, self.artim_timer.remaining))
        deadline = time.monotonic() + seconds
        header = self.peer.receive(HEADER.size, deadline)
        if len(header) < HEADER.size:
            raise EOFError
        kind, length = HEADER.unpack(header)
        if kind not in self._longest:
            raise MalformedPDU(f"unknown PDU type {kind:02X}")
        if length > self._longest[kind]:
            raise MalformedPDU(
                f"a PDU of type {kind:02X} announces {length} bytes; {self._longest[kind]} are allowed"
            )
        body = self.peer.receive(length, deadline)
        if len(body) < length:
            raise EOFError
        return kind, body

    def _send(self, pdu: Any) -> None:
        if isinstance(pdu, A_ASSOCIATE_AC):
            # PS3.8 9.3.3: titles, and what stands after them, go back byte by byte.
            encoded = bytearray(pdu.encode())
            begin, end = (HEADER.size + at for at in (ASSOCIATE_TITLES.start, ASSOCIATE_TITLES.stop))
            encoded[begin:end] = self._titles
            self.peer.send(bytes(encoded))
            return
        super()._send(pdu)

    def _linger(self) -> None:
        """Let the peer read the last PDU: to close with unread bytes would take it from the wire."""
        deadline = time.monotonic() + _LINGER_SECONDS
        while time.monotonic() < deadline and self.peer.drain():
            pass

    def _discard(self) -> None:
        # In Sta13 the node waits for the peer to read the A-ABORT and to close, but not for ever.
        self._drained += 1 << 16
        if not self.peer.drain() or self._drained > _DRAIN_BYTES:
            self.peer.close()


class _MonotonicTimer(Timer):
    """Timer on the monotonic clock, which changes of the system time do not affect."""

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
