"""WADO-RS responses (PS3.18 10.4): media types, multipart bodies, frames and bulk data of one object."""

from __future__ import annotations

import itertools
import math
import mmap
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final
from urllib.request import parse_http_list

import numpy as np
from pydicom import dcmread
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.filereader import read_file_meta_info
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)
from python_multipart.multipart import parse_options_header

from dicom_node.dimse.server.identifiers import RefusedInstance, elements
from dicom_node.imaging import attributes
from dicom_node.imaging.byte_order import WORD_BYTES, little_endian
from dicom_node.imaging.transfer_syntaxes import ENCAPSULATED
from dicom_node.store.files import data_set_offset

DICOM: Final = "application/dicom"
DICOM_JSON: Final = "application/dicom+json"
BYTES: Final = "application/octet-stream"
PDF: Final = "application/pdf"
_MULTIPART: Final = "multipart/related"
_CHUNK: Final = 1 << 18
_FRAME_TYPES: Final = {
    JPEGBaseline8Bit: "image/jpeg",
    JPEGExtended12Bit: "image/jpeg",
    JPEGLossless: "image/jpeg",
    JPEGLosslessSV1: "image/jpeg",
    JPEGLSLossless: "image/jls",
    JPEGLSNearLossless: "image/jls",
    JPEG2000Lossless: "image/jp2",
    JPEG2000: "image/jp2",
    HTJ2KLossless: "image/jphc",
    HTJ2KLosslessRPCL: "image/jphc",
    HTJ2K: "image/jphc",
    RLELossless: "image/dicom-rle",
}
"""Media types of compressed frames (PS3.18 table 8.7.3-5)."""
PIXEL_DATA: Final = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
"""Tags of float, double and integer pixel data."""
_BYTE: Final = 8
_BINARY: Final = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "OB or OW", "UN"})
_LARGEST_CELL: Final = 64


class PartNotFound(Exception):
    """Error of a frame or bulk data value that the object does not have."""


@dataclass(frozen=True, slots=True)
class MediaRange:
    """Media range of an Accept header (RFC 9110 12.5.1, PS3.18 8.7.5).

    Attributes
    ----------
    media_type
        Media type of one part of the response; ``*/*`` for any.
    single_part
        True when the response must not be multipart.
    transfer_syntax
        UID of the transfer syntax; ``*`` for any; empty when none was given.
    """

    media_type: str
    single_part: bool
    transfer_syntax: str

    def includes(self, media_type: str) -> bool:
        """Return True when a media type is in the range."""
        return self.media_type in (media_type, "*/*", f"{media_type.partition('/')[0]}/*")


def parse_accept(header: str) -> list[MediaRange]:
    """Parse an Accept header, the most wanted first; an empty one means any, quality 0 excludes a type."""
    ranges: list[tuple[float, MediaRange]] = []
    for each in parse_http_list(header) or ["*/*"]:
        media_type, options = parse_options_header(each)
        parameters = {key.decode("latin-1"): value.decode("latin-1") for key, value in options.items()}
        if not (quality := _quality(parameters.get("q", "1"))):
            continue
        name = media_type.decode("latin-1").casefold()
        whole = name not in (_MULTIPART, "multipart/*", "*/*")
        if not whole:
            name = parameters.get("type", "*/*").casefold()
        found = MediaRange(name, whole, parameters.get("transfer-syntax", ""))
        ranges.append((quality, found))
    return [found for _, found in sorted(ranges, key=lambda each: -each[0])]


def _quality(text: str) -> float:
    """Return a quality value (RFC 9110 12.4.2); 1 for what is none."""
    return float(text) if re.fullmatch(r"0(\.\d{0,3})?|1(\.0{0,3})?", text) else 1.0


def accepts_single_part(accepted: Iterable[MediaRange], *media_types: str) -> bool:
    """Return True when a client accepts one of these media types as a single part."""
    return any(
        each.includes(media_type) and (each.single_part or each.media_type == "*/*")
        for each in accepted
        for media_type in media_types
    )


