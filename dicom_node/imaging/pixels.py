"""Films read from DICOM instances: float32 in [0, 1], lungs dark (PS3.3 C.7.6.3).

The header is checked before anything is decoded; :mod:`dicom_node.imaging.grayscale` turns stored values into
greys. Decoders of compressed pixels are C code that reads untrusted bytes: call :func:`read_film` through
:class:`dicom_node.imaging.decoder.Decoder`, whose process can be killed.
"""

from __future__ import annotations

import errno
import itertools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.filereader import read_dataset, read_preamble
from pydicom.pixels.decoders.base import get_decoder
from pydicom.tag import BaseTag
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicom_node.errors import NotAnalysable, StorageFailed
from dicom_node.imaging import attributes
from dicom_node.imaging.character_sets import correct_text
from dicom_node.imaging.grayscale import DisplayWindow, GreyTransform, full_range_table, grey_transform
from dicom_node.imaging.shutter import visible
from dicom_node.imaging.stored_values import PixelCell, stored_values
from dicom_node.imaging.transfer_syntaxes import DEFLATED, NATIVE, SEQUENTIAL_DCT, TRANSFER_SYNTAXES
from dicom_node.runtime.printable import printable

FloatArray: TypeAlias = NDArray[np.float32]

GRAYSCALE = frozenset({"MONOCHROME1", "MONOCHROME2"})
"""Photometric Interpretation values of a grayscale image."""
BITS_STORED = range(8, 17)
"""Bits Stored values of a film."""
BITS_ALLOCATED = frozenset({8, 16})
"""Bits Allocated values of a film."""
MIN_SIDE = 64
"""Shortest side of a film, in pixels; a smaller picture is an icon."""

