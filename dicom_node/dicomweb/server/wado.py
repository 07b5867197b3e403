"""WADO-RS responses (PS3.18 10.4): media types, multipart bodies, frames and bulk data of one object."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.request import parse_http_list

import numpy as np
from pydicom import dcmread
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

from dicom_node.imaging import attributes
from dicom_node.imaging.transfer_syntaxes import ENCAPSULATED

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
_PIXEL_KEYWORDS: Final = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")


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
    """Parse an Accept header; an empty one means any media type, and quality 0 excludes a type."""
    ranges = []
    for each in parse_http_list(header) or ["*/*"]:
        media_type, options = parse_options_header(each)
        parameters = {key.decode("latin-1"): value.decode("latin-1") for key, value in options.items()}
        if parameters.get("q") in ("0", "0.0"):
            continue
        name = media_type.decode("latin-1").casefold()
        whole = name not in (_MULTIPART, "multipart/*", "*/*")
        if not whole:
            name = parameters.get("type", "*/*").casefold()
        ranges.append(MediaRange(name, whole, parameters.get("transfer-syntax", "")))
    return ranges


def accepts_single_part(accepted: Iterable[MediaRange], *media_types: str) -> bool:
    """Return True when a client accepts one of these media types as a single part."""
    return any(
        each.includes(media_type) and (each.single_part or each.media_type == "*/*")
        for each in accepted
        for media_type in media_types
    )


@dataclass(frozen=True, slots=True)
class Part:
    """Part of a multipart response; `content` is a path when the part is a file."""

    media_type: str
    content: bytes | Path


def multipart(parts: Iterable[Part], media_type: str) -> tuple[Iterator[bytes], str]:
    """Return a multipart/related body (RFC 2387), generated while it is sent, and its Content-Type."""
    boundary = secrets.token_hex(16)

    def body() -> Iterator[bytes]:
        for part in parts:
            yield f"--{boundary}\r\nContent-Type: {part.media_type}\r\n\r\n".encode()
            if isinstance(part.content, bytes):
                yield part.content
            else:
                with part.content.open("rb") as stream:
                    while chunk := stream.read(_CHUNK):
                        yield chunk
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


def read_frames(path: Path, numbers: Sequence[int]) -> list[bytes]:
    """Return frames by number, from 1, in little endian or compressed as stored.

    Raises
    ------
    PartNotFound
        When the object has no such frame.
    """
    try:
        with attributes.tolerance():
            ds = dcmread(path)
            keyword = next((each for each in _PIXEL_KEYWORDS if each in ds), None)
            if keyword is None:
                raise PartNotFound
            count = int(ds.get("NumberOfFrames") or 1)
            if not all(1 <= number <= count for number in numbers):
                raise PartNotFound
            if ds.file_meta.TransferSyntaxUID in ENCAPSULATED:
                data = ds[keyword].value
                return [get_frame(data, number - 1, number_of_frames=count) for number in numbers]
            return [_native(ds, keyword, number - 1) for number in numbers]
    except attributes.MALFORMED:
        raise PartNotFound from None


def _native(ds: Dataset, keyword: str, index: int) -> bytes:
    data, allocated = ds[keyword].value, int(ds.BitsAllocated)
    cells = int(ds.Rows) * int(ds.Columns) * int(ds.get("SamplesPerPixel") or 1)
    if allocated == 1:  # frames follow each other without padding (PS3.5 8.1.1)
        bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
        found = np.packbits(bits[index * cells : (index + 1) * cells], bitorder="little").tobytes()
    else:
        length = cells * allocated // 8
        found = data[index * length : (index + 1) * length]
        if len(found) != length:
            raise PartNotFound
    if ds.file_meta.TransferSyntaxUID == ExplicitVRBigEndian and allocated > 8:
        found = np.frombuffer(found, f">u{allocated // 8}").astype(f"<u{allocated // 8}").tobytes()
    return bytes(found)


def read_bulk(path: Path, tag: int) -> tuple[bytes, str]:
    """Return the binary value of an element, and its media type: that of a document, else bytes.

    Raises
    ------
    PartNotFound
        When the element is missing or its value is not binary.
    """
    try:
        with attributes.tolerance():
            ds = dcmread(path, defer_size=_CHUNK)
            value: Any = ds[tag].value if tag in ds else None
    except attributes.MALFORMED:
        raise PartNotFound from None
    if not isinstance(value, bytes):
        raise PartNotFound
    is_document = tag == 0x00420011 and attributes.text(ds, "MIMETypeOfEncapsulatedDocument") == PDF
    return value, PDF if is_document else BYTES
