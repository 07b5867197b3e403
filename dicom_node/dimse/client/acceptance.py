"""Answers to an association request as real archives write them, made readable for pynetdicom (PS3.8 9.3.3).

What the node needs of an A-ASSOCIATE-AC are the presentation contexts and the maximum length. Whatever else
an archive writes wrongly, or adds, is left out before pynetdicom, which refuses most of it, decodes the PDU.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from dicom_node.dimse.pdu import HEADER
from dicom_node.dimse.rejection import RESULTS, Rejection

ASSOCIATE_AC, ASSOCIATE_RJ = 0x02, 0x03
"""PDU types of the two answers (PS3.8 9.3.1)."""

_ITEM = struct.Struct(">BxH")
_FIXED_BYTES = 68
_CONTEXT, _TRANSFER_SYNTAX, _USER = 0x21, 0x40, 0x50
_APPLICATION_CONTEXT = 0x10
_MAXIMUM_LENGTH, _IMPLEMENTATION_CLASS = 0x51, 0x52
_DEFAULT_MAXIMUM_LENGTH = 16384
# A PDU has to hold the header of a presentation data value, and should hold a command.
_SHORTEST_MAXIMUM_LENGTH = 64
_NO_REASON = 1


def readable_rejection(pdu: bytes | bytearray) -> tuple[Rejection, bytes]:
    """Return the reasons of an A-ASSOCIATE-RJ, and a PDU with reasons that pynetdicom knows.

    Raises
    ------
    struct.error
        When the PDU is too short.
    """
    result, source, reason = struct.unpack_from(">BBB", pdu, HEADER.size + 1)
    known = bytes([0, result if result in RESULTS else 1, 1, _NO_REASON])
    return Rejection(result, source, reason), HEADER.pack(ASSOCIATE_RJ, len(known)) + known


def readable_acceptance(pdu: bytes | bytearray) -> bytes:
    """Return an A-ASSOCIATE-AC with nothing but what the node reads of it, in the form of the standard.

    Without a maximum length, or with one that holds no message, 16384 bytes are assumed.

    Raises
    ------
    struct.error, ValueError
        When its items do not fit into it.
    """
    fixed = bytearray(pdu[HEADER.size : HEADER.size + _FIXED_BYTES])
    fixed[:2] = b"\0\1"
    body = b""
    user: dict[int, bytes] = {}
    for kind, content in _items(pdu, HEADER.size + _FIXED_BYTES):
        if kind == _CONTEXT:
            syntaxes = [each for of, each in _items(content, 4) if of == _TRANSFER_SYNTAX]
            # A context that was refused may leave out its transfer syntax; pynetdicom wants one.
            syntax = _stripped(syntaxes[0]) if syntaxes else b""
            body += _item(_CONTEXT, content[:4] + _item(_TRANSFER_SYNTAX, syntax))
        elif kind == _USER:
            user.update(_items(content, 0))
    maximum = user.get(_MAXIMUM_LENGTH, b"")
    length = int.from_bytes(maximum, "big")
    if len(maximum) != 4 or 0 < length < _SHORTEST_MAXIMUM_LENGTH:
        length = _DEFAULT_MAXIMUM_LENGTH
    told = _item(_MAXIMUM_LENGTH, length.to_bytes(4, "big"))
    told += _item(_IMPLEMENTATION_CLASS, _stripped(user.get(_IMPLEMENTATION_CLASS, b"")) or b"0.0")
    body = _item(_APPLICATION_CONTEXT, b"1.2.840.10008.3.1.1.1") + body + _item(_USER, told)
    return HEADER.pack(ASSOCIATE_AC, len(fixed) + len(body)) + bytes(fixed) + body


def _item(kind: int, content: bytes) -> bytes:
    return _ITEM.pack(kind, len(content)) + content


def _items(content: bytes | bytearray, position: int) -> Iterator[tuple[int, bytes]]:
    while position < len(content):
        kind, length = _ITEM.unpack_from(content, position)
        position += _ITEM.size
        if position + length > len(content):
            raise ValueError("an item is longer than the PDU")
        yield kind, bytes(content[position : position + length])
        position += length


def _stripped(uid: bytes) -> bytes:
    return uid.rstrip(b"\0 ")
