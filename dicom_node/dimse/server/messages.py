"""DIMSE messages of an accepted association: requests are assembled, answers are encoded.

Commands are small and are read here (PS3.7 6.3.1, E.1). The data set of a C-STORE request goes from the PDU
unchanged into a Part 10 file; it is never decoded, and never in memory as a whole. The Event Information of
an N-EVENT-REPORT is small and kept in memory.
"""

from __future__ import annotations

import enum
import hashlib
import io
import queue
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pydicom.uid import UID, ImplicitVRLittleEndian
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.pdu_primitives import P_DATA

from dicom_node.dimse.server import file_meta
from dicom_node.dimse.server.file_meta import Reception
from dicom_node.dimse.server.identifiers import elements, uid_of
from dicom_node.errors import BadInstance, NodeError, StorageFailed, StorageFull
from dicom_node.runtime import temporary_files
from dicom_node.store.files import storage_error

if TYPE_CHECKING:
    from dicom_node.dimse.server.listener import AcceptedAssociation

_MAX_COMMAND_BYTES = 1 << 16
# About 150 bytes for each instance; the node asks about some dozens at once.
_MAX_INFORMATION_BYTES = 1 << 20
# Without an asynchronous operations window a peer has one request open (PS3.7 D.3.3.3).
_MAX_WAITING = 8
_WAIT_SECONDS = 0.25
_COMMAND, _LAST = 1, 2  # bits of the message control header (PS3.8 E.2)
_PDV_OVERHEAD = 6  # item length, presentation context ID, message control header (PS3.8 9.3.5)
_NO_DATA_SET = 0x0101
_RESPONSE = 0x8000
_C_CANCEL = 0x0FFF
_COMMENT_LENGTH = 64  # LO (PS3.5 6.2)
_AE_TITLE_BYTES, _US_BYTES = 16, 2


class Operation(enum.IntEnum):
    """Command Field (0000,0100) of the requests that the node serves (PS3.7 E.1)."""

    C_STORE = 0x0001
    C_ECHO = 0x0030
    N_EVENT_REPORT = 0x0100


class _ProtocolError(Exception):
    """Error for a message that violates DIMSE; the association is aborted."""