@dataclass(frozen=True, slots=True)
class FileRange:
    """Bytes of a file, which are read while they are sent; `length` None: up to its end.

    Words of `word_bytes` bytes are turned from big into little endian.
    """

    path: Path
    begin: int = 0
    length: int | None = None
    word_bytes: int = 1

    def pieces(self) -> Iterator[bytes]:
        """Yield the bytes."""
        left = math.inf if self.length is None else self.length
        with self.path.open("rb") as stream:
            stream.seek(self.begin)
            while piece := stream.read(int(min(_CHUNK, left))):
                left -= len(piece)
                yield little_endian(piece, self.word_bytes)  # a chunk is a multiple of each word


@dataclass(frozen=True, slots=True)
class Part:
    """Part of a multipart response."""

    media_type: str
    content: bytes | FileRange


def multipart(parts: Iterable[Part], media_type: str) -> tuple[Iterator[bytes], str]:
    """Return a multipart/related body (RFC 2387), generated while it is sent, and its Content-Type."""
    boundary = secrets.token_hex(16)

    def body() -> Iterator[bytes]:
        for part in parts:
            yield f"--{boundary}\r\nContent-Type: {part.media_type}\r\n\r\n".encode()
            if isinstance(part.content, bytes):
                yield part.content
            else:
                yield from part.content.pieces()
            yield b"\r\n"
        yield f"--{boundary}--\r\n".encode()

    return body(), f'{_MULTIPART}; type="{media_type}"; boundary={boundary}'


def transfer_syntax_of(path: Path) -> UID:
    """Return the transfer syntax of a file; empty when the file cannot be read."""
    try:
        with attributes.tolerance():
            return UID(attributes.text(read_file_meta_info(path), "TransferSyntaxUID"))
    except attributes.MALFORMED:
        return UID("")


def accepts_file(accepted: Iterable[MediaRange], syntax: str) -> bool:
    """Return True when a client accepts a file in this transfer syntax; every client does that names none."""
    return any(
        each.includes(DICOM) and not each.single_part and each.transfer_syntax in ("", "*", syntax)
        for each in accepted
    )


def frame_media_type(accepted: Sequence[MediaRange], syntax: UID) -> str | None:
    """Return the media type for frames of a transfer syntax; None when the client accepts none.

    Uncompressed frames are in Explicit VR Little Endian unless another transfer syntax is asked for
    (PS3.18 8.7.3.3); compressed frames are sent unchanged to a client that accepts them.
    """
    image = _FRAME_TYPES.get(syntax, BYTES)
    for each in accepted:
        if each.single_part:
            continue
        if syntax in ENCAPSULATED and each.transfer_syntax in ("*", syntax) and each.includes(BYTES):
            return f"{BYTES}; transfer-syntax={syntax}"
        if each.transfer_syntax in ("", "*", syntax) and each.includes(image) and image != BYTES:
            return f"{image}; transfer-syntax={syntax}"
        if each.transfer_syntax in ("", "*", ExplicitVRLittleEndian) and each.includes(BYTES):
            return f"{BYTES}; transfer-syntax={ExplicitVRLittleEndian}"
    return None


def read_frames(path: Path, numbers: Sequence[int]) -> Iterator[bytes]:
    """Return frames by number, from 1, in little endian or compressed as stored.

    Each is read when it is taken, so that no answer is in memory as a whole.

    Raises
    ------
    PartNotFound
        When the object has no such frame.
    """
    try:
        with attributes.tolerance(), path.open("rb") as stream:
            ds = dcmread(stream, stop_before_pixels=True, defer_size=_CHUNK)
            syntax = ds.file_meta.TransferSyntaxUID
            count = int(ds.get("NumberOfFrames") or 1)
            begin, end = _pixel_data(stream, syntax)
            frame = None if syntax in ENCAPSULATED else _NativeFrame.of(ds)
    except (RefusedInstance, *attributes.MALFORMED):
        raise PartNotFound from None
    if not all(1 <= number <= count for number in numbers):
        raise PartNotFound
    if frame is not None and any(frame.place(number)[1] > end - begin for number in numbers):
        raise PartNotFound

    def frames() -> Iterator[bytes]:
        with path.open("rb") as stream:
            for number in numbers:
                stream.seek(begin)
                try:
                    content = (
                        get_frame(stream, number - 1, number_of_frames=count)
                        if frame is None
                        else frame.read(stream, number)
                    )
                except attributes.MALFORMED:
                    raise PartNotFound from None
                yield content

    # The first one says whether there are any.
    found = frames()
    return itertools.chain([next(found)], found)


