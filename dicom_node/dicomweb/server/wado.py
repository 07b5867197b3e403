"""What WADO-RS hands out (PS3.18 10.4): media types, parts, frames and bulk data of one object."""

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
from dicom_node.imaging.pixels import ENCAPSULATED

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


class NotThere(Exception):
    """An object has no such part."""


@dataclass(frozen=True, slots=True)
class Range:
    """One of the media types that a client takes.

    Attributes
    ----------
    kind
        Of one part of the answer; ``*/*`` for any.
    whole
        Whether it stands alone, without parts.
    syntax
        UID of the transfer syntax; ``*`` for any; empty when nothing was said.
    """

    kind: str
    whole: bool
    syntax: str

    def takes(self, kind: str) -> bool:
        """Whether a media type is in it."""
        return self.kind in (kind, "*/*", f"{kind.partition('/')[0]}/*")


def parse_accept(header: str) -> list[Range]:
    """Understand an Accept header; what is no media type is left out, nothing at all means any."""
    ranges = []
    for each in parse_http_list(header) or ["*/*"]:
        kind, options = parse_options_header(each)
        said = {key.decode("latin-1"): value.decode("latin-1") for key, value in options.items()}
        if said.get("q") in ("0", "0.0"):
            continue
        name = kind.decode("latin-1").casefold()
        whole = name not in (_MULTIPART, "multipart/*", "*/*")
        if not whole:
            name = said.get("type", "*/*").casefold()
        ranges.append(Range(name, whole, said.get("transfer-syntax", "")))
    return ranges


def takes_whole(accepted: Iterable[Range], *kinds: str) -> bool:
    """Whether an answer of one of these media types, without parts, is taken."""
    return any(each.takes(kind) and (each.whole or each.kind == "*/*") for each in accepted for kind in kinds)


@dataclass(frozen=True, slots=True)
class Part:
    """One part of an answer; of a file its path, else what is in it."""

    kind: str
    content: bytes | Path


def multipart(parts: Iterable[Part], kind: str) -> tuple[Iterator[bytes], str]:
    """Return a body of several parts (RFC 2387), made while it is sent, and its media type."""
    boundary = secrets.token_hex(16)

    def body() -> Iterator[bytes]:
        for part in parts:
            yield f"--{boundary}\r\nContent-Type: {part.kind}\r\n\r\n".encode()
            if isinstance(part.content, bytes):
                yield part.content
            else:
                with part.content.open("rb") as stream:
                    while chunk := stream.read(_CHUNK):
                        yield chunk
            yield b"\r\n"
        yield f"--{boundary}--\r\n".encode()

    return body(), f'{_MULTIPART}; type="{kind}"; boundary={boundary}'


def syntax_of(path: Path) -> UID:
    """Return the transfer syntax of a file; empty when it cannot be read."""
    try:
        with attributes.tolerance():
            return UID(attributes.text(read_file_meta_info(path), "TransferSyntaxUID"))
    except attributes.MALFORMED:
        return UID("")


def takes_file(accepted: Iterable[Range], syntax: str) -> bool:
    """Whether a file of a transfer syntax is taken as it is; it is when none is named."""
    return any(each.takes(DICOM) and not each.whole and each.syntax in ("", "*", syntax) for each in accepted)


def frame_kind(accepted: Sequence[Range], syntax: UID) -> str | None:
    """Return the media type in which frames of a transfer syntax are handed out; None when none is taken.

    Bytes are in Explicit VR Little Endian unless another transfer syntax is asked for (PS3.18 8.7.3.3);
    compressed frames come as they are where that is taken.
    """
    image = _FRAME_TYPES.get(syntax, BYTES)
    for each in accepted:
        if each.whole:
            continue
        if syntax in ENCAPSULATED and each.syntax in ("*", syntax) and each.takes(BYTES):
            return f"{BYTES}; transfer-syntax={syntax}"
        if each.syntax in ("", "*", syntax) and each.takes(image) and image != BYTES:
            return f"{image}; transfer-syntax={syntax}"
        if each.syntax in ("", "*", ExplicitVRLittleEndian) and each.takes(BYTES):
            return f"{BYTES}; transfer-syntax={ExplicitVRLittleEndian}"
    return None


def read_frames(path: Path, numbers: Sequence[int]) -> list[bytes]:
    """Return frames, counted from 1, little endian.

    Raises
    ------
    NotThere
        When the object has no such frame.
    """
    try:
        with attributes.tolerance():
            ds = dcmread(path)
            keyword = next((each for each in _PIXEL_KEYWORDS if each in ds), None)
            if keyword is None:
                raise NotThere
            count = int(ds.get("NumberOfFrames") or 1)
            if not all(1 <= number <= count for number in numbers):
                raise NotThere
            if ds.file_meta.TransferSyntaxUID in ENCAPSULATED:
                data = ds[keyword].value
                return [get_frame(data, number - 1, number_of_frames=count) for number in numbers]
            return [_native(ds, keyword, number - 1) for number in numbers]
    except attributes.MALFORMED:
        raise NotThere from None


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
            raise NotThere
    if ds.file_meta.TransferSyntaxUID == ExplicitVRBigEndian and allocated > 8:
        found = np.frombuffer(found, f">u{allocated // 8}").astype(f"<u{allocated // 8}").tobytes()
    return bytes(found)


def read_bulk(path: Path, tag: int) -> tuple[bytes, str]:
    """Return the value of an element of the data set, and its media type when it is a document.

    Raises
    ------
    NotThere
        When it is missing or no bytes.
    """
    try:
        with attributes.tolerance():
            ds = dcmread(path, defer_size=_CHUNK)
            value: Any = ds[tag].value if tag in ds else None
    except attributes.MALFORMED:
        raise NotThere from None
    if not isinstance(value, bytes):
        raise NotThere
    is_document = tag == 0x00420011 and attributes.text(ds, "MIMETypeOfEncapsulatedDocument") == PDF
    return value, PDF if is_document else BYTES
