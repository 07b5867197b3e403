"""One DICOM instance -> one film: float32 in [0, 1], lungs dark (PS3.3 C.7.6.3).

What the header claims is checked before anything is decoded; how a stored value becomes a grey is in
:mod:`dicom_node.imaging.grayscale`. Decoders of compressed pixels are foreign code on foreign bytes: call
:func:`read_film` through :class:`dicom_node.imaging.decoder.Decoder`, which can be killed.
"""

from __future__ import annotations

import errno
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
from pydicom.filereader import read_dataset, read_preamble
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from dicom_node.errors import NotAnalysable, StorageFailed
from dicom_node.imaging import attributes
from dicom_node.imaging.grayscale import PixelCell, Window, depth_table, grey_table

FloatArray: TypeAlias = NDArray[np.float32]

NATIVE = frozenset({ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian})
ENCAPSULATED = frozenset(
    {
        JPEGBaseline8Bit,
        JPEGExtended12Bit,
        JPEGLossless,
        JPEGLosslessSV1,
        JPEGLSLossless,
        JPEGLSNearLossless,
        JPEG2000Lossless,
        JPEG2000,
        HTJ2KLossless,
        HTJ2KLosslessRPCL,
        HTJ2K,
        RLELossless,
    }
)
TRANSFER_SYNTAXES = NATIVE | ENCAPSULATED
"""Every transfer syntax whose pixels can be decoded."""
DEFLATED = frozenset(
    {DeflatedExplicitVRLittleEndian, UID("1.2.840.10008.1.2.4.95"), UID("1.2.840.10008.1.2.4.205")}
)
"""Not even parsed: pydicom inflates the whole, and 300 KiB may hold gigabytes."""

GRAYSCALE = frozenset({"MONOCHROME1", "MONOCHROME2"})
BITS_STORED = range(8, 17)
BITS_ALLOCATED = frozenset({8, 16})
MIN_SIDE = 64
"""Pixels; a smaller picture is an icon, not a film."""

_META_GROUP, _PIXEL_GROUP = 0x0002, 0x7FE0
_LARGE_BYTES = 1 << 20
"""A header's element above this is left on disk."""


@dataclass(frozen=True, slots=True, eq=False)
class Film:
    """A radiograph as a model sees it, and the header that it came with.

    Attributes
    ----------
    pixels
        Shape (Rows, Columns), float32 in [0, 1], in the MONOCHROME2 sense: lungs dark.
    header
        The data set without its pixel data.
    window
        What is to be shown of a film of full depth; None when `pixels` are what is shown.
    """

    pixels: FloatArray
    header: Dataset
    window: Window | None = None

    def __post_init__(self) -> None:
        if self.pixels.ndim != 2 or self.pixels.dtype != np.float32:
            shape = self.pixels.shape
            raise ValueError(f"a film is float32 (rows, columns), not {self.pixels.dtype} {shape}")


@dataclass(frozen=True, slots=True)
class _Frame:
    """The one grayscale frame that the Image Pixel module describes, checked."""

    rows: int
    columns: int
    allocated: int
    cell: PixelCell
    inverted: bool


def read_header(path: Path) -> Dataset:
    """Read a file's data set without its pixel data.

    A missing preamble, missing file meta information and malformed values are tolerated; elements of more
    than 1 MiB are left out.

    Raises
    ------
    NotAnalysable
        ``undecodable`` when the file is no DICOM data set, ``transfer_syntax`` when it is a deflated one.
    StorageFailed
        When the file cannot be opened.
    """
    with translated(f"the file {path.name}"):
        return without_pixels(read_instance(path, pixels=False))


def read_film(source: Path | Dataset, *, max_pixels: int, full_depth: bool = False) -> Film:
    """Read one instance as a film.

    Parameters
    ----------
    source
        Path of a file, or a data set as it was read from one.
    max_pixels
        Rows x Columns x frames above which nothing is decoded.
    full_depth
        Keep every value apart, for a person who moves the window; else what the window shows, for a model.

    Returns
    -------
    Film

    Raises
    ------
    NotAnalysable
        With the key of the reason: ``undecodable``, ``transfer_syntax``, ``no_pixels``, ``bad_header``,
        ``not_grayscale``, ``multi_frame``, ``too_large``, ``too_small`` or ``blank``.
    StorageFailed
        When the file cannot be opened.
    """
    with translated("the instance" if isinstance(source, Dataset) else f"the file {source.name}"):
        ds = source if isinstance(source, Dataset) else read_instance(source, pixels=True)
        frame = _frame(ds, max_pixels=max_pixels)
        cells = _decode(ds, frame)
        window = None
        if full_depth:
            table, window = depth_table(ds, frame.cell, cells, inverted=frame.inverted)
        else:
            table = grey_table(ds, frame.cell, cells, inverted=frame.inverted)
        pixels = np.empty(cells.shape, np.float32)
        # The table has an entry for each cell: "clip" never clips, it spares numpy the checked detour.
        np.take(table, cells, out=pixels, mode="clip")
        return Film(pixels, without_pixels(ds), window)


