"""File meta information of received instances (PS3.10 7.1), which also says how they came.

A file in the spool thus tells by itself what else only the index knows: who sent it, from where, and
whether a C-MOVE of the node caused it. The index can be made anew from that.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from pydicom.dataset import Dataset

from dicom_node.dimse.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicom_node.imaging import attributes

_SCHEME: Final = "dicom://"
_LONG_VRS: Final = frozenset({b"OB", b"UR"})
_ORIGINATOR: Final = b"move originator\n"
"""Beginning of the Private Information (0002,0102): AE title and Message ID follow, one on each line."""


@dataclass(frozen=True, slots=True)
class Reception:
    """Way in which an instance came.

    Attributes
    ----------
    calling_ae, peer_host
        AE title and address of the sender.
    moved_for, move_message_id
        Move Originator of the C-STORE, as for :class:`dicom_node.store.index.ReceivedInstance`.
    """

    calling_ae: str = ""
    peer_host: str = ""
    moved_for: str = ""
    move_message_id: int = 0


def encode(
    sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str, reception: Reception
) -> bytes:
    """Encode preamble, prefix and file meta information."""
    values = {
        0x0002: (b"UI", _even(sop_class_uid, b"\0")),
        0x0003: (b"UI", _even(sop_instance_uid, b"\0")),
        0x0010: (b"UI", _even(transfer_syntax_uid, b"\0")),
        0x0012: (b"UI", _even(IMPLEMENTATION_CLASS_UID, b"\0")),
        0x0013: (b"SH", _even(IMPLEMENTATION_VERSION_NAME, b" ")),
    }
    if reception.calling_ae:  # Sending Application Entity Title
        values[0x0017] = (b"AE", _even(reception.calling_ae, b" "))
    if reception.peer_host:  # Sending Presentation Address
        values[0x0027] = (b"UR", _even(_SCHEME + reception.peer_host, b" "))
    if reception.moved_for or reception.move_message_id:
        private = _ORIGINATOR + f"{reception.moved_for}\n{reception.move_message_id}".encode()
        values[0x0100] = (b"UI", _even(IMPLEMENTATION_CLASS_UID, b"\0"))
        values[0x0102] = (b"OB", private + b"\0" * (len(private) % 2))
    body = struct.pack("<HH2sHL", 2, 1, b"OB", 0, 2) + b"\0\1"
    for element, (vr, value) in values.items():
        length = struct.pack("<HL", 0, len(value)) if vr in _LONG_VRS else struct.pack("<H", len(value))
        body += struct.pack("<HH2s", 2, element, vr) + length + value
    return bytes(128) + b"DICM" + struct.pack("<HH2sHL", 2, 0, b"UL", 4, len(body)) + body


def reception_of(meta: Dataset) -> Reception:
    """Return what the file meta information says of how an instance came; empty where it says nothing."""
    moved_for, message_id = "", "0"
    private = attributes.value(meta, "PrivateInformation")
    if isinstance(private, bytes) and private.startswith(_ORIGINATOR):
        lines = private.removeprefix(_ORIGINATOR).decode("ascii", "replace").rstrip("\0").split("\n")
        moved_for, message_id = lines[0], lines[-1]
    return Reception(
        calling_ae=attributes.text(meta, "SendingApplicationEntityTitle")[:16],
        peer_host=attributes.text(meta, "SendingPresentationAddress").removeprefix(_SCHEME)[:64],
        moved_for=moved_for,
        move_message_id=int(message_id) if message_id.isascii() and message_id.isdigit() else 0,
    )


def _even(text: str, padding: bytes) -> bytes:
    value = text.encode("utf-8", "replace")
    return value + padding * (len(value) % 2)
