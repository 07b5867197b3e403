"""Encoding of data sets: elements by keyword, Part 10 bytes (PS3.10 7)."""

from __future__ import annotations

import functools
import hashlib
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from pydicom import config
from pydicom.charset import convert_encodings, decode_bytes, encode_string
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID, ExplicitVRLittleEndian
from pydicom.valuerep import PersonName

from dicom_node.errors import EncodingFailed
from dicom_node.imaging import attributes
from dicom_node.results import uids
from dicom_node.results.encoding.item import Item
from dicom_node.results.report import Code

_CHARACTER_SET_VRS: Final = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
_TEXT_VRS: Final = _CHARACTER_SET_VRS - {"PN"} | {"AE", "AS", "CS", "DA", "DT", "TM"}
"""Value representations of which pydicom keeps a text as it is."""
_LONG_VRS: Final = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "UC", "UN", "UR", "UT"})
_ZERO_PADDED_VRS: Final = frozenset({"OB", "UI", "UN"})
_NUMBERS: Final = {"US": "H", "SS": "h", "UL": "L", "SL": "l", "FL": "f", "FD": "d"}
_SHORT, _LONG, _ITEM = struct.Struct("<H"), struct.Struct("<L"), struct.Struct("<HHL")
"""Lengths of elements, and begin of items (PS3.5 7.1.2, 7.5)."""
_UNDEFINED: Final = 0xFFFFFFFF


@functools.cache
def _element(keyword: str) -> tuple[BaseTag, str]:
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise ValueError(f"{keyword} is no keyword of the data dictionary")
    # "OB or OW", "US or SS": the first is what 8 bits and unsigned values take.
    return Tag(tag), dictionary_VR(tag)[:2]


def value_of(ds: Dataset, keyword: str) -> Any:
    """Value of an element; None where there is none.

    The tag is the very object that the elements of a result have, so that nothing has to be compared.
    """
    try:
        return ds[_element(keyword)[0]].value
    except KeyError:
        return None


def put(ds: Dataset, **values: Any) -> Dataset:
    """Set elements by keyword; a list of data sets becomes a sequence. Values are not checked."""
    for keyword, value in values.items():
        element = _made(keyword, value)
        ds[element.tag] = element
    return ds


def dataset(**values: Any) -> Dataset:
    """Make a data set of elements by keyword."""
    return Dataset(_elements_of(values))


def item(**values: Any) -> Item:
    """Make an item of elements by keyword: a data set that cannot be changed."""
    return Item(_elements_of(values))


def _elements_of(values: Mapping[str, Any]) -> dict[BaseTag, DataElement | RawDataElement]:
    made = [_made(keyword, value) for keyword, value in values.items()]
    return {element.tag: element for element in made}


def _made(keyword: str, value: Any) -> DataElement:
    tag, vr = _element(keyword)
    # What pydicom would keep as it is need not pass through its conversion: most values of a report.
    kept = vr == "SQ" or (vr in _TEXT_VRS and type(value) is str and "\\" not in value)
    content = Sequence(value) if vr == "SQ" else value
    return DataElement(tag, vr, content, already_converted=kept, validation_mode=config.IGNORE)


@functools.lru_cache(maxsize=1024)
def code_item(code: Code) -> Item:
    """Item of a code sequence (PS3.3 section 8.8); the same code gives the same item."""
    return item(CodeValue=code.value, CodingSchemeDesignator=code.scheme, CodeMeaning=code.meaning)


def elements(ds: Dataset) -> Iterator[DataElement]:
    """All elements of a data set, those of items too; of an item that stands in several places once."""
    return iter(_found_in(ds, set()))


def texts(ds: Dataset) -> Iterator[str]:
    """Values of a data set that are written in its character set, but for those of items with kept bytes.

    Such an item holds nothing but the characters of ASCII.
    """
    for element in _found_in(ds, set(), kept=False):
        if element.VR in _CHARACTER_SET_VRS:
            yield from map(str, _values(element.value))


def _found_in(ds: Dataset, seen: set[int], *, kept: bool = True) -> list[DataElement]:
    """Elements of a data set and its items, but for items that were seen; without `kept` also for these."""
    found: list[DataElement] = []
    for tag, entry in tuple(ds.items()):
        element = entry if isinstance(entry, DataElement) else ds[tag]  # as it was read
        found.append(element)
        if element.VR == "SQ":
            for child in element.value:
                if id(child) in seen or (not kept and isinstance(child, Item) and child.kept is not None):
                    continue
                seen.add(id(child))
                found += _found_in(child, seen, kept=kept)
    return found


def content_digest(ds: Dataset) -> str:
    """SHA-256 of a data set's elements, texts in UTF-8, in hexadecimal digits.

    Raises
    ------
    EncodingFailed
        When a value does not fit its element.
    """
    with _failing_as_ours():
        return hashlib.sha256(_Encoder("ISO_IR 192").elements(ds)).hexdigest()


