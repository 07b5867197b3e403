"""Identifiers of a received data set, read without trusting any byte of it.

A peer may send anything: a billion elements, sequences nested without end, lengths beyond the file. The
walk over the data set (PS3.5 7.1, 7.5) therefore keeps only the UIDs, does not recurse, and stops at fixed
limits, so that time and memory are bounded.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from pydicom.datadict import dictionary_VR, keyword_dict
from pydicom.uid import UID
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32

from dicom_node import MODEL_NAME
from dicom_node.dimse.status import Status
from dicom_node.errors import BadInstance
from dicom_node.imaging import value_representations
from dicom_node.imaging.value_representations import MAX_UID_LENGTH
from dicom_node.store.files import StoredFile
from dicom_node.store.received_instances import ReceivedInstance

Buffer: TypeAlias = bytes | bytearray | memoryview | mmap.mmap

MAX_ELEMENTS = 100_000
"""Most elements of a data set, those of nested items included."""
MAX_DEPTH = 64
"""Deepest nesting of sequences and items."""

_MODEL_NAME = MODEL_NAME.encode()
_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_FIRST_DATA_SET = 0x00080000  # below are commands, file meta information and media directories
_FIRST_PIXEL_DATA = 0x7FE00008  # float, double or integer pixel data: nothing after it is needed
_UID_VRS = frozenset({b"UI", b"UN", b""})
"""VRs of an identifier; UN is read by the tag (PS3.5 6.2.2), and in implicit VR there is none."""
_PIXEL_DATA = 0x7FE00010
_SEQUENCES = frozenset(tag for tag in keyword_dict.values() if dictionary_VR(tag) == "SQ")
_LONG_VRS = frozenset(str(vr).encode() for vr in EXPLICIT_VR_LENGTH_32)


class RefusedInstance(BadInstance):
    """Error for a received instance that is refused.

    Parameters
    ----------
    status
        Status of the answer to the peer.
    text
        Reason in at most 64 characters: it is the Error Comment (0000,0902), of VR LO. It must not contain a
        value of the data set.
    """

    def __init__(self, status: Status, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, slots=True)
class Identifiers:
    """Identifiers of an instance: its UIDs, as its device wrote them.

    Attributes
    ----------
    own_result
        True when a dicom-node wrote the instance, this one or another. It is never analysed, or analysis
        would never end.
    """

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    own_result: bool

    def received(
        self,
        stored: StoredFile,
        transfer_syntax_uid: str,
        *,
        calling_ae: str,
        peer_host: str,
        moved_for: str = "",
        move_message_id: int = 0,
        from_source: bool = False,
    ) -> ReceivedInstance:
        """Return the record for the index; call it when the file is durable.

        Parameters
        ----------
        stored
            Stored file of the instance.
        transfer_syntax_uid
            Transfer syntax of the file.
        calling_ae, peer_host
            AE title and IP address of the sender.
        moved_for, move_message_id, from_source
            As for :class:`ReceivedInstance`.
        """
        return ReceivedInstance(
            sop_instance_uid=self.sop_instance_uid,
            sop_class_uid=self.sop_class_uid,
            transfer_syntax_uid=transfer_syntax_uid,
            study_instance_uid=self.study_instance_uid,
            series_instance_uid=self.series_instance_uid,
            digest=stored.digest,
            size=stored.size,
            file=stored.name,
            calling_ae=calling_ae,
            peer_host=peer_host,
            own_result=self.own_result,
            move_message_id=move_message_id,
            from_source=from_source,
            moved_for=moved_for,
            placed_at=stored.placed_at,
        )


_MANUFACTURER_MODEL_NAME = 0x00081090
# In the order of the fields of Identifiers.
_KEYWORDS = {
    0x00080016: "SOPClassUID",
    0x00080018: "SOPInstanceUID",
    0x0020000D: "StudyInstanceUID",
    0x0020000E: "SeriesInstanceUID",
}


def read_identifiers(data: Buffer, start: int, transfer_syntax: UID) -> Identifiers:
    """Walk an encoded data set up to the end of its pixel data, and return its identifiers.

    Parameters
    ----------
    data
        Buffer that holds the data set, up to its end.
    start
        Offset of the data set in `data`, in bytes.
    transfer_syntax
        Transfer syntax of the data set.

    Raises
    ------
    RefusedInstance
        TRUNCATED, NOT_A_DATA_SET, TOO_COMPLEX, MISSING_UID or INVALID_UID.
    """
    found: dict[str, bytes] = {}
    own_result = False
    for tag, begin, end in elements(data, start, transfer_syntax):
        if tag < _FIRST_DATA_SET:
            raise RefusedInstance(Status.NOT_A_DATA_SET, "elements that belong to no data set (PS3.5 7.1)")
        if keyword := _KEYWORDS.get(tag):
            if keyword in found:
                raise RefusedInstance(Status.NOT_A_DATA_SET, f"{keyword} stands twice in the data set")
            found[keyword] = bytes(data[begin : min(end, begin + MAX_UID_LENGTH + 2)])
        elif tag == _MANUFACTURER_MODEL_NAME:
            own_result = bytes(data[begin : min(end, begin + MAX_UID_LENGTH)]).rstrip(b"\0 ") == _MODEL_NAME
    sop_class, sop_instance, study, series = (_checked(keyword, found) for keyword in _KEYWORDS.values())
    return Identifiers(sop_class, sop_instance, study, series, own_result)


def uid_of(value: bytes) -> str:
    """Return the UID of an encoded UI value without its padding, or an empty string when it is none.

    A UID with a leading zero in a component is kept as it is, see :func:`value_representations.uid`.
    """
    return value_representations.uid(value.rstrip(b"\0 ").decode("ascii", "replace"))


def _checked(keyword: str, found: dict[str, bytes]) -> str:
    if not found.get(keyword, b"").rstrip(b"\0 "):
        raise RefusedInstance(Status.MISSING_UID, f"{keyword} is missing or empty")
    if not (uid := uid_of(found[keyword])):
        raise RefusedInstance(Status.INVALID_UID, f"{keyword} is no UID: at most 64 digits and dots")
    return uid


def elements(data: Buffer, start: int, transfer_syntax: UID) -> Iterator[tuple[int, int, int]]:
    """Walk a data set, and yield its top level; sequences and encapsulated frames are only counted.

    Yields
    ------
    tuple of int
        Tag, and the offsets in `data` at which its value begins and ends. Pixel data is the last.

    Raises
    ------
    RefusedInstance
        TRUNCATED, NOT_A_DATA_SET or TOO_COMPLEX; INVALID_UID when an identifier is encoded as something else.
    """
    walk = _Walk(data, "<" if transfer_syntax.is_little_endian else ">")
    implicit = transfer_syntax.is_implicit_VR
    # pydicom reads a data set as it begins: the limits would hold for something else than it reads.
    if implicit and walk.begins_with_a_vr(start):
        raise RefusedInstance(Status.NOT_A_DATA_SET, "explicit VR in a transfer syntax of implicit VR")
    if not implicit and walk.begins_with_a_length(start):
        raise RefusedInstance(Status.NOT_A_DATA_SET, "implicit VR in a transfer syntax of explicit VR")
    position, tag = start, 0
    while position < walk.end and tag < _FIRST_PIXEL_DATA:
        tag, vr, length, begin = walk.header(position, implicit=implicit)
        if level := walk.level(tag, vr, length, begin, implicit=implicit):
            position = walk.after_items(begin, level)
        else:
            position = walk.advance(begin, length)
        if vr not in _UID_VRS and tag in _KEYWORDS:
            # Whoever reads the file by its VRs, the worker too, would find a number or text and no UID.
            raise RefusedInstance(Status.INVALID_UID, f"{_KEYWORDS[tag]} has another VR than UI (PS3.6)")
        yield tag, begin, position


class _Level(NamedTuple):
    """An item, or an element that holds items; `end` is None while only a delimiter ends it."""

    is_item: bool
    implicit: bool
    end: int | None
    is_binary: bool


class _Walk:
    """Reader of element headers, which counts them.

    Parameters
    ----------
    data
        Buffer to walk over.
    order
        Byte order, ``<`` or ``>`` as for `struct`.
    """

    def __init__(self, data: Buffer, order: str) -> None:
        self.end = len(data)
        self._data = data
        self._left = MAX_ELEMENTS
        self._explicit = struct.Struct(order + "HH2sH")
        self._long = struct.Struct(order + "L")

    def header(self, position: int, *, implicit: bool) -> tuple[int, bytes, int, int]:
        """Return tag, VR (empty when implicit), length and position of the value."""
        self._left -= 1
        if self._left < 0:
            raise RefusedInstance(Status.TOO_COMPLEX, f"more than {MAX_ELEMENTS} elements")
        try:
            group, element, vr, length = self._explicit.unpack_from(self._data, position)
            if implicit or group == 0xFFFE or not b"AA" <= vr <= b"ZZ":
                # Items and delimiters have no VR (PS3.5 7.5). What cannot be a VR begins a length: some
                # devices write implicit VR among explicit, and pydicom reads it so. Another length than
                # pydicom's would hide elements from the limits.
                (length,) = self._long.unpack_from(self._data, position + 4)
                vr = b""
            elif vr in _LONG_VRS:
                (length,) = self._long.unpack_from(self._data, position + 8)
                return group << 16 | element, vr, length, position + 12
        except struct.error:
            raise RefusedInstance(Status.TRUNCATED, "the data set ends inside an element's header") from None
        return group << 16 | element, vr, length, position + 8

    def begins_with_a_vr(self, position: int) -> bool:
        """Return whether two capital letters follow the tag of an element."""
        vr = bytes(self._data[position + 4 : position + 6])
        return len(vr) == len(b"VR") and vr.isalpha() and vr.isupper()

    def begins_with_a_length(self, position: int) -> bool:
        """Return whether no VR but a length that fits follows the tag of an element."""
        if position + 8 > self.end or self.begins_with_a_vr(position):
            return False
        (length,) = self._long.unpack_from(self._data, position + 4)
        return position + 8 + int(length) <= self.end

    def advance(self, begin: int, length: int) -> int:
        """Return the position after a value."""
        if begin + length > self.end:
            raise RefusedInstance(Status.TRUNCATED, "the data set ends inside an element's value")
        return begin + length

    def after_items(self, position: int, element: _Level) -> int:
        """Return the position after the items of an element; the limits hold for what they contain.

        Where lengths are given, what contradicts them within is left to whoever reads it.
        """
        enclosing = [element]  # innermost last
        while enclosing:
            level = enclosing[-1]
            if level.end is not None and position >= level.end:
                position = level.end
                enclosing.pop()
                continue
            if position == self.end and not level.is_item and len(enclosing) == 1:
                return position  # only the last delimiter is missing, no frame
            try:
                position, within = self._step(position, level)
            except RefusedInstance as refused:
                bounded = next((n for n, each in enumerate(enclosing) if each.end is not None), None)
                if bounded is None or refused.status is Status.TOO_COMPLEX:
                    raise
                position = enclosing[bounded].end or position
                del enclosing[bounded:]
                continue
            if within is level:
                enclosing.pop()
            elif within is not None:
                if len(enclosing) >= MAX_DEPTH:
                    raise RefusedInstance(Status.TOO_COMPLEX, f"nested deeper than {MAX_DEPTH}")
                enclosing.append(within)
        return position

    def _step(self, position: int, level: _Level) -> tuple[int, _Level | None]:
        """Return the next position, and the level that is entered there, or left when it is the same."""
        tag, vr, length, position = self.header(position, implicit=level.implicit)
        if level.end is None and tag == (_ITEM_END if level.is_item else _SEQUENCE_END):
            return position, level
        if (tag >> 16 == 0xFFFE) if level.is_item else (tag != _ITEM):
            raise RefusedInstance(Status.NOT_A_DATA_SET, "a sequence holds something that is no item")
        if level.is_item:
            if within := self.level(tag, vr, length, position, implicit=level.implicit):
                return position, within
        elif length == _UNDEFINED or not level.is_binary:
            end = None if length == _UNDEFINED else self.advance(position, length)
            return position, _Level(True, level.implicit, end, level.is_binary)
        return self.advance(position, length), None

    def level(self, tag: int, vr: bytes, length: int, begin: int, *, implicit: bool) -> _Level | None:
        """Return the level of an element that holds items, or None.

        The value of a UN element of undefined length is implicit VR, whatever is around it (PS3.5 6.2.2).
        """
        if length == _UNDEFINED:
            is_binary = tag == _PIXEL_DATA or vr not in (b"SQ", b"UN", b"")
            return _Level(False, implicit or vr == b"UN", None, is_binary)
        if vr == b"SQ" or (vr in (b"UN", b"") and tag in _SEQUENCES):
            return _Level(False, implicit, self.advance(begin, length), is_binary=False)
        return None
