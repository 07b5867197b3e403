"""Protocol data units (PS3.8 9.3): checks of received ones, made before they are decoded."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, cast

from pynetdicom.pdu_primitives import P_DATA

HEADER = struct.Struct(">BxL")
ASSOCIATE_RQ, P_DATA_TF = 0x01, 0x04
MAX_ASSOCIATE_BYTES = 1 << 20

_PDV_HEADER = struct.Struct(">LB")
_ITEM_HEADER = struct.Struct(">BxH")
_ASSOCIATE_FIXED_BYTES = 68
_MAX_ITEMS = 4096
_CONTEXT_ITEM, _USER_ITEM = 0x20, 0x50
_SUB_ITEMS_AT = {_CONTEXT_ITEM: 4, _USER_ITEM: 0}


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


def check_associate_request(body: bytearray) -> None:
    """Refuse an A-ASSOCIATE-RQ that is malformed or would take long to decode (PS3.8 9.3.2).

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
    ids: set[int] = set()
    count = 0
    for kind, begin, end in _items(body, _ASSOCIATE_FIXED_BYTES, len(body)):
        if kind == _CONTEXT_ITEM:
            context_id = body[begin] if end > begin else 0
            if context_id % 2 == 0 or context_id in ids:
                raise MalformedPDU(f"presentation context ID {context_id} is even or not unique")
            ids.add(context_id)
        count += 1
        if kind in _SUB_ITEMS_AT:
            count += sum(1 for _ in _items(body, begin + _SUB_ITEMS_AT[kind], end))
        if count > _MAX_ITEMS:
            raise MalformedPDU(f"an A-ASSOCIATE-RQ has more than {_MAX_ITEMS} items")
    if not ids:
        raise MalformedPDU("an A-ASSOCIATE-RQ proposes no presentation context")


def _items(body: bytearray, position: int, end: int) -> Iterator[tuple[int, int, int]]:
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
