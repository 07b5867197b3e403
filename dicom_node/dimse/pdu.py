"""Protocol data units (PS3.8 9.3): received ones are checked, and made readable, before they are decoded."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Self, cast

from pynetdicom.pdu_primitives import P_DATA

from dicom_node.imaging import attributes

HEADER = struct.Struct(">BxL")
ASSOCIATE_RQ, P_DATA_TF, ABORT = 0x01, 0x04, 0x07
MAX_ASSOCIATE_BYTES = 1 << 20
APPLICATION_CONTEXT: Final = "1.2.840.10008.3.1.1.1"
"""DICOM Application Context Name (PS3.7 annex A)."""
ASSOCIATE_TITLES: Final = slice(4, 68)
"""Place of both AE titles and the reserved field after them, which the answer repeats (PS3.8 9.3.3)."""

_PDV_HEADER = struct.Struct(">LB")
_ITEM_HEADER = struct.Struct(">BxH")
_LENGTH = struct.Struct(">H")
_ASSOCIATE_FIXED = struct.Struct(">H2x16s16s32s")
_MAX_ITEMS = 4096
_MAX_ITEM_BYTES = 0xFFFF
_MAX_LENGTH_BYTES = 4
_MAX_VERSION_NAME = 16
# Items and sub-items (PS3.8 9.3.2 and annex D, PS3.7 annex D.3.3).
_APPLICATION_ITEM, _CONTEXT_ITEM, _USER_ITEM = 0x10, 0x20, 0x50
_ABSTRACT_SYNTAX, _TRANSFER_SYNTAX = 0x30, 0x40
_MAX_LENGTH, _CLASS_UID, _ROLES, _VERSION_NAME = 0x51, 0x52, 0x54, 0x55
_SUB_ITEMS_AT = {_CONTEXT_ITEM: 4, _USER_ITEM: 0}
# Negotiations that the node does not support, and answers by silence (PS3.7 D.3.3.3, D.3.3.5 to D.3.3.7).
_UNSUPPORTED_NEGOTIATIONS = (0x53, 0x56, 0x57, 0x58)
# A UID that names no SOP class and no transfer syntax. It stands for one that cannot be read, so that only
# its presentation context is refused.
_UNREADABLE_UID = b"2.25.271193624150211327838246154110871902211"
_NO_TITLE = "?"


class MalformedPDU(Exception):
    """Error for a PDU that violates PS3.8; the association is aborted."""


class DataPDU:
    """Received P-DATA-TF, with the interface that pynetdicom's state machine needs; its bytes are not copied.

    Parameters
    ----------
    body
        PDU without its header.

    Raises
    ------
    MalformedPDU
        When the presentation data values do not fill the PDU exactly.
    """

    def __init__(self, body: bytearray) -> None:
        self._primitive = P_DATA()
        values = cast("list[Any]", self._primitive.presentation_data_value_list)
        view, position = memoryview(body), 0
        while position < len(view):
            try:
                length, context_id = _PDV_HEADER.unpack_from(view, position)
            except struct.error:
                raise MalformedPDU("a P-DATA ends inside the header of a PDV") from None
            end = position + 4 + length
            if length < 2 or end > len(view):
                raise MalformedPDU(f"a PDV announces {length} bytes, which do not fit into its P-DATA")
            values.append((context_id, view[position + _PDV_HEADER.size : end]))
            position = end

    def to_primitive(self) -> P_DATA:
        """Return the presentation data values: presentation context ID, and a view of the bytes of each."""
        return self._primitive


@dataclass(frozen=True, slots=True)
class AssociateRequest:
    """A-ASSOCIATE-RQ as the node understands it (PS3.8 9.3.2).

    What the standard has an acceptor not test, or ignore, is left out: further bits of the protocol version,
    unknown items and sub-items, and sub-items without a usable value. A presentation context that cannot be
    read is refused by itself.

    Attributes
    ----------
    called_ae, calling_ae
        AE titles without their padding; empty when a title names nobody. A character that no title may have
        is "?".
    protocol_version
        Protocol version; only bit 0 is to be tested.
    application_context
        Application Context Name; empty when it is absent.
    oddities
        Faults that were read past, for the log.
    readable
        The same request in the form of the standard, without the header of the PDU.
    """

    called_ae: str
    calling_ae: str
    protocol_version: int
    application_context: str
    oddities: tuple[str, ...]
    readable: bytes

    @classmethod
    def of(cls, body: bytes | bytearray) -> Self:
        """Read a request.

        Presentation context IDs are odd and unique, so there are at most 128.

        Parameters
        ----------
        body
            PDU without its header.

        Raises
        ------
        MalformedPDU
            When the request is malformed or has too many items.
        """
        called, calling = ae_titles(body)
        version, *titles, _ = _ASSOCIATE_FIXED.unpack_from(body)
        odd = [
            f"{name} AE title {raw!r}"
            for name, raw, title in zip(("called", "calling"), titles, (called, calling), strict=True)
            if raw.strip(b" ") != title.encode()
        ]
        if version != 1 and version & 1:
            odd.append(f"protocol version {version}")
        application = ""
        contexts: dict[int, bytes] = {}
        user = b""
        count = 0
        for kind, begin, end in _items(body, _ASSOCIATE_FIXED.size, len(body)):
            inner = []
            if kind in _SUB_ITEMS_AT:
                inner = [
                    (each, bytes(body[first:last]))
                    for each, first, last in _items(body, begin + _SUB_ITEMS_AT[kind], end)
                ]
            count += 1 + len(inner)
            if count > _MAX_ITEMS:
                raise MalformedPDU(f"an A-ASSOCIATE-RQ has more than {_MAX_ITEMS} items")
            if kind == _APPLICATION_ITEM:
                application = _printable(bytes(body[begin:end]).strip(b"\0 "))
            elif kind == _CONTEXT_ITEM:
                context_id = body[begin] if end > begin else 0
                if context_id % 2 == 0 or context_id in contexts:
                    raise MalformedPDU(f"presentation context ID {context_id} is even or not unique")
                contexts[context_id] = _context_item(context_id, inner, odd)
            elif kind == _USER_ITEM:
                user += _user_information(inner, odd)
            else:
                odd.append(f"item of unknown type {kind:02X}")
        if not contexts:
            raise MalformedPDU("an A-ASSOCIATE-RQ proposes no presentation context")
        # A title that names nobody is not decoded; admission refuses it.
        encoded = ((title or _NO_TITLE).encode().ljust(16) for title in (called, calling))
        fixed = _ASSOCIATE_FIXED.pack(version & 1, *encoded, b"")
        readable = fixed + _item(_APPLICATION_ITEM, APPLICATION_CONTEXT.encode())
        readable += b"".join(contexts.values()) + _item(_USER_ITEM, user)
        return cls(called, calling, version, application, tuple(odd), readable)


def ae_titles(body: bytes | bytearray) -> tuple[str, str]:
    """Return called and calling AE title of an A-ASSOCIATE-RQ, as for :class:`AssociateRequest`.

    Raises
    ------
    MalformedPDU
        When the PDU is too short to have any.
    """
    if len(body) < _ASSOCIATE_FIXED.size:
        raise MalformedPDU(f"an A-ASSOCIATE-RQ of {len(body)} bytes lacks its AE titles")
    _, called, calling, _ = _ASSOCIATE_FIXED.unpack_from(body)
    return ae_title(called), ae_title(calling)


def ae_title(encoded: bytes) -> str:
    """Return an AE title without padding: blanks, or NUL and whatever a device left behind it (PS3.5 6.2)."""
    return _printable(encoded.lstrip(b"\0 ").partition(b"\0")[0].strip(b" ")).replace("\\", "?")


def _printable(encoded: bytes) -> str:
    return "".join(chr(each) if 0x20 <= each < 0x7F else "?" for each in encoded)


def _negotiated_uid(content: bytes) -> bytes:
    """Return a UID without padding; empty when it violates PS3.5 9.1, which names no syntax and no class."""
    uid = content.strip(b"\0 ").decode("ascii", "replace")
    return uid.encode() if attributes.is_uid(uid) else b""


def _context_item(context_id: int, inner: list[tuple[int, bytes]], odd: list[str]) -> bytes:
    """Return a presentation context item with the UIDs that can be read."""
    uids: dict[int, list[bytes]] = {_ABSTRACT_SYNTAX: [], _TRANSFER_SYNTAX: []}
    for kind, content in inner:
        uid = _negotiated_uid(content)
        if kind in uids and uid:
            uids[kind].append(uid)
        if kind not in uids or uid != content:
            odd.append(f"sub-item {kind:02X} of presentation context {context_id}")
    content = bytes([context_id, 0, 0, 0])
    for kind, found in uids.items():
        if not found:
            odd.append(f"presentation context {context_id} without a readable sub-item {kind:02X}")
        # Of several abstract syntaxes the first counts; there must be one (PS3.8 table 9-13).
        usable = found[:1] if kind == _ABSTRACT_SYNTAX else found
        content += b"".join(_item(kind, uid) for uid in usable or [_UNREADABLE_UID])
    return _item(_CONTEXT_ITEM, content)


def _user_information(inner: list[tuple[int, bytes]], odd: list[str]) -> bytes:
    """Return the sub-items of the user information that the node uses, in the form of the standard."""
    kept = b""
    for kind, content in inner:
        value = _user_value(kind, content)
        if value != content and kind not in _UNSUPPORTED_NEGOTIATIONS:
            odd.append(f"user information sub-item {kind:02X}")
        if value:
            kept += _item(kind, value)
    return kept


def _user_value(kind: int, content: bytes) -> bytes:
    """Return the value of a sub-item of the user information; empty when it is not used or not usable."""
    if kind == _MAX_LENGTH:
        return content if len(content) == _MAX_LENGTH_BYTES else b""
    if kind == _CLASS_UID:
        return _negotiated_uid(content)
    if kind == _VERSION_NAME:
        return _printable(content.strip(b"\0 "))[:_MAX_VERSION_NAME].encode()
    if kind == _ROLES and len(content) >= _LENGTH.size:
        end = _LENGTH.size + _LENGTH.unpack_from(content)[0]
        uid, roles = _negotiated_uid(content[_LENGTH.size : end]), content[end:]
        if uid and len(roles) == 2 and max(roles) <= 1:
            return _LENGTH.pack(len(uid)) + uid + roles
    return b""


def _item(kind: int, content: bytes) -> bytes:
    if len(content) > _MAX_ITEM_BYTES:
        raise MalformedPDU(f"item {kind:02X} of an A-ASSOCIATE-RQ has too many sub-items")
    return _ITEM_HEADER.pack(kind, len(content)) + content


def _items(body: bytes | bytearray, position: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield type, begin and end of each item between two positions."""
    while position < end:
        if position + _ITEM_HEADER.size > end:
            raise MalformedPDU("an A-ASSOCIATE-RQ ends inside the header of an item")
        kind, length = _ITEM_HEADER.unpack_from(body, position)
        begin = position + _ITEM_HEADER.size
        position = begin + length
        if position > end:
            raise MalformedPDU("an A-ASSOCIATE-RQ ends inside an item")
        yield kind, begin, position
