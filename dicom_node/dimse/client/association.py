"""Association that the node requests: it ends when the peer ends it, and bears answers of any form.

pynetdicom keeps the state machine and the negotiation. This module replaces what makes the node wait for a
peer that has gone, or fail at an answer that is readable in spite of its faults.
"""

from __future__ import annotations

import contextlib
import queue
import ssl
import struct
import threading
import time
from typing import Any, cast

from pynetdicom._globals import MODE_REQUESTOR
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import N_EVENT_REPORT_RQ
from pynetdicom.dul import DULServiceProvider
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.transport import AddressInformation

from dicom_node.dimse.client.acceptance import (
    ASSOCIATE_AC,
    ASSOCIATE_RJ,
    readable_acceptance,
    readable_rejection,
)
from dicom_node.dimse.client.requestor_socket import RequestorSocket
from dicom_node.dimse.rejection import Rejection
from dicom_node.dimse.transport import ANY_ADDRESS
from dicom_node.dimse.waking import Checkpoint, TellingQueue

_LOOK_SECONDS = 0.05
"""Longest time in which a thread that waits for a response notices that the association has ended."""
_END_SECONDS = 1.0
"""Longest time for the last PDU of an association that has ended."""
_COMMAND, _LAST = 1, 2  # bits of the message control header (PS3.8 E.2)
_MAX_COMMAND_BYTES = 1 << 16
_MAX_DATA_BYTES = 4 << 20  # the report on a storage commitment names thousands of instances
_ELEMENT = struct.Struct("<HHL")
_COMMAND_FIELD, _MESSAGE_ID_ANSWERED, _DATA_SET_TYPE, _STATUS = 0x0100, 0x0120, 0x0800, 0x0900
_COMMENT = 0x0902
_COMMENT_BYTES = 64  # LO, of the default repertoire (PS3.5 6.2)
_RESPONSE = 0x8000
_C_FIND_RSP = 0x8020
_C_STORE_RSP = 0x8001
_NO_DATA_SET, _DATA_SET = 0x0101, 0x0001
_PENDING = (0xFF00, 0xFF01)
_DEFAULT_MESSAGE_ID = 1  # of pynetdicom, for every request
_MAX_MESSAGE_ID = 0xFFFF


class RequestedAssociation(Association):
    """Association to be opened by :meth:`~pynetdicom.association.Association.request`.

    Parameters
    ----------
    ae
        Application entity of the node, with its time limits.
    host, port
        Name or address of the peer, and its TCP port; the addresses of a name are tried in order.
    ae_title
        Called AE title.
    pdu_seconds
        Most seconds for a PDU, in either direction.
    tls
        TLS context; None for a connection without TLS.
    """

    dul: UpperLayer
    dimse: MessageExchange

    def __init__(
        self,
        ae: ApplicationEntity,
        host: str,
        port: int,
        *,
        ae_title: str,
        pdu_seconds: float,
        tls: ssl.SSLContext | None,
    ) -> None:
        self._paused = False
        super().__init__(ae, MODE_REQUESTOR)
        self._reactor_checkpoint = Checkpoint()
        self._reactor_checkpoint.set()
        self.dul = UpperLayer(self)
        self.dimse = MessageExchange(self)
        self.acse_timeout, self.network_timeout = ae.acse_timeout, ae.network_timeout
        self.connection = RequestorSocket(self, pdu_seconds, host, port, tls)
        self.set_socket(self.connection)
        self.acceptor.ae_title = ae_title
        self.acceptor.address_info = AddressInformation(ANY_ADDRESS, port)
        self.requestor.address_info = AddressInformation(ANY_ADDRESS, 0)
        self.requestor.ae_title = ae.ae_title
        self.requestor.implementation_class_uid = ae.implementation_class_uid
        self.requestor.implementation_version_name = ae.implementation_version_name

    @property
    def rejection(self) -> Rejection | None:
        """Reasons of the peer's rejection; None when it did not reject the association."""
        return self.dul.rejection

    @property
    def _is_paused(self) -> bool:
        """Whether the association's own thread is out of the way of one that sends.

        A report of the peer is served by a thread of its own, which says in the end that it is not: but it
        may wait for a long time, and whoever wants to send would wait for it for ever.
        """
        return self._paused or cast("Checkpoint", self._reactor_checkpoint).waiting

    @_is_paused.setter
    def _is_paused(self, paused: bool) -> None:
        self._paused = paused

    def look(self) -> None:
        """Let the association's own thread see what has come from the peer."""
        cast("Checkpoint", self._reactor_checkpoint).tell()

    def end(self, *, orderly: bool = False) -> None:
        """End the association, by a release or else by an abort, and its connection; raises nothing."""
        with contextlib.suppress(Exception):  # pynetdicom raises any error at what peers send
            if self.is_established:
                (self.release if orderly else self.abort)()
            self.join(_END_SECONDS)  # it may be answering the peer's A-RELEASE-RQ
        self.cut()

    def cut(self) -> None:
        """End the connection at once, whatever state it is in."""
        self.is_established = False
        self._kill = True
        self._reactor_checkpoint.set()
        self.dul.kill_dul()
        self.connection.cut()


