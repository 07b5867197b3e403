"""What a received data set is filed under, read without trusting a byte of it.

A peer may send anything: a billion elements, sequences nested without end, lengths beyond the file. The
walk over the data set (PS3.5 7.1, 7.5) therefore keeps no value but the UIDs, does not recurse, and stops
at fixed limits, so that time and memory do not depend on what was sent.
"""

from __future__ import annotations

import mmap
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from pydicom.uid import UID
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32

from dicom_node import MODEL_NAME
from dicom_node.dimse.status import Status
from dicom_node.errors import BadInstance
from dicom_node.store.files import StoredFile
from dicom_node.store.index import ReceivedInstance

Buffer: TypeAlias = bytes | bytearray | memoryview | mmap.mmap

MAX_ELEMENTS = 100_000
MAX_DEPTH = 64

_MODEL_NAME = MODEL_NAME.encode()
_UID = re.compile(rb"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+")
_MAX_UID_BYTES = 64
_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_FIRST_DATA_SET = 0x00080000  # below are commands, file meta information and media directories
_FIRST_PIXEL_DATA = 0x7FE00008  # float, double and integer pixel data close what a film is read for
_LONG_VRS = frozenset(str(vr).encode() for vr in EXPLICIT_VR_LENGTH_32)


class Unacceptable(BadInstance):
    """A data set that is refused at the door.

    Parameters
    ----------
    status
        What the peer is answered.
    text
        Why, in at most 64 characters: it is the Error Comment (0000,0902) LO. Never with a value of the
        data set in it.
    """

    def __init__(self, status: Status, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, slots=True)
class Identifiers:
    """Valid UIDs (PS3.5 9.1), and whose work the instance is.

    Attributes
    ----------
    own_result
        Whether a dicom-node wrote it, this one or another: analysing that would never end.
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
    ) -> ReceivedInstance:
        """Return the instance as the index takes it, once its file is durable.

        Parameters
        ----------
        stored
            Its file.
        transfer_syntax_uid
            That the file is encoded in.
        calling_ae, peer_host
            Whom it came from.
        moved_for
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
            moved_for=moved_for,
        )


_MANUFACTURER_MODEL_NAME = 0x00081090
# In the order of the fields above.
_KEYWORDS = {
    0x00080016: "SOPClassUID",
    0x00080018: "SOPInstanceUID",
    0x0020000D: "StudyInstanceUID",
    0x0020000E: "SeriesInstanceUID",
}


def read_identifiers(data: Buffer, start: int, transfer_syntax: UID) -> Identifiers:
    """Walk an encoded data set up to the end of its pixel data and return what it is filed under.

    Parameters
    ----------
    data
        Holds the data set.
    start
        Where in it the data set begins, bytes; it ends with `data`.
    transfer_syntax
        That it is encoded in.

    Raises
    ------
    Unacceptable
        TRUNCATED, NOT_A_DATA_SET, TOO_COMPLEX, MISSING_UID or INVALID_UID.
    """
    found: dict[str, bytes] = {}
    own_result = False
    for tag, begin, end in elements(data, start, transfer_syntax):
        if tag < _FIRST_DATA_SET:
            raise Unacceptable(Status.NOT_A_DATA_SET, "elements that belong to no data set (PS3.5 7.1)")
        if keyword := _KEYWORDS.get(tag):
            if keyword in found:
                raise Unacceptable(Status.NOT_A_DATA_SET, f"{keyword} stands twice in the data set")
            found[keyword] = bytes(data[begin : min(end, begin + _MAX_UID_BYTES + 2)])
        elif tag == _MANUFACTURER_MODEL_NAME:
            own_result = bytes(data[begin : min(end, begin + _MAX_UID_BYTES)]).rstrip(b"\0 ") == _MODEL_NAME
    sop_class, sop_instance, study, series = (_checked(keyword, found) for keyword in _KEYWORDS.values())
    return Identifiers(sop_class, sop_instance, study, series, own_result)


def uid_of(value: bytes) -> str:
    """Return the UID in an encoded UI value, or an empty string when it is none (PS3.5 6.2, 9.1)."""
    value = value.removesuffix(b"\0").rstrip(b" ")
    return value.decode("ascii") if len(value) <= _MAX_UID_BYTES and _UID.fullmatch(value) else ""


