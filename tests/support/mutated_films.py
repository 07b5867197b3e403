"""Films whose encoded data sets are damaged at random: bits, lengths, VRs, items, fragments, JPEG streams.

The same seed gives the same films. The damage is done to bytes, so that it reaches what no encoder writes.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import random
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from dicom_node.imaging.transfer_syntaxes import ENCAPSULATED, TRANSFER_SYNTAXES
from dicom_node.store.files import data_set_offset
from tests.support.factories import chest, encoded, film, put, with_overlay
from tests.support.source_headers import SOURCES

_SIZE = {"rows": 96, "columns": 80}
_LONG_VRS = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"})
_VRS = ("AE", "AT", "CS", "DS", "FD", "IS", "LO", "OB", "OW", "PN", "SQ", "UI", "UL", "UN", "US", "UT")
_ODD_VRS = (b"\0\0", b"ZZ", b"\xff\xff", b"--")
_UNDEFINED = 0xFFFFFFFF
_PIXEL_DATA, _IDENTIFIERS = 0x7FE00010, frozenset({0x00080016, 0x00080018, 0x0020000D, 0x0020000E})
_NUMBERS = (b"0", b"-1", b"1e308", b"nan", b"99999999999999999999", b"1,5", b"\\\\\\\\", b"0x10", b" ")
_JPEG_START = b"\xff\xd8"


@dataclass(frozen=True, slots=True)
class EncodedFilm:
    """Film as its bytes, whole or damaged.

    Attributes
    ----------
    name
        What it is, and what was done to it.
    head
        Preamble and file meta information of the whole film.
    data_set
        Encoded data set, which follows them.
    transfer_syntax
        Transfer Syntax UID that it is sent under.
    sop_class
        SOP Class UID that its C-STORE request names.
    uids
        SOP Instance UID, which the request names, Series and Study Instance UID of the whole film.
    """

    name: str
    head: bytes
    data_set: bytes
    transfer_syntax: str
    sop_class: str
    uids: tuple[str, ...]

    @classmethod
    def of(cls, name: str, ds: Dataset, content: bytes | None = None) -> EncodedFilm:
        """Return a film, encoded if its bytes are not given."""
        content = encoded(ds) if content is None else content
        uids = (str(ds.SOPInstanceUID), str(ds.SeriesInstanceUID), str(ds.StudyInstanceUID))
        syntax, begin = str(ds.file_meta.TransferSyntaxUID), data_set_offset(content)
        return cls(name, content[:begin], content[begin:], syntax, str(ds.SOPClassUID), uids)

    @property
    def sop_instance(self) -> str:
        """SOP Instance UID of the whole film."""
        return self.uids[0]


@dataclass(frozen=True, slots=True)
class _Element:
    """Place of an element at the top of a data set: its tag, VR, header and value."""

    tag: int
    vr: str
    begin: int
    value: int
    end: int

    @property
    def length_at(self) -> tuple[int, str]:
        """Offset of its length, and the struct format without byte order."""
        return (self.value - 4, "L") if self.value - self.begin != 8 or not self.vr else (self.value - 2, "H")


def whole_films(folder: Path | None = None) -> list[EncodedFilm]:
    """Return the films that are damaged: drawn ones of each kind, and those of a folder, if there is one.

    Parameters
    ----------
    folder
        Folder of DICOM files; those above 1 MiB, or in a transfer syntax that is not accepted, are left out.
    """
    films = list(_drawn())
    if folder is None or not folder.is_dir():
        return films
    for path in sorted(folder.glob("*.dcm")):
        content = path.read_bytes()
        ds = dcmread(io.BytesIO(content), stop_before_pixels=True, force=True)
        syntax = str(getattr(ds, "file_meta", {}).get("TransferSyntaxUID", ""))
        if len(content) <= 1 << 20 and syntax in TRANSFER_SYNTAXES:
            films.append(EncodedFilm.of(path.name, ds, content))
    return films


@functools.cache
def _drawn() -> tuple[EncodedFilm, ...]:
    table = Dataset()
    table["LUTDescriptor"] = DataElement("LUTDescriptor", "US", [256, 0, 12])
    table["LUTData"] = DataElement("LUTData", "US", list(range(0, 4096, 16)))
    drawn = chest(96, 80) > 0.5
    deep = {"sop_class": DigitalXRayImageStorageForPresentation, "modality": "DX", "bits": 14}
    films: dict[str, Dataset] = {
        "CR": film(**_SIZE, window=(2048, 4096)),
        "CR, implicit VR": film(**_SIZE, bits=16, signed=True, transfer_syntax=ImplicitVRLittleEndian),
        "CR, big endian": film(
            **_SIZE, photometric="MONOCHROME1", bits=10, transfer_syntax=ExplicitVRBigEndian
        ),
        "DX, RLE": film(**_SIZE, **deep, transfer_syntax=RLELossless),
        "DX, JPEG-LS": film(**_SIZE, **deep, transfer_syntax=JPEGLSLossless),
        "CR, JPEG 2000": film(**_SIZE, transfer_syntax=JPEG2000Lossless),
        "CR, JPEG": film(**_SIZE, bits=8, transfer_syntax=JPEGBaseline8Bit),
        "CR, lossless JPEG": film(**_SIZE, transfer_syntax=JPEGLosslessSV1),
        "CR, overlay": with_overlay(film(**_SIZE), drawn),
        "CR, table and shutter": put(
            film(**_SIZE),
            {
                "VOILUTSequence": [table],
                "ShutterShape": "RECTANGULAR",
                "ShutterLeftVerticalEdge": "4",
                "ShutterRightVerticalEdge": "70",
                "ShutterUpperHorizontalEdge": "4",
                "ShutterLowerHorizontalEdge": "90",
            },
        ),
    }
    films |= {name: make() for name, make in list(SOURCES.items())[::6]}
    return tuple(EncodedFilm.of(name, ds) for name, ds in films.items())


def numbered(whole: EncodedFilm, number: int) -> EncodedFilm:
    """Return a film as an instance, a series and a study of its own, every length as it was."""
    uids = tuple(f"2.25.{kind}{number:0{len(old) - 6}}" for kind, old in enumerate(whole.uids, 1))
    head, data_set = whole.head, whole.data_set
    # The longest first: one may be the beginning of another.
    for old, new in sorted(zip(whole.uids, uids, strict=True), key=lambda pair: -len(pair[0])):
        head = head.replace(old.encode(), new.encode())
        data_set = data_set.replace(old.encode(), new.encode())
    return dataclasses.replace(whole, head=head, data_set=data_set, uids=uids)


def mutated_file(mutated: EncodedFilm, chosen: random.Random) -> bytes:
    """Return a damaged film as a Part 10 file, whose file meta information is damaged half of the time."""
    head = mutated.head
    if chosen.random() < 0.5:
        head = _bits(head, "", chosen)
    return head + mutated.data_set


def mutated_films(
    sources: Sequence[EncodedFilm], seed: int, count: int, first: int = 1
) -> Iterator[EncodedFilm]:
    """Yield damaged films, each an instance and a study of its own, unless the damage has changed its UIDs.

    Parameters
    ----------
    first
        Number of the first film, from which its UIDs are made.
    """
    for number in range(first, first + count):
        chosen = random.Random(f"{seed}-{number}")
        whole = numbered(chosen.choice(sources), number)
        yield _mutated(whole, chosen)


def _mutated(whole: EncodedFilm, chosen: random.Random) -> EncodedFilm:
    data, syntax, done = whole.data_set, whole.transfer_syntax, list[str]()
    for _ in range(chosen.choice((1, 1, 1, 2, 3))):
        if chosen.random() < 0.06:
            syntax = str(chosen.choice(TRANSFER_SYNTAXES))
            done.append(f"as {UID(syntax).name}")
            continue
        mutate = chosen.choice((*_MUTATIONS, *(_FRAGMENT_MUTATIONS if syntax in ENCAPSULATED else ())))
        done.append(mutate.__name__.strip("_"))
        data = mutate(data, syntax, chosen)
    name = f"{whole.name}: {', '.join(done)}"
    return dataclasses.replace(whole, name=name, data_set=data, transfer_syntax=syntax)


# -- elements


def _order(syntax: str) -> str:
    return ">" if syntax == ExplicitVRBigEndian else "<"


def _elements(data: bytes, syntax: str) -> list[_Element]:
    """Return the elements at the top of a data set, as far as it can be walked."""
    found, position, order = [], 0, _order(syntax)
    while position + 8 <= len(data):
        group, element = struct.unpack_from(f"{order}HH", data, position)
        vr = "" if syntax == ImplicitVRLittleEndian else data[position + 4 : position + 6].decode("latin-1")
        value = position + (12 if vr in _LONG_VRS else 8)
        if value > len(data):
            break
        if vr and vr not in _LONG_VRS:
            (length,) = struct.unpack_from(f"{order}H", data, value - 2)
        else:
            (length,) = struct.unpack_from(f"{order}L", data, value - 4)
        end = value + length
        if length == _UNDEFINED or end > len(data):
            end = len(data)
        found.append(_Element(group << 16 | element, vr, position, value, end))
        position = end
    return found


def _an_element(data: bytes, syntax: str, chosen: random.Random) -> _Element | None:
    """Return one element, seldom an identifier: without these a film is refused at once."""
    elements = _elements(data, syntax)
    if chosen.random() < 0.9:
        elements = [each for each in elements if each.tag not in _IDENTIFIERS]
    described = [each for each in elements if each.tag >> 16 in (0x0028, 0x6000, 0x7FE0)]
    elements = described if described and chosen.random() < 0.4 else elements
    return chosen.choice(elements) if elements else None


def _bits(data: bytes, syntax: str, chosen: random.Random) -> bytes:
    content = bytearray(data)
    for _ in range(chosen.choice((1, 2, 8, 30)) if content else 0):
        content[chosen.randrange(len(content))] ^= 1 << chosen.randrange(8)
    return bytes(content)


def _header_bits(data: bytes, syntax: str, chosen: random.Random) -> bytes:
    element = _an_element(data, syntax, chosen)
    if element is None:
        return _bits(data, syntax, chosen)
    content = bytearray(data)
    for _ in range(chosen.choice((1, 2, 4))):
        content[
            chosen.randrange(element.begin, max(min(element.value + 16, element.end), element.begin + 4))
        ] ^= 1 << chosen.randrange(8)
    return bytes(content)


def _truncated(data: bytes, syntax: str, chosen: random.Random) -> bytes:
    element = _an_element(data, syntax, chosen)
    if element is None or chosen.random() < 0.5:
        return data[: chosen.randrange(len(data) + 1)]
    return data[: chosen.choice((element.begin, element.value, element.end, element.value - 2))]


def _length(data: bytes, syntax: str, chosen: random.Random) -> bytes:
    element = _an_element(data, syntax, chosen)
    if element is None:
        return data
    at, kind = element.length_at
    most = 0xFFFF if kind == "H" else _UNDEFINED
    old = element.end - element.value
    new = chosen.choice(
        (0, 1, 2, 3, old - 1, old + 1, old - 2, old + 2, old * 2, most, most - 1, most // 2, most // 2 + 1)
    )
    return data[:at] + struct.pack(_order(syntax) + kind, new & most) + data[at + struct.calcsize(kind) :]


def _vr(data: bytes, syntax: str, chosen: random.Random) -> bytes:
    element = _an_element(data, syntax, chosen)
    if element is None or not element.vr:
        return data
    vr = chosen.choice(_ODD_VRS) if chosen.random() < 0.3 else chosen.choice(_VRS).encode()
    return data[: element.begin + 4] + vr + data[element.begin + 6 :]


def _value(data: bytes, syntax: str, chosen: random.Random) -> bytes:
    element = _an_element(data, syntax, chosen)
    if element is None:
        return data
    size = element.end - element.value
    values = (
        bytes(size),
        b"\xff" * size,
        chosen.randbytes(min(size, 1 << 16)).ljust(size, b"\0"),
        chosen.choice(_NUMBERS).ljust(size)[:size],
        (b"\x1b$)C\\\r\n\0" * size)[:size],
    )
    return data[: element.value] + chosen.choice(values) + data[element.end :]


def _order_of_elements(data: bytes, syntax: str, chosen: random.Random) -> bytes:
    element, other = _an_element(data, syntax, chosen), _an_element(data, syntax, chosen)
    if element is None or other is None:
        return data
    piece = data[element.begin : element.end]
    if chosen.random() < 0.3:  # left out
        return data[: element.begin] + data[element.end :]
    return data[: other.begin] + piece + data[other.begin :]  # twice, and out of order


def _sequence(data: bytes, syntax: str, chosen: random.Random) -> bytes:
    """Insert a sequence: nested, of undefined length, without its end, or with items that lie."""
    element = _an_element(data, syntax, chosen)
    if element is None:
        return data
    order = _order(syntax)
    depth = chosen.choice((1, 1, 2, 30, 300))
    tag = chosen.choice(
        ((0x0008, 0x1140), (0x0028, 0x3010), (0x0028, 0x3000), (0x0040, 0x0275), (0x5400, 0x0100))
    )
    vr = b"" if syntax == ImplicitVRLittleEndian else b"SQ\0\0"
    head = struct.pack(f"{order}HH", *tag) + vr + struct.pack(f"{order}L", _UNDEFINED)
    item = struct.pack(f"{order}HHL", 0xFFFE, 0xE000, _UNDEFINED)
    item_end = struct.pack(f"{order}HHL", 0xFFFE, 0xE00D, 0)
    end = struct.pack(f"{order}HHL", 0xFFFE, 0xE0DD, 0)
    lying = struct.pack(f"{order}HHL", 0xFFFE, 0xE000, chosen.choice((0, 1, 7, 1 << 31, _UNDEFINED - 1)))
    closing = (item_end + end) * depth
    sequence = chosen.choice(
        (
            (head + item) * depth + closing,
            (head + item) * depth + closing[: chosen.randrange(len(closing))],
            head + lying + end,
            head + item * depth + end,
            end * depth,
            item_end + head,
            head[:-4] + struct.pack(f"{order}L", chosen.choice((8, 9, 1 << 20))) + lying,
        )
    )
    return data[: element.begin] + sequence + data[element.begin :]


def _bytes_more_or_less(data: bytes, syntax: str, chosen: random.Random) -> bytes:
    at, count = chosen.randrange(len(data) + 1), chosen.choice((1, 2, 3, 100, 5000))
    kind = chosen.randrange(3)
    if kind == 0:
        return data[:at] + data[at + count :]
    if kind == 1:
        return data[:at] + chosen.randbytes(count) + data[at:]
    return data + chosen.randbytes(count)


# -- encapsulated pixel data (PS3.5 A.4)


def _pixels_of(data: bytes, syntax: str) -> int | None:
    """Offset of the first item of encapsulated pixel data."""
    return next(
        (
            each.value
            for each in _elements(data, syntax)
            if each.tag == _PIXEL_DATA and each.end > each.value + 8
        ),
        None,
    )


def _offset_table(data: bytes, syntax: str, chosen: random.Random) -> bytes:
    if (begin := _pixels_of(data, syntax)) is None:
        return data
    (length,) = struct.unpack_from("<L", data, begin + 4)
    offsets = b"".join(
        struct.pack("<L", chosen.choice((0, 1, 2, 8, 1 << 31, _UNDEFINED)))
        for _ in range(chosen.choice((0, 1, 2, 1000)))
    )
    said = chosen.choice((len(offsets), len(offsets), 3, _UNDEFINED))
    return data[: begin + 4] + struct.pack("<L", said) + offsets + data[begin + 8 + min(length, len(data)) :]


def _fragments(data: bytes, syntax: str, chosen: random.Random) -> bytes:
    if (begin := _pixels_of(data, syntax)) is None:
        return data
    body, end = data[begin:], struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    fragment = struct.pack("<HHL", 0xFFFE, 0xE000, 0)
    at = 8 + struct.unpack_from("<L", body, 4)[0]
    changed = chosen.choice(
        (
            body.removesuffix(end),
            body[:at] + fragment * chosen.choice((1, 3, 5000)) + body[at:],
            body.removesuffix(end) + body[at:],  # every fragment twice
            body[:at] + end,  # none
            body[:8],
            body[:at]
            + struct.pack("<HHL", 0xFFFE, 0xE000, chosen.choice((1, 1 << 31, _UNDEFINED)))
            + body[at + 8 :],
            body[: at + 8 + max(len(body) - at - 16, 0) // chosen.choice((2, 3, 10))] + end,
        )
    )
    return data[:begin] + changed


def _stream(data: bytes, syntax: str, chosen: random.Random) -> bytes:
    """Damage the compressed stream, most often its head, where sizes, tables and markers stand."""
    if (begin := _pixels_of(data, syntax)) is None or len(data) < begin + 40:
        return data
    content = bytearray(data)
    head = min(begin + 16 + chosen.choice((40, 200, 1 << 20)), len(data))
    for _ in range(chosen.choice((1, 2, 4, 40))):
        at = chosen.randrange(begin + 16, head)
        content[at] = chosen.choice((0, 0xFF, content[at] ^ 1 << chosen.randrange(8), chosen.randrange(256)))
    if chosen.random() < 0.2:
        at = chosen.randrange(begin + 16, head)
        content[at:at] = chosen.choice(
            (_JPEG_START, b"\xff\xc0\x00\x11\x10\xff\xff\xff\xff", b"\xff\xd9", b"\xff\xc4\x00\x02")
        )
    return bytes(content)


_MUTATIONS: tuple[Callable[[bytes, str, random.Random], bytes], ...] = (
    _bits,
    _header_bits,
    _truncated,
    _length,
    _vr,
    _value,
    _value,
    _order_of_elements,
    _sequence,
    _bytes_more_or_less,
)
_FRAGMENT_MUTATIONS: tuple[Callable[[bytes, str, random.Random], bytes], ...] = (
    _offset_table,
    _fragments,
    _stream,
    _stream,
)