class UpperLayer(DULServiceProvider):
    """Upper layer of a requested association; whatever goes wrong in it ends only this association."""

    def __init__(self, assoc: RequestedAssociation) -> None:
        super().__init__(assoc)
        self.daemon = True  # an interrupted program must end, whatever the peer does
        self.rejection: Rejection | None = None
        self.to_user_queue = TellingQueue(assoc.look)

    def send_pdu(self, primitive: Any) -> None:
        """Queue a primitive and wake the thread that sends it."""
        super().send_pdu(primitive)
        cast("RequestorSocket", self.socket).wake()

    def run_reactor(self) -> None:
        """Run until the connection is closed; then end every wait for it."""
        try:
            super().run_reactor()
        except Exception:  # noqa: BLE001 - pynetdicom's state machine raises any error at what peers send
            self.assoc.is_aborted = True
        finally:
            self.assoc.is_established = False
            cast("RequestedAssociation", self.assoc).connection.finish()
            cast("queue.Queue[Any]", self.to_user_queue).put(None)

    def _decode_pdu(self, bytestream: bytearray) -> Any:
        if bytestream[0] == ASSOCIATE_AC:
            bytestream = bytearray(readable_acceptance(bytestream))
        elif bytestream[0] == ASSOCIATE_RJ:
            self.rejection, readable = readable_rejection(bytestream)
            bytestream = bytearray(readable)
        return super()._decode_pdu(bytestream)