def _checked(keyword: str, found: dict[str, bytes]) -> str:
    if not found.get(keyword, b"").rstrip(b"\0 "):
        raise Unacceptable(Status.MISSING_UID, f"{keyword} is missing or empty")
    if not (uid := uid_of(found[keyword])):
        raise Unacceptable(Status.INVALID_UID, f"{keyword} is no valid UID (PS3.5 9.1)")
    return uid


def elements(data: Buffer, start: int, transfer_syntax: UID) -> Iterator[tuple[int, int, int]]:
    """Walk the top level of a data set; sequences and encapsulated frames are stepped over.

    Yields
    ------
    tuple of int
        Tag, and where its value begins and ends in `data`. Pixel data is the last.

    Raises
    ------
    Unacceptable
        TRUNCATED, NOT_A_DATA_SET or TOO_COMPLEX.
    """
    walk = _Walk(data, "<" if transfer_syntax.is_little_endian else ">")
    implicit = transfer_syntax.is_implicit_VR
    position, tag = start, 0
    while position < walk.end and tag < _FIRST_PIXEL_DATA:
        tag, vr, length, begin = walk.header(position, implicit=implicit)
        if length == _UNDEFINED:
            position = walk.after_undefined(begin, implicit=implicit or vr == b"UN")
        else:
            position = walk.advance(begin, length)
        yield tag, begin, position


class _Walk:
    """Reads element headers and counts them.

    Parameters
    ----------
    data
        To walk over.
    order
        Byte order, as `struct` writes it.
    """

    def __init__(self, data: Buffer, order: str) -> None:
        self.end = len(data)
        self._data = data
        self._left = MAX_ELEMENTS
        self._implicit = struct.Struct(order + "HHL")
        self._explicit = struct.Struct(order + "HH2sH")
        self._long = struct.Struct(order + "L")

    def header(self, position: int, *, implicit: bool) -> tuple[int, bytes, int, int]:
        """Return tag, VR (empty when implicit), length and the position of the value."""
        self._left -= 1
        if self._left < 0:
            raise Unacceptable(Status.TOO_COMPLEX, f"more than {MAX_ELEMENTS} elements")
        try:
            if implicit:
                group, element, length = self._implicit.unpack_from(self._data, position)
                return group << 16 | element, b"", length, position + 8
            group, element, vr, length = self._explicit.unpack_from(self._data, position)
            if group == 0xFFFE:  # items and delimiters have no VR (PS3.5 7.5)
                (length,) = self._long.unpack_from(self._data, position + 4)
            elif vr in _LONG_VRS:
                (length,) = self._long.unpack_from(self._data, position + 8)
                return group << 16 | element, vr, length, position + 12
        except struct.error:
            raise Unacceptable(Status.TRUNCATED, "the data set ends inside an element's header") from None
        return group << 16 | element, vr, length, position + 8

    def advance(self, begin: int, length: int) -> int:
        """Return the position after a value."""
        if begin + length > self.end:
            raise Unacceptable(Status.TRUNCATED, "the data set ends inside an element's value")
        return begin + length

    def after_undefined(self, position: int, *, implicit: bool) -> int:
        """Return the position after a value of undefined length: items up to a delimiter.

        The value of a UN element is implicit VR, whatever is around it (PS3.5 6.2.2).
        """
        # What encloses the position, innermost last: (whether it is an item, whether its VRs are implicit).
        enclosing = [(False, implicit)]
        while enclosing:
            in_item, implicit = enclosing[-1]
            if position == self.end and not in_item and len(enclosing) == 1:
                return position  # only the last delimiter is missing; nothing of the frames is
            tag, vr, length, position = self.header(position, implicit=implicit)
            if tag == (_ITEM_END if in_item else _SEQUENCE_END):
                enclosing.pop()
            elif (tag >> 16 == 0xFFFE) if in_item else (tag != _ITEM):
                raise Unacceptable(Status.NOT_A_DATA_SET, "a sequence holds something that is no item")
            elif length != _UNDEFINED:
                position = self.advance(position, length)
            elif len(enclosing) >= MAX_DEPTH:
                raise Unacceptable(Status.TOO_COMPLEX, f"nested deeper than {MAX_DEPTH}")
            else:
                enclosing.append((not in_item, implicit or vr == b"UN"))
        return position