def _pixel_data(stream: BinaryIO, syntax: UID) -> tuple[int, int]:
    """Return where the value of the pixel data begins and ends in a file."""
    stream.seek(0)
    start = data_set_offset(stream.read(144))
    with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for tag, begin, end in elements(data, start, syntax):
            if tag in PIXEL_DATA:
                return begin, end
    raise PartNotFound


@dataclass(frozen=True, slots=True)
class _NativeFrame:
    """Size of each frame of native pixel data, in bits, and how its cells are stored."""

    bits: int
    allocated: int
    big_endian: bool

    @classmethod
    def of(cls, ds: Dataset) -> _NativeFrame:
        cells = int(ds.Rows) * int(ds.Columns) * int(ds.get("SamplesPerPixel") or 1)
        syntax, allocated = ds.file_meta.TransferSyntaxUID, int(ds.BitsAllocated)
        if cells < 1 or not 1 <= allocated <= _LARGEST_CELL:
            raise PartNotFound
        return cls(cells * allocated, allocated, syntax == ExplicitVRBigEndian and allocated > _BYTE)

    def place(self, number: int) -> tuple[int, int]:
        """Return the first byte of a frame and the one after its last, from the begin of the pixel data."""
        return (number - 1) * self.bits // _BYTE, -(-number * self.bits // _BYTE)

    def read(self, stream: BinaryIO, number: int) -> bytes:
        first, last = self.place(number)
        stream.seek(first, os.SEEK_CUR)
        found = stream.read(last - first)
        if self.allocated == 1:  # frames follow each other without padding (PS3.5 8.1.1)
            skipped = (number - 1) * self.bits % _BYTE
            bits = np.unpackbits(np.frombuffer(found, np.uint8), bitorder="little")
            return np.packbits(bits[skipped : skipped + self.bits], bitorder="little").tobytes()
        return little_endian(found, self.allocated // _BYTE) if self.big_endian else found


def is_compressed_pixel_data(tag: int, syntax: UID) -> bool:
    """Return whether a value is frames in fragments, which are sent frame by frame (PS3.18 8.7.3.3.2)."""
    return tag in PIXEL_DATA and syntax in ENCAPSULATED


def read_bulk(path: Path, tag: int) -> tuple[bytes | FileRange, str]:
    """Return the binary value of an element in little endian, and its media type: a document's, else bytes.

    Raises
    ------
    PartNotFound
        When the element is missing, or its value is not binary or is frames in fragments.
    """
    try:
        with attributes.tolerance():
            ds = dcmread(path, defer_size=_CHUNK)
            syntax = ds.file_meta.TransferSyntaxUID
            raw: Any = ds.get_item(tag, keep_deferred=True) if tag in ds else None
            if raw is None or is_compressed_pixel_data(tag, syntax):
                raise PartNotFound
            value: Any
            word_bytes = WORD_BYTES.get(_vr(raw), 1) if syntax == ExplicitVRBigEndian else 1
            if isinstance(raw, RawDataElement) and raw.value is None and _vr(raw) in _BINARY:
                value = FileRange(path, raw.value_tell, raw.length, word_bytes)
            else:
                value = ds[tag].value
                if isinstance(value, bytes):
                    value = little_endian(value, word_bytes)
    except attributes.MALFORMED:
        raise PartNotFound from None
    if not isinstance(value, bytes | FileRange):
        raise PartNotFound
    is_document = tag == 0x00420011 and attributes.text(ds, "MIMETypeOfEncapsulatedDocument") == PDF
    return value, PDF if is_document else BYTES


def _vr(element: RawDataElement | DataElement) -> str:
    """Return the VR of an element; in implicit VR that of the dictionary, UN for a private one."""
    known = dictionary_VR(element.tag) if dictionary_has_tag(element.tag) else "UN"
    return str(element.VR or known)