def encoded(ds: Dataset) -> bytes:
    """Part 10 bytes of a data set in its transfer syntax, with a zero preamble: Explicit VR Little Endian.

    The bytes are those of ``pydicom.dcmwrite``, which needs seven times as long for a report of some
    thousand small items; it is for data sets that :func:`put` made, whose elements need no correction.

    Raises
    ------
    EncodingFailed
        When a value does not fit its element or the character set.
    """
    stream = DicomBytesIO()
    stream.write(bytes(128) + b"DICM")
    with _failing_as_ours(), attributes.tolerance():
        write_file_meta_info(stream, ds.file_meta)
        terms = ds.get("SpecificCharacterSet") or "ISO_IR 6"
        stream.write(_Encoder(terms).elements(ds))
    return stream.getvalue()


@contextmanager
def _failing_as_ours() -> Iterator[None]:
    """Errors of values that cannot be encoded become `EncodingFailed`."""
    try:
        yield
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
        struct.error,
    ) as error:
        raise EncodingFailed(f"a result cannot be written as DICOM: {error}") from error


class _Encoder:
    """Encoder of data sets in one character set.

    Parameters
    ----------
    terms
        Specific Character Set.
    """

    def __init__(self, terms: Any) -> None:
        self._encodings = convert_encodings(terms)
        # How many texts were met whose bytes depend on the character set, and data sets that may change: an
        # item's bytes are kept where there was none.
        self._passing = 0

    def elements(self, ds: Dataset) -> bytes:
        """Encode the elements of a data set."""
        parts: list[bytes] = []
        # By plain numbers: to compare two tags takes pydicom longer than to write a code.
        for tag, entry in sorted(ds.items(), key=_number_of):
            element = entry if isinstance(entry, DataElement) else ds[tag]  # as it was read
            vr = element.VR
            if vr == "SQ":
                content = b"".join([self._item(child) for child in element.value])
            else:
                content = self._value(vr, element.value)
            begin, length = _begin(int(tag), vr)
            if element.is_undefined_length:  # encapsulated frames, up to a delimiter (PS3.5 A.4)
                parts += begin, length.pack(_UNDEFINED), content, _ITEM.pack(0xFFFE, 0xE0DD, 0)
            else:
                parts += begin, length.pack(len(content)), content
        return b"".join(parts)

    def _item(self, ds: Dataset) -> bytes:
        own = ds if isinstance(ds, Item) else None
        if own is not None and own.kept is not None:
            return own.kept
        passing = self._passing
        elements = self.elements(ds)
        content = _ITEM.pack(0xFFFE, 0xE000, len(elements)) + elements
        if own is None:
            self._passing += 1
        elif self._passing == passing:
            own.kept = content
        return content

    def _value(self, vr: str, value: Any) -> bytes:
        if vr == "AT":
            return struct.pack("<HH", value >> 16, value & 0xFFFF)
        if vr in _NUMBERS:
            many = _values(value)
            return struct.pack(f"<{len(many)}{_NUMBERS[vr]}", *many)
        content: bytes = value if isinstance(value, bytes) else self._text(vr, value)
        return content if len(content) % 2 == 0 else content + (b"\0" if vr in _ZERO_PADDED_VRS else b" ")

    def _text(self, vr: str, value: Any) -> bytes:
        many = (
            [value]
            if isinstance(value, str)
            else ["" if each is None else str(each) for each in _values(value)]
        )
        text = "\\".join(many)
        if text.isascii():
            if "\x1b" in text:  # it may be a part of another character set
                self._passing += 1
            return text.encode("ascii")
        self._passing += 1
        if vr == "PN":
            return b"\\".join(_encoded_name(name, self._encodings) for name in many)
        if vr not in _CHARACTER_SET_VRS:
            raise ValueError(f"{vr} {text!r} is not ASCII")
        return written(text, self._encodings)


@functools.cache
def _begin(tag: int, vr: str) -> tuple[bytes, struct.Struct]:
    """Begin of an element up to its length, and how the length is written (PS3.5 7.1.2)."""
    begin = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr.encode())
    return (begin + bytes(2), _LONG) if vr in _LONG_VRS else (begin, _SHORT)


def _number_of(entry: tuple[BaseTag, object]) -> int:
    return int(entry[0])


def _values(value: Any) -> Any:
    return value if isinstance(value, MultiValue | list | tuple) else [value]


def _encoded_name(name: str, encodings: list[str]) -> bytes:
    written(name, encodings)
    content: bytes = PersonName(name).encode(encodings)
    return content


def written(text: str, encodings: list[str]) -> bytes:
    """Bytes of a text in a character set.

    Parameters
    ----------
    encodings
        Names of Python codecs, from :func:`pydicom.charset.convert_encodings`.

    Raises
    ------
    ValueError
        When the set does not hold every character: pydicom would put a question mark.
    """
    with attributes.tolerance():
        content = encode_string(text, encodings)
        if decode_bytes(content, encodings, set()) != text:
            raise ValueError("a text holds a character that its character set does not")
    return content


def with_file_meta(ds: Dataset, transfer_syntax_uid: UID = ExplicitVRLittleEndian) -> Dataset:
    """Give a data set the file meta information that it is written with (PS3.10 7.1)."""
    ds.file_meta = FileMetaDataset()
    put(
        ds.file_meta,
        FileMetaInformationVersion=b"\0\1",
        MediaStorageSOPClassUID=ds.SOPClassUID,
        MediaStorageSOPInstanceUID=ds.SOPInstanceUID,
        TransferSyntaxUID=transfer_syntax_uid,
        ImplementationClassUID=uids.IMPLEMENTATION_CLASS_UID,
    )
    return ds