_PHOTOMETRIC = GRAYSCALE | {
    *("PALETTE COLOR", "RGB", "HSV", "ARGB", "CMYK", "XYB"),
    *("YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_422", "YBR_PARTIAL_420", "YBR_ICT", "YBR_RCT"),
}  # PS3.3 C.7.6.3.1.2
_QUOTED = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|<[^<>]*>""")

_JPEG_START = b"\xff\xd8"
_JPEG_MARKER, _JPEG_SCAN, _JPEG_LAST_COEFFICIENT = 0xFF, 0xDA, 63

_META_GROUP, _OVERLAY_GROUP, _PIXEL_GROUP = 0x0002, 0x6000, 0x7FE0
_LARGE_BYTES = 1 << 20
"""Size above which an element of a header is not read."""


@dataclass(frozen=True, slots=True, eq=False)
class Film:
    """Film: the pixels of one radiograph, and the header of its instance.

    Attributes
    ----------
    pixels
        Shape (Rows, Columns), float32 in [0, 1], in the MONOCHROME2 sense: lungs dark.
    header
        Data set without its pixel data.
    window
        Window to show first, when `pixels` keep the full range of values; None when the window is already
        applied.
    grey
        Transform that was applied; None when `pixels` keep the full range of values.
    """

    pixels: FloatArray
    header: Dataset
    window: DisplayWindow | None = None
    grey: GreyTransform | None = None

    def __post_init__(self) -> None:
        if self.pixels.ndim != 2 or self.pixels.dtype != np.float32:
            shape = self.pixels.shape
            raise ValueError(f"a film is float32 (rows, columns), not {self.pixels.dtype} {shape}")


@dataclass(frozen=True, slots=True)
class _Frame:
    """Checked description of the one grayscale frame, from the Image Pixel module (PS3.3 C.7.6.3)."""

    rows: int
    columns: int
    allocated: int
    cell: PixelCell
    inverted: bool


def read_header(path: Path) -> Dataset:
    """Read a file's data set without its pixel data.

    A missing preamble, missing file meta information and malformed values are tolerated. Elements larger
    than 1 MiB are left out.

    Raises
    ------
    NotAnalysable
        ``undecodable`` when the file is no DICOM data set, ``transfer_syntax`` when it is deflated.
    StorageFailed
        When the file cannot be opened.
    """
    with errors_as_not_analysable(f"the file {path.name}"):
        return without_pixels(read_instance(path, pixels=False))


def read_film(
    source: Path | Dataset, *, max_pixels: int, full_range: bool = False, opposite: bool = False
) -> Film:
    """Read one instance as a film.

    Parameters
    ----------
    source
        Path of a file, or a data set as it was read from one.
    max_pixels
        Most pixels (Rows x Columns x frames) that are decoded.
    full_range
        True keeps all values of the film apart, for a person who moves the window. False applies the
        window, for a model.
    opposite
        True for the grey scale that is the opposite of what the header says.

    Returns
    -------
    Film

    Raises
    ------
    NotAnalysable
        With the key of a reason: ``undecodable``, ``transfer_syntax``, ``no_pixels``, ``bad_header``,
        ``not_grayscale``, ``multi_frame``, ``too_large``, ``too_small`` or ``blank``.
    StorageFailed
        When the file cannot be opened.
    """
    with errors_as_not_analysable(
        "the instance" if isinstance(source, Dataset) else f"the file {source.name}"
    ):
        ds = source if isinstance(source, Dataset) else read_instance(source, pixels=True)
        frame = _frame(ds, max_pixels=max_pixels)
        cells = _decode(ds, frame)
        window, transform, seen = None, None, visible(ds, frame.rows, frame.columns)
        inverted = frame.inverted is not opposite
        if full_range:
            table, window = full_range_table(ds, frame.cell, cells, inverted=inverted, visible=seen)
        else:
            transform = grey_transform(ds, frame.cell, cells, inverted=inverted, visible=seen)
            table = transform.grey(ds, stored_values(frame.cell, cells, occurring=True))
        pixels = np.empty(cells.shape, np.float32)
        # The table has an entry for each cell, so "clip" never clips; it is faster than the default mode.
        np.take(table, cells, out=pixels, mode="clip")
        if seen is not None:
            pixels[~seen] = 0
        return Film(pixels, without_pixels(ds), window, transform)


def read_cells(source: Path, *, max_pixels: int) -> NDArray[np.unsignedinteger[Any]]:
    """Read the decoded pixel cells of one instance (PS3.5 8.1.1).

    Returns
    -------
    numpy.ndarray
        Shape (Rows, Columns), unsigned integers of Bits Allocated, as they are stored: sign and unused bits
        are not interpreted.

    Raises
    ------
    NotAnalysable, StorageFailed
        As :func:`read_film`.
    """
    with errors_as_not_analysable(f"the file {source.name}"):
        ds = read_instance(source, pixels=True)
        return _decode(ds, _frame(ds, max_pixels=max_pixels))


@contextmanager
def errors_as_not_analysable(what: str) -> Iterator[None]:
    """Raise NotAnalysable for the errors of pydicom and the decoders on malformed input; silence warnings.

    Parameters
    ----------
    what
        Name of the input, which begins the sentence.

    Raises
    ------
    NotAnalysable
        ``undecodable`` when the input is malformed.
    StorageFailed
        When the file cannot be read from disk.
    """
    try:
        with attributes.tolerance():
            yield
    except RecursionError:
        raise NotAnalysable("undecodable", f"{what} holds sequences nested too deeply to be read") from None
    except MemoryError:
        raise NotAnalysable("undecodable", f"{what} needs more memory than a film may take") from None
    except attributes.MALFORMED as error:
        raise NotAnalysable("undecodable", f"{what} cannot be read: {_one_line(error)}") from None
    except OSError as error:
        # A seek to where no file can be comes from a length in the file; anything else is the disk.
        if error.errno not in (None, errno.EINVAL):
            raise StorageFailed(f"{what}: {error.strerror}; is the spool still there?") from None
        raise NotAnalysable("undecodable", f"{what} cannot be read: {_one_line(error)}") from None
    except BaseException as error:
        # A panic of a decoder in Rust is no Exception: RLE whose Rows and Columns are too small, for one.
        if type(error).__module__ != "pyo3_runtime":
            raise
        raise NotAnalysable("undecodable", f"{what} cannot be read: {_one_line(error)}") from None


def _one_line(error: BaseException) -> str:
    """Return the sentence of a library, without what it quotes: that stands in the header."""
    sentence = _QUOTED.sub("'…'", " ".join(str(error).split()))
    return printable(sentence, 200) or type(error).__name__


def photometric_name(value: str) -> str:
    """Return a photometric interpretation for a sentence; one that PS3.3 does not define is not repeated."""
    return value if value in _PHOTOMETRIC else "of unknown photometric interpretation"


def read_instance(path: Path, *, pixels: bool) -> Dataset:
    """Read a file's data set, with or without its pixel data; long elements are left out.

    Call it inside :func:`errors_as_not_analysable`: it lets the errors of pydicom pass.

    Raises
    ------
    NotAnalysable
        ``undecodable`` when the file holds no instance, ``transfer_syntax`` when it is not decoded.
    """
    with path.open("rb") as stream:
        read_preamble(stream, force=True)
        meta = read_dataset(
            stream,
            is_implicit_VR=False,
            is_little_endian=True,
            stop_when=lambda tag, _vr, _length: tag.group != _META_GROUP,
        )
        syntax = UID(attributes.text(meta, "TransferSyntaxUID"))
        if syntax in DEFLATED or (pixels and syntax and syntax not in TRANSFER_SYNTAXES):
            raise _unsupported(syntax)
        stream.seek(0)
        ds = dcmread(
            stream, force=True, stop_before_pixels=not pixels, defer_size=None if pixels else _LARGE_BYTES
        )
    behind = itertools.dropwhile(lambda tag: tag.group != _PIXEL_GROUP, ds.keys())
    if any(tag.group < _PIXEL_GROUP for tag in behind):  # a header without the pixels would lack them
        raise NotAnalysable("bad_header", "elements of the header stand behind the pixel data (PS3.5 7.1)")
    for tag in [tag for tag, element in ds.items() if _is_large(tag, element)]:
        del ds[tag]
    # Any bytes can be read as elements, but an instance with a picture has one of these two.
    if "SOPClassUID" not in ds and "PixelData" not in ds:
        raise NotAnalysable("undecodable", f"the file {path.name} holds no DICOM instance")
    return correct_text(ds)


def _unsupported(syntax: UID) -> NotAnalysable:
    name = attributes.uid_name(syntax) or "unknown"
    return NotAnalysable("transfer_syntax", f"the transfer syntax {name} is not decoded here")


def _is_large(tag: BaseTag, element: Any) -> bool:
    """Return whether an element is left out: with pixels or without, a film has one header.

    Overlay Data of a large film is that long, and is read with the pixels only.
    """
    if not isinstance(element, RawDataElement):
        return False
    if element.value is None:  # deferred
        return element.length > _LARGE_BYTES
    return tag.group < _OVERLAY_GROUP and len(element.value) > _LARGE_BYTES


def without_pixels(ds: Dataset) -> Dataset:
    """Return the elements that come before the pixel data, with the file meta information."""
    # A slice is a data set of its own; a copy of a data set shares its elements.
    header: Dataset = ds[: _PIXEL_GROUP << 16]
    if (meta := getattr(ds, "file_meta", None)) is not None:
        header.file_meta = meta
    return header


def integer(ds: Dataset, keyword: str, default: int | None = None) -> int:
    """Return the first value of an element as an integer.

    Parameters
    ----------
    default
        Value for a missing or empty element.

    Raises
    ------
    NotAnalysable
        ``bad_header`` when the value is no integer, or missing without a default.
    """
    found = attributes.numbers(ds, keyword)
    if not found and default is not None:
        return default
    if not found or not found[0].is_integer():
        raise NotAnalysable("bad_header", f"{keyword} is missing or no number")
    return int(found[0])


def _frame(ds: Dataset, *, max_pixels: int) -> _Frame:
    """Check the Image Pixel module, so that all that can be refused is refused before decoding."""
    if attributes.value(ds, "PixelData") is None:
        raise NotAnalysable("no_pixels", "the instance holds no pixel data")
    photometric = attributes.text(ds, "PhotometricInterpretation").upper()
    samples = integer(ds, "SamplesPerPixel", 1)
    if photometric not in GRAYSCALE or samples != 1:
        what = photometric_name(photometric)
        raise NotAnalysable(
            "not_grayscale", f"the picture is {what} with {samples} samples a pixel, not grayscale"
        )
    frames = integer(ds, "NumberOfFrames", 1)
    if frames > 1:
        raise NotAnalysable("multi_frame", f"the instance holds {frames} frames, not one")
    rows, columns = integer(ds, "Rows"), integer(ds, "Columns")
    if rows * columns > max_pixels:
        raise NotAnalysable(
            "too_large", f"{rows} x {columns} pixels are more than the {max_pixels} that are decoded"
        )
    if min(rows, columns) < MIN_SIDE:
        raise NotAnalysable("too_small", f"{rows} x {columns} pixels are too few for a film")
    allocated, stored = integer(ds, "BitsAllocated"), integer(ds, "BitsStored")
    if allocated not in BITS_ALLOCATED or stored not in BITS_STORED or stored > allocated:
        raise NotAnalysable(
            "bad_header", f"{stored} bits stored in {allocated} allocated is no format of a radiograph"
        )
    return _Frame(rows, columns, allocated, pixel_cell(ds, allocated, stored), is_inverted(ds))


def pixel_cell(ds: Dataset, allocated: int, stored: int) -> PixelCell:
    """Return the layout of stored values in pixel cells of so many bits."""
    high_bit = integer(ds, "HighBit", stored - 1)
    # The standard now allows no High Bit but Bits Stored - 1 (PS3.5 8.1.1). It replaces an impossible value.
    if not stored - 1 <= high_bit < allocated:
        high_bit = stored - 1
    return PixelCell(stored, high_bit, signed=integer(ds, "PixelRepresentation", 0) == 1)


def is_inverted(ds: Dataset) -> bool:
    """True when low values are displayed bright.

    Presentation LUT Shape is the last step on the way to the display (PS3.3 C.11.6), so it goes before
    Photometric Interpretation where the two contradict each other.
    """
    shape = attributes.text(ds, "PresentationLUTShape")
    if shape in {"IDENTITY", "INVERSE"}:
        return shape == "INVERSE"
    return attributes.text(ds, "PhotometricInterpretation").upper() == "MONOCHROME1"


def _decode(ds: Dataset, frame: _Frame) -> NDArray[Any]:
    """Decode the one frame to pixel cells: unsigned integers, shape (rows, columns)."""
    data = ds["PixelData"]
    syntax = transfer_syntax_of(ds)
    if syntax in NATIVE:
        _check_length(data.value, frame)
    options: dict[str, Any] = {
        "view_only": True,
        "correct_unused_bits": False,  # grayscale.py decides what the other bits mean
        "pixel_keyword": "PixelData",
        "pixel_vr": data.VR,
        "number_of_frames": 1,
        "rows": frame.rows,
        "columns": frame.columns,
        "samples_per_pixel": 1,
        "photometric_interpretation": "MONOCHROME2",
        "bits_allocated": frame.allocated,
        "bits_stored": frame.cell.stored,
        "pixel_representation": int(frame.cell.signed),
    }
    encoded = _mended_scan(data.value) if syntax in SEQUENTIAL_DCT else data.value
    decoded, _ = get_decoder(syntax).as_array(encoded, raw=True, **options)
    if decoded.shape != (frame.rows, frame.columns) or decoded.dtype.kind not in "iu":
        raise ValueError(f"{decoded.shape} pixels came out, not {(frame.rows, frame.columns)}")
    if not decoded.dtype.isnative:
        decoded = decoded.astype(decoded.dtype.newbyteorder("="))
    cells: NDArray[Any] = decoded.view(f"u{decoded.dtype.itemsize}")
    return cells


def _mended_scan(value: bytes) -> bytes:
    """Encapsulated JPEG whose scan header ends its spectral selection at 63, as a sequential scan must.

    Old encoders wrote 0 there (ISO/IEC 10918-1 B.2.3, Se), which DCMTK reads and libjpeg refuses.
    """
    frame = bytearray(next(generate_frames(value, number_of_frames=1)))
    at = len(_JPEG_START)
    while at + 4 <= len(frame) and frame[at] == _JPEG_MARKER:
        length = int.from_bytes(frame[at + 2 : at + 4], "big")
        if frame[at + 1] == _JPEG_SCAN:
            end = at + 2 + length - 2  # Ss and Se stand before the last byte, Ah and Al
            if frame[end - 1 : end + 1] != b"\0\0":
                return value
            frame[end] = _JPEG_LAST_COEFFICIENT
            return encapsulate([bytes(frame)])
        at += 2 + length
    return value


def transfer_syntax_of(ds: Dataset) -> UID:
    """Return the transfer syntax of the pixel data.

    Raises
    ------
    NotAnalysable
        ``transfer_syntax`` when it is not decoded.
    """
    meta = getattr(ds, "file_meta", None)
    syntax = UID(attributes.text(meta, "TransferSyntaxUID") if meta is not None else "")
    if not syntax:
        # No file meta information: pydicom detected the encoding of the elements.
        implicit, little = ds.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        syntax = ImplicitVRLittleEndian if implicit else explicit
    if syntax not in TRANSFER_SYNTAXES:
        raise _unsupported(syntax)
    return syntax


def _check_length(data: bytes, frame: _Frame) -> None:
    """Check the length of native pixel data: Rows x Columns, then at most zeros, less than a row of them."""
    row = frame.columns * frame.allocated // 8
    expected = frame.rows * row
    surplus = len(data) - expected
    if surplus < 0:
        raise NotAnalysable(
            "bad_header", f"the pixel data is {len(data)} bytes, but Rows and Columns ask for {expected}"
        )
    if surplus > 1 and (surplus >= row or any(data[expected:])):
        raise NotAnalysable(
            "bad_header", f"the pixel data is {surplus} bytes longer than Rows and Columns ask for"
        )