def read_cells(source: Path, *, max_pixels: int) -> NDArray[np.unsignedinteger[Any]]:
    """Read the pixel cells of one instance as they were before they were compressed.

    Returns
    -------
    numpy.ndarray
        Shape (Rows, Columns), unsigned integers of Bits Allocated, whatever the cells mean.

    Raises
    ------
    NotAnalysable, StorageFailed
        As :func:`read_film`.
    """
    with translated(f"the file {source.name}"):
        ds = read_instance(source, pixels=True)
        return _decode(ds, _frame(ds, max_pixels=max_pixels))


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn what malformed input makes pydicom and the decoders raise into one refusal, without warnings."""
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


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def read_instance(path: Path, *, pixels: bool) -> Dataset:
    """Read a file's data set, with or without its pixel data; raises within :func:`translated`."""
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
    for tag in [tag for tag, element in ds.items() if _is_deferred(element)]:
        del ds[tag]
    # Any bytes can be read as elements; these two no instance with a picture is without.
    if "SOPClassUID" not in ds and "PixelData" not in ds:
        raise NotAnalysable("undecodable", f"the file {path.name} holds no DICOM instance")
    return ds


def _unsupported(syntax: UID) -> NotAnalysable:
    return NotAnalysable(
        "transfer_syntax", f"the transfer syntax {syntax.name or 'unknown'} is not decoded here"
    )


def _is_deferred(element: Any) -> bool:
    return isinstance(element, RawDataElement) and element.value is None and element.length > _LARGE_BYTES


def without_pixels(ds: Dataset) -> Dataset:
    """Return what comes before the pixel data."""
    # A slice is a data set of its own; a copy of a data set shares its elements.
    header: Dataset = ds[: _PIXEL_GROUP << 16]
    return header


def integer(ds: Dataset, keyword: str, default: int | None = None) -> int:
    """Return the first value of an element; ``bad_header`` when it is none and there is no default."""
    found = attributes.numbers(ds, keyword)
    if not found and default is not None:
        return default
    if not found or not found[0].is_integer():
        raise NotAnalysable("bad_header", f"{keyword} is missing or no number")
    return int(found[0])


def _frame(ds: Dataset, *, max_pixels: int) -> _Frame:
    """Check the Image Pixel module: all that can be refused without decoding is refused here."""
    if attributes.value(ds, "PixelData") is None:
        raise NotAnalysable("no_pixels", "the instance holds no pixel data")
    photometric = attributes.text(ds, "PhotometricInterpretation").upper()
    samples = integer(ds, "SamplesPerPixel", 1)
    if photometric not in GRAYSCALE or samples != 1:
        what = photometric or "of unknown photometric interpretation"
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
    """Return how stored values lie in pixel cells of so many bits."""
    high_bit = integer(ds, "HighBit", stored - 1)
    # Bits Stored - 1 is the only High Bit that the standard still allows (PS3.5 8.1.1); one that no pixel
    # cell can have is taken for it.
    if not stored - 1 <= high_bit < allocated:
        high_bit = stored - 1
    return PixelCell(stored, high_bit, signed=integer(ds, "PixelRepresentation", 0) == 1)


def is_inverted(ds: Dataset) -> bool:
    """Whether low values are displayed bright."""
    photometric = attributes.text(ds, "PhotometricInterpretation").upper()
    return photometric == "MONOCHROME1" or attributes.text(ds, "PresentationLUTShape") == "INVERSE"


def _decode(ds: Dataset, frame: _Frame) -> NDArray[Any]:
    """Decode the one frame: its pixel cells as unsigned integers, shape (rows, columns)."""
    data = ds["PixelData"]
    syntax = transfer_syntax_of(ds)
    if syntax in NATIVE:
        _check_length(data.value, frame)
    options: dict[str, Any] = {
        "view_only": True,
        "correct_unused_bits": False,  # grayscale decides what the other bits mean
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
    decoded, _ = get_decoder(syntax).as_array(data.value, raw=True, **options)
    if decoded.shape != (frame.rows, frame.columns) or decoded.dtype.kind not in "iu":
        raise ValueError(f"{decoded.shape} pixels came out, not {(frame.rows, frame.columns)}")
    if not decoded.dtype.isnative:
        decoded = decoded.astype(decoded.dtype.newbyteorder("="))
    cells: NDArray[Any] = decoded.view(f"u{decoded.dtype.itemsize}")
    return cells


def transfer_syntax_of(ds: Dataset) -> UID:
    """Return how the pixel data is written; ``transfer_syntax`` when it is not decoded here."""
    meta = getattr(ds, "file_meta", None)
    syntax = UID(attributes.text(meta, "TransferSyntaxUID") if meta is not None else "")
    if not syntax:
        # No file meta information: pydicom found out how the elements are written.
        implicit, little = ds.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        syntax = ImplicitVRLittleEndian if implicit else explicit
    if syntax not in TRANSFER_SYNTAXES:
        raise _unsupported(syntax)
    return syntax


def _check_length(data: bytes, frame: _Frame) -> None:
    """Accept what Rows and Columns ask for, and padding behind it: zeros, less than a row of them."""
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
