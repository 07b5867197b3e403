"""Mask of a picture: rectangles of stored values that are made black (PS3.15 E.3.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, JPEGBaseline8Bit, JPEGExtended12Bit

from dicom_node.errors import NotAnalysable, NotDeidentified
from dicom_node.imaging import attributes
from dicom_node.imaging.byte_order import WORD_BYTES, little_endian
from dicom_node.imaging.transfer_syntaxes import ENCAPSULATED

_BYTE_BITS = 8


@dataclass(frozen=True, slots=True)
class Rectangle:
    """Part of a picture, in pixels; the first column and row are 0."""

    column: int
    row: int
    columns: int
    rows: int


def mask(ds: Dataset, rectangles: Iterable[Rectangle], decode: Callable[[], bytes] | None = None) -> None:
    """Blacken rectangles of every frame; a compressed picture becomes an uncompressed one.

    Parameters
    ----------
    ds
        Instance with file meta information; it is changed.
    decode
        Function that returns the stored values of a compressed picture in little endian.

    Raises
    ------
    NotDeidentified
        When the picture is of a kind that is not masked, or cannot be decoded.
    """
    syntax = ds.file_meta.TransferSyntaxUID
    content = ds.PixelData
    if syntax in ENCAPSULATED:
        content = _decoded(decode)
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        if syntax in (JPEGBaseline8Bit, JPEGExtended12Bit):
            ds.LossyImageCompression = "01"
    # In big endian, cells of a byte in words of two lie in pairs the wrong way round (PS3.5 8.1.1).
    paired = (
        syntax == ExplicitVRBigEndian and ds.get("BitsAllocated") == _BYTE_BITS and ds["PixelData"].VR == "OW"
    )
    if paired:
        content = little_endian(content + b"\0" * (len(content) % 2), WORD_BYTES["OW"])
    cells = _cells(ds, content, ">" if syntax == ExplicitVRBigEndian else "<")
    for each in rectangles:
        rows = slice(max(each.row, 0), max(each.row + each.rows, 0))
        columns = slice(max(each.column, 0), max(each.column + each.columns, 0))
        cells[..., rows, columns] = _black(ds)
    masked = _planes(ds, cells, back=True).tobytes()
    vr = "OB" if ds.BitsAllocated <= _BYTE_BITS and syntax in ENCAPSULATED else ds["PixelData"].VR
    masked += b"\0" * (len(masked) % 2)
    ds["PixelData"] = DataElement(
        0x7FE00010, vr, little_endian(masked, WORD_BYTES["OW"]) if paired else masked
    )


def _decoded(decode: Callable[[], bytes] | None) -> bytes:
    if decode is None:
        raise NotDeidentified("its picture is compressed, and is not masked here")
    try:
        return decode()
    except NotAnalysable as error:
        raise NotDeidentified(f"its picture cannot be masked: {error}") from None


def _cells(
    ds: Dataset, content: bytes, order: str
) -> np.ndarray[tuple[int, ...], np.dtype[np.unsignedinteger]]:
    """Return the cells of a picture, to be changed; shape (frames, samples, rows, columns)."""
    kind = attributes.text(ds, "PhotometricInterpretation")
    if kind not in ("MONOCHROME1", "MONOCHROME2", "RGB") or ds.get("BitsAllocated") not in (8, 16):
        raise NotDeidentified(f"its picture ({kind or 'no Photometric Interpretation'}) is not masked here")
    dtype = np.dtype(f"{order}u{ds.BitsAllocated // 8}")
    frames, samples = int(ds.get("NumberOfFrames") or 1), int(ds.SamplesPerPixel)
    wanted = frames * samples * ds.Rows * ds.Columns
    if len(content) < wanted * dtype.itemsize:
        raise NotDeidentified("its picture is shorter than its header says, and is not masked")
    flat = np.frombuffer(content, dtype, wanted).copy()
    return _planes(ds, flat, back=False)


def _planes(ds: Dataset, cells: np.ndarray, *, back: bool) -> np.ndarray:
    """Turn cells as they are stored into planes of rows and columns, or back."""
    frames, samples = int(ds.get("NumberOfFrames") or 1), int(ds.SamplesPerPixel)
    if samples == 1 or ds.get("PlanarConfiguration") == 1:
        return cells.reshape(frames, samples, ds.Rows, ds.Columns)
    if back:
        return np.moveaxis(cells, 1, -1)
    return np.moveaxis(cells.reshape(frames, ds.Rows, ds.Columns, samples), -1, 1)


def _black(ds: Dataset) -> int:
    """Return the cell of the darkest stored value."""
    signed, stored = ds.get("PixelRepresentation") == 1, int(ds.BitsStored)
    value = -(1 << (stored - 1)) if signed else 0
    if attributes.text(ds, "PhotometricInterpretation") == "MONOCHROME1":
        value += (1 << stored) - 1
    return int(value & ((1 << int(ds.BitsAllocated)) - 1))