class MessageExchange(DIMSEServiceProvider):
    """Message exchange of a requested association.

    Attributes
    ----------
    end
        How the association ended while a response was awaited; empty when it did not.
    timed_out
        Whether the peer stopped reading, or did not answer in time.
    """

    def __init__(self, assoc: RequestedAssociation) -> None:
        super().__init__(assoc)
        self.end, self.timed_out = "", False
        self._command = bytearray()
        self._data_bytes = 0
        self._unreadable = False
        self._asked, self._asking = False, threading.Lock()
        self._interrupted: N_EVENT_REPORT_RQ | None = None
        self._requests, self._message_id = 0, 0
        self._earlier: set[int] = set()

    # -- called by the upper layer's thread ------------------------------------------------------------------

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Take the fragments of one P-DATA, which may hold more than one message."""
        try:
            for context_id, fragment in primitive.presentation_data_value_list:
                self._receive(context_id, bytes(fragment))
        except Exception:  # noqa: BLE001 - pynetdicom raises any error at a message that it cannot read
            self._unreadable = True
            self.dul.event_queue.put("Evt19")  # invalid PDU: the association is aborted
        cast("RequestedAssociation", self.assoc).look()

    def _receive(self, context_id: int, fragment: bytes) -> None:
        if fragment[0] & _COMMAND:
            self._command += fragment[1:]
            if len(self._command) > _MAX_COMMAND_BYTES:
                raise ValueError("a command without end")
            if not fragment[0] & _LAST:
                return
            command, self._command = readable_command(bytes(self._command), self._message_id), bytearray()
            if command is None:
                return
            self._begin_message()
            fragment = bytes([_COMMAND | _LAST]) + command
        elif self.message is None:
            return  # a data set of a response that has none
        else:
            self._data_bytes += len(fragment)
            if self._data_bytes > _MAX_DATA_BYTES:
                raise ValueError("a data set without end")
        single = P_DATA()
        single.presentation_data_value_list.append((context_id, fragment))
        super().receive_primitive(single)
        if self.message is None and self._interrupted is not None:
            self.message, self._interrupted = self._interrupted, None

    def _begin_message(self) -> None:
        """Begin a message; the data set that the one before it announced does not come.

        A report on a commitment is different: an archive sends it from a thread of its own, and the response
        to the request may come between its command and its data set, against PS3.8 annex E.
        """
        self._interrupted = self.message if isinstance(self.message, N_EVENT_REPORT_RQ) else None
        self.message = None
        self._data_bytes = 0

    # -- called by the threads that send and wait ------------------------------------------------------------

    def send_msg(self, primitive: Any, context_id: int) -> None:
        """Send a message; a response that came unasked before a request is none to it.

        Each request has a Message ID of its own (PS3.7 9.3), so that a late answer to an earlier one is none
        to it either.
        """
        if primitive.MessageIDBeingRespondedTo is None:
            self.end, self.timed_out = "", False
            if self._message_id:
                self._earlier.add(self._message_id)
            if primitive.MessageID == _DEFAULT_MESSAGE_ID:
                self._requests = self._requests % _MAX_MESSAGE_ID + 1
                primitive.MessageID = self._requests
            self._message_id = primitive.MessageID
            self._earlier.discard(self._message_id)
            with self._asking, contextlib.suppress(queue.Empty):
                self._asked = True
                while True:
                    self.msg_queue.get_nowait()
        super().send_msg(primitive, context_id)

    def get_msg(self, block: bool = False) -> Any:  # noqa: FBT001, FBT002 - pynetdicom's signature
        """Return the next (context ID, message), or (None, None) when there is none.

        A call that blocks waits for the response to a request. It ends as soon as the association does;
        :attr:`end` says how. A call that does not block is of pynetdicom's own thread, which takes requests
        of the peer. It sleeps while a request of the node is open, but may still be falling asleep: the
        response that it took then would be lost.
        """
        if not block:
            with self._asking:
                return (None, None) if self._asked else super().get_msg(block=False)
        received = self._awaited()
        if getattr(received[1], "Status", None) not in _PENDING:
            self._asked = False
        return received

    def _awaited(self) -> Any:
        deadline = None if self.dimse_timeout is None else time.monotonic() + self.dimse_timeout
        while True:
            end = self._end()  # asked first: a response that came before the end is still in the queue
            received: Any = None, None
            with contextlib.suppress(queue.Empty):
                received = self.msg_queue.get(block=not end, timeout=_LOOK_SECONDS)
            if received[1] is not None:
                if received[1].MessageIDBeingRespondedTo in self._earlier:
                    continue
                return received
            if end:
                self.end = end
                self.timed_out = cast("RequestedAssociation", self.assoc).connection.stalled
                self._answer_release()
                return None, None
            if deadline is not None and time.monotonic() > deadline:
                self.timed_out = True
                return None, None

    def _end(self) -> str:
        acse = self.assoc.acse
        if acse.is_aborted("a-abort"):
            return "the peer aborted the association"
        if acse.is_aborted("a-p-abort"):
            return "the answer cannot be read" if self._unreadable else "the connection was closed"
        if self._release_requested:
            return "the peer released the association"
        return "" if self.dul.is_alive() and self.assoc.is_established else "the association has ended"

    @property
    def _release_requested(self) -> bool:
        primitive: Any = self.dul.peek_next_pdu()
        return primitive is not None and getattr(primitive, "result", 0) is None

    def _answer_release(self) -> None:
        """Answer the peer's A-RELEASE-RQ (PS3.8 7.2.2.7); the association's own thread sleeps meanwhile."""
        if self._release_requested and self.assoc.acse.is_release_requested():
            self.assoc.acse.send_release(is_response=True)
            self.assoc.is_released = True
            self.assoc.kill()


def readable_command(encoded: bytes, message_id: int = _DEFAULT_MESSAGE_ID) -> bytes | None:
    """Return a command set that says truly whether a data set follows (PS3.7 9.3, 10.3); None: pass over it.

    Only pending C-FIND responses have a data set that the node reads, but archives claim one in others, or
    leave the element out. A C-STORE has no pending responses; the final one follows.

    Parameters
    ----------
    encoded
        Command set: group 0000, implicit VR little endian.
    message_id
        Message ID of the open request, for a response that names none.

    Raises
    ------
    struct.error, KeyError, ValueError
        When it cannot be read.
    """
    values: dict[int, bytes] = {}
    position = 0
    while position < len(encoded):
        group, element, length = _ELEMENT.unpack_from(encoded, position)
        position += _ELEMENT.size + length
        if group or position > len(encoded):
            raise ValueError("a command set cannot be read")
        values[element] = encoded[position - length : position]
    field = _number(values[_COMMAND_FIELD])
    if field & _RESPONSE:
        pending = _number(values[_STATUS]) in _PENDING
        if pending and field == _C_STORE_RSP:
            return None
        has_data_set = pending and field == _C_FIND_RSP
        values[_DATA_SET_TYPE] = struct.pack("<H", _DATA_SET if has_data_set else _NO_DATA_SET)
        values.setdefault(_MESSAGE_ID_ANSWERED, struct.pack("<H", message_id))
    if _COMMENT in values:
        comment = values[_COMMENT][:_COMMENT_BYTES].decode("ascii", "replace")
        values[_COMMENT] = comment.replace("\ufffd", "?").encode()
    values.pop(0, None)
    body = b"".join(
        _ELEMENT.pack(0, element, len(value)) + value for element, value in sorted(values.items())
    )
    return _ELEMENT.pack(0, 0, 4) + struct.pack("<L", len(body)) + body


def _number(value: bytes) -> int:
    return int(struct.unpack("<H", value)[0])