class IncomingFile:
    """Part 10 file into which the data set of one C-STORE request is written.

    When the disk fails, `error` keeps the reason and the rest of the data set is discarded: the peer gets its
    answer when it has sent everything.

    Parameters
    ----------
    folder
        Folder of the temporary file.
    meta
        Preamble, prefix and file meta information, encoded. When empty, nothing is written.
    check_room
        Called before writing; raises :class:`StorageFull` when the disk has too little room.
    """

    def __init__(self, folder: Path, meta: bytes, check_room: Callable[[], None]) -> None:
        self.path: Path | None = None
        self.data_set_offset = len(meta)
        self.error: NodeError | None = None
        self._file: io.FileIO | None = None
        self._hash = hashlib.sha256()
        if not meta:
            return
        try:
            check_room()
            descriptor, self.path = temporary_files.create(folder)
            self._file = io.FileIO(descriptor, "wb")
            self._file.write(meta)
        except (StorageFull, StorageFailed) as error:
            self.error = error
        except OSError as error:
            self._fail(error)

    @property
    def digest(self) -> str:
        """SHA-256 of the data set that was written, lower-case hexadecimal."""
        return self._hash.hexdigest()

    def write(self, data: memoryview) -> None:
        """Append a fragment of the data set."""
        if self._file is None:
            return
        self._hash.update(data)
        try:
            while data:
                data = data[self._file.write(data) or 0 :]
        except OSError as error:
            self._fail(error)

    def close(self) -> None:
        """Close the file, and keep it."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def discard(self) -> None:
        """Remove the file; harmless when it is already removed."""
        self.close()
        if self.path is not None:
            self.path.unlink(missing_ok=True)
            self.path = None

    def _fail(self, error: OSError) -> None:
        self.error = storage_error(error, "spool")
        self.discard()


@dataclass(frozen=True, slots=True)
class DimseRequest:
    """Complete DIMSE request.

    Attributes
    ----------
    operation
        Command Field (0000,0100); not necessarily an :class:`Operation`.
    message_id
        Message ID, which the answer repeats.
    context_id, abstract_syntax, transfer_syntax
        Presentation context of the request.
    sop_class_uid, sop_instance_uid
        Affected SOP Class and Instance UID of the command; empty when absent or not valid.
    incoming
        File with the data set of a C-STORE.
    event_type
        Event Type ID of an N-EVENT-REPORT; 0 when absent.
    information
        Event Information of an N-EVENT-REPORT, encoded.
    moved_for
        Move Originator Application Entity Title of a C-STORE that a C-MOVE caused; empty for any other.
    move_message_id
        Move Originator Message ID of such a C-STORE; 0 for any other.
    """

    operation: int
    message_id: int
    context_id: int
    abstract_syntax: UID
    transfer_syntax: UID
    sop_class_uid: str
    sop_instance_uid: str
    incoming: IncomingFile | None
    event_type: int = 0
    information: bytearray | None = None
    moved_for: str = ""
    move_message_id: int = 0


class MessageExchange(DIMSEServiceProvider):
    """Message exchange of one association: assembles requests from fragments, and sends the answers.

    Two threads call it: the upper layer delivers fragments (`receive_primitive`), the association serves
    requests (`get_msg`, `answer`).

    Parameters
    ----------
    assoc
        Association of the exchange.
    folder, check_room
        As for :class:`IncomingFile`.
    max_instance_bytes
        Largest data set, in bytes; a larger one aborts the association.
    refuse
        Aborts the association, with the reason for the log.
    """

    def __init__(
        self,
        assoc: Association,
        *,
        folder: Path,
        check_room: Callable[[], None],
        max_instance_bytes: int,
        refuse: Callable[[str], None],
    ) -> None:
        super().__init__(assoc)
        self._refuse = refuse
        self._folder = folder
        self._check_room = check_room
        self._max_instance_bytes = max_instance_bytes
        self._command = bytearray()
        self._request: DimseRequest | None = None
        self._size = 0
        # Each counter is written by one thread only, so that comparing them needs no lock.
        self._begun = 0
        self._answered = 0

    @property
    def busy(self) -> bool:
        """True while a request has begun and is not yet answered."""
        return self._begun != self._answered

    @property
    def used(self) -> bool:
        """True when a request has come."""
        return self._begun > 0

    def discard_unfinished(self) -> None:
        """Remove the file of an incomplete request; call it when the upper layer's thread has ended."""
        if self._request is not None and self._request.incoming is not None:
            self._request.incoming.discard()

    def unserved(self) -> Iterator[DimseRequest]:
        """Yield the complete requests that were not served before the association ended."""
        while not self.msg_queue.empty():
            request: Any = self.msg_queue.get_nowait()[1]
            if request is not None:
                yield request

    # -- called by the upper layer's thread ------------------------------------------------------------------

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Take the fragments of one P-DATA; a fragment that violates DIMSE aborts the association."""
        try:
            for context_id, fragment in primitive.presentation_data_value_list:
                self._receive(context_id, memoryview(fragment))
        except _ProtocolError as error:
            self._refuse(str(error))
        except (BadInstance, struct.error):
            self._refuse("a command cannot be read")

    def _receive(self, context_id: int, fragment: memoryview) -> None:
        header, content = fragment[0], fragment[1:]
        if header & _COMMAND:
            self._receive_command(context_id, content, last=bool(header & _LAST))
            return
        request = self._request
        if request is None or request.context_id != context_id:
            raise _ProtocolError("a data set came without its command")
        self._size += len(content)
        limit = self._max_instance_bytes if request.information is None else _MAX_INFORMATION_BYTES
        if self._size > limit:
            raise _ProtocolError(f"a data set is larger than {limit} bytes")
        if request.incoming is not None:
            request.incoming.write(content)
        if request.information is not None:
            request.information.extend(content)
        if header & _LAST:
            self._complete(request)

    def _receive_command(self, context_id: int, content: memoryview, *, last: bool) -> None:
        if self._request is not None:
            raise _ProtocolError("a command came inside a data set")
        if not self._command:
            self._begun += 1
        self._command += content
        if len(self._command) > _MAX_COMMAND_BYTES:
            raise _ProtocolError(f"a command is larger than {_MAX_COMMAND_BYTES} bytes")
        if last:
            command = _Command(bytes(self._command))
            self._command.clear()
            request = self._open(command, context_id)
            if command.number(0x00000800) == _NO_DATA_SET:
                self._complete(request)
            else:
                self._request = request

    def _open(self, command: _Command, context_id: int) -> DimseRequest:
        # The public list of contexts is sorted anew at every access.
        context = self.assoc._accepted_cx.get(context_id)  # noqa: SLF001
        if context is None:
            raise _ProtocolError(f"presentation context {context_id} was not accepted")
        operation = command.number(0x00000100)
        abstract_syntax, syntax = cast("UID", context.abstract_syntax), context.transfer_syntax[0]
        sop_class, sop_instance = command.uid(0x00000002), command.uid(0x00001000)
        moved_for, move_message_id = command.ae_title(0x00001030), command.optional_number(0x00001031)
        incoming = None
        if operation == Operation.C_STORE:
            meta = b""
            if sop_class and sop_instance:
                peer = cast("AcceptedAssociation", self.assoc)
                reception = Reception(peer.calling_ae, peer.host, moved_for, move_message_id)
                meta = file_meta.encode(sop_class, sop_instance, syntax, reception)
            incoming = IncomingFile(self._folder, meta, self._check_room)
        return DimseRequest(
            operation=operation,
            message_id=command.number(0x00000110, 0),
            context_id=context_id,
            abstract_syntax=abstract_syntax,
            transfer_syntax=syntax,
            sop_class_uid=sop_class,
            sop_instance_uid=sop_instance,
            incoming=incoming,
            event_type=command.number(0x00001002, 0),
            information=bytearray() if operation == Operation.N_EVENT_REPORT else None,
            moved_for=moved_for,
            move_message_id=move_message_id,
        )

    def _complete(self, request: DimseRequest) -> None:
        self._request = None
        self._size = 0
        if request.incoming is not None:
            request.incoming.close()
        self.msg_queue.put((request.context_id, request))  # type: ignore[arg-type]
        if self.msg_queue.qsize() > _MAX_WAITING:
            raise _ProtocolError(f"more than {_MAX_WAITING} requests wait for their answer")

    # -- called by the association's thread ------------------------------------------------------------------

    def get_msg(self, block: bool = False) -> Any:  # noqa: ARG002, FBT001, FBT002 - pynetdicom's signature
        """Return the next (context ID, request), or (None, None) after 0.25 s without one.

        The association asks in a loop. Waiting here, where a request wakes it at once, replaces polling a
        thousand times a second.
        """
        try:
            return self.msg_queue.get(timeout=_WAIT_SECONDS)
        except queue.Empty:
            return None, None

    def answer(self, request: DimseRequest, status: int, comment: str = "") -> None:
        """Send the response to a request, and remove its file unless it was adopted.

        Parameters
        ----------
        request
            From :meth:`get_msg`.
        status
            Status (0000,0900); see :class:`~dicom_node.dimse.status.Status`.
        comment
            Error Comment (0000,0902); cut to 64 characters.
        """
        if request.incoming is not None:
            request.incoming.discard()
        # Responses (PS3.7 E.1) and C-CANCEL have no response.
        if not request.operation & _RESPONSE and request.operation != _C_CANCEL:
            response = _response(request, status, comment)
            size = (self.maximum_pdu_size or 0) - _PDV_OVERHEAD
            if size < 1:
                size = len(response)  # no limit (PS3.8 D.1), or one that no message can keep
            for begin in range(0, len(response), size):
                last = _LAST if begin + size >= len(response) else 0
                primitive = P_DATA()
                fragment = bytes([_COMMAND | last]) + response[begin : begin + size]
                primitive.presentation_data_value_list.append((request.context_id, fragment))
                self.dul.send_pdu(primitive)
        self._answered += 1


class _Command:
    """Received command set: implicit VR little endian, group 0000 (PS3.7 6.3.1)."""

    def __init__(self, encoded: bytes) -> None:
        self._values = {
            tag: encoded[begin:end] for tag, begin, end in elements(encoded, 0, ImplicitVRLittleEndian)
        }

    def number(self, tag: int, default: int | None = None) -> int:
        """Return a US value."""
        if tag not in self._values and default is not None:
            return default
        if tag not in self._values:
            raise _ProtocolError(f"a command lacks ({tag >> 16:04X},{tag & 0xFFFF:04X})")
        number: int = struct.unpack("<H", self._values[tag])[0]
        return number

    def optional_number(self, tag: int) -> int:
        """Return a US value that nothing depends on; 0 when it is absent or not valid."""
        value = self._values.get(tag, b"")
        return int.from_bytes(value, "little") if len(value) == _US_BYTES else 0

    def uid(self, tag: int) -> str:
        """Return a UI value, or an empty string when it is absent or not valid."""
        return uid_of(self._values.get(tag, b""))

    def ae_title(self, tag: int) -> str:
        """Return an AE value without its padding, or an empty string when it is absent."""
        return self._values.get(tag, b"")[:_AE_TITLE_BYTES].decode("ascii", "replace").strip("\0 ")


def _even(text: str, padding: bytes) -> bytes:
    value = text.encode("ascii", "replace")
    return value + padding * (len(value) % 2)


def _response(request: DimseRequest, status: int, comment: str) -> bytes:
    """Encode a C-STORE-RSP, C-ECHO-RSP or N-EVENT-REPORT-RSP (PS3.7 tables 9.3-2, 9.3-13, 10.3-2)."""
    values = {
        0x0002: _even(request.sop_class_uid, b"\0"),
        0x0100: struct.pack("<H", request.operation | _RESPONSE),
        0x0120: struct.pack("<H", request.message_id),
        0x0800: struct.pack("<H", _NO_DATA_SET),
        0x0900: struct.pack("<H", status),
        0x0902: _even(comment[:_COMMENT_LENGTH], b" "),
        0x1000: _even(request.sop_instance_uid, b"\0"),
    }
    body = b"".join(
        struct.pack("<HHL", 0, element, len(value)) + value for element, value in values.items() if value
    )
    return struct.pack("<HHLL", 0, 0, 4, len(body)) + body
