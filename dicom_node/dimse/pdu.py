"""Protocol data units (PS3.8 9.3): what one must look like before anybody decodes it."""

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


class Malformed(Exception):
    """A PDU that breaks PS3.8."""


class Data:
    """A received P-DATA-TF: what pynetdicom's state machine asks of one, over the bytes as they came.

    Parameters
    ----------
    body
        The PDU without its header.

    Raises
    ------
    Malformed
        When the values do not end where it ends.
    """

    def __init__(self, body: bytearray) -> None:
        self._primitive = P_DATA()
        values = cast("list[Any]", self._primitive.presentation_data_value_list)
        view, position = memoryview(body), 0
        while position < len(view):
            try:
                length, context_id = _PDV_HEADER.unpack_from(view, position)
            except struct.error:
                raise Malformed("a P-DATA ends inside a PDV's header") from None
            end = position + 4 + length
            if length < 2 or end > len(view):
                raise Malformed(f"a PDV announces {length} bytes")
            values.append((context_id, view[position + _PDV_HEADER.size : end]))
            position = end

    def to_primitive(self) -> P_DATA:
        """Return its values: number of the presentation context, and a view of what was sent in it."""
        return self._primitive


def check_associate(body: bytearray) -> None:
    """Refuse an A-ASSOCIATE-RQ whose decoding would take long or mean nothing (PS3.8 9.3.2).

    Presentation context ids are odd and each stands once, so there are at most 128.

    Parameters
    ----------
    body
        The PDU without its header.

    Raises
    ------
    Malformed
        When it is such a one.
    """
    ids: set[int] = set()
    count = 0
    for kind, begin, end in _items(body, _ASSOCIATE_FIXED_BYTES, len(body)):
        if kind == _CONTEXT_ITEM:
            context_id = body[begin] if end > begin else 0
            if context_id % 2 == 0 or context_id in ids:
                raise Malformed(f"presentation context id {context_id} is even or stands twice")
            ids.add(context_id)
        count += 1
        if kind in _SUB_ITEMS_AT:
            count += sum(1 for _ in _items(body, begin + _SUB_ITEMS_AT[kind], end))
        if count > _MAX_ITEMS:
            raise Malformed(f"an A-ASSOCIATE-RQ has more than {_MAX_ITEMS} items")
    if not ids:
        raise Malformed("an A-ASSOCIATE-RQ proposes no presentation context")


def _items(body: bytearray, position: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield type, begin and end of every item between two positions."""
    while position < end:
        if position + _ITEM_HEADER.size > end:
            raise Malformed("an A-ASSOCIATE-RQ ends inside an item's header")
        kind, length = _ITEM_HEADER.unpack_from(body, position)
        begin = position + _ITEM_HEADER.size
        position = begin + length
        if position > end:
            raise Malformed("an A-ASSOCIATE-RQ ends inside an item")
        yield kind, begin, position
