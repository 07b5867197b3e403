"""Overlay planes of a film (PS3.3 C.9.2): graphics that a person sees over the picture, and no model ever."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag

from dicom_node.errors import NotAnalysable
from dicom_node.imaging import attributes
from dicom_node.imaging.pixels import (
    errors_as_not_analysable,
    integer,
    pixel_cell,
    read_cells,
    read_instance,
)
from dicom_node.imaging.stored_values import Cells

Plane: TypeAlias = NDArray[np.bool_]

_GROUPS: Final = range(0x6000, 0x6100, 2)
_ROWS, _COLUMNS, _TYPE, _ORIGIN, _FIRST_FRAME = 0x0010, 0x0011, 0x0040, 0x0050, 0x0051
_BITS_ALLOCATED, _BIT_POSITION, _DATA = 0x0100, 0x0102, 0x3000
_GRAPHICS, _REGION = "G", "R"


def read_overlay(source: Path, *, max_pixels: int) -> Plane:
    """Read the overlay planes of one instance, as one picture of the film's size.

    Graphics (type G) are drawn as they are, regions of interest (type R) as their outlines. What lies
    outside of the film is cut off, and a plane that contradicts itself is left out. Planes embedded in the
    pixel cells (PS3.5 8.1.2, retired) are read where their bit lies above the stored value.

    Parameters
    ----------
    source
        Path of a file that :func:`dicom_node.imaging.pixels.read_film` can read.
    max_pixels
        Most pixels of the film, and of a plane.

    Returns
    -------
    numpy.ndarray
        Shape (Rows, Columns), True where something is drawn.

    Raises
    ------
    NotAnalysable, StorageFailed
        As :func:`dicom_node.imaging.pixels.read_film`.
    """
    with errors_as_not_analysable(f"the file {source.name}"):
        ds = read_instance(source, pixels=True)
        rows, columns = integer(ds, "Rows"), integer(ds, "Columns")
        if not 0 < rows * columns <= max_pixels:
            raise NotAnalysable(
                "too_large", f"{rows} x {columns} pixels are more than the {max_pixels} that are decoded"
            )
        picture = np.zeros((rows, columns), bool)

        @cache
        def cells() -> Cells:  # one decoding for all groups
            return read_cells(source, max_pixels=max_pixels)

        for plane, (top, left) in _planes(ds, cells, max_pixels):
            down, across = (
                slice(max(top, 0), max(top + plane.shape[0], 0)),
                slice(max(left, 0), max(left + plane.shape[1], 0)),
            )
            shown = picture[down, across]
            height, width = shown.shape
            shown |= plane[max(-top, 0) :, max(-left, 0) :][:height, :width]
        return picture


def has_overlay(header: Dataset) -> bool:
    """True when a header describes an overlay plane, readable or not."""
    # Iterating a Dataset would convert every element.
    return any(tag.group in _GROUPS and tag.element == _ROWS for tag in header.keys())  # noqa: SIM118


def _planes(
    ds: Dataset, cells: Callable[[], Cells], max_pixels: int
) -> Iterator[tuple[Plane, tuple[int, int]]]:
    """Yield the planes of the first frame, with the row and column of the film, from 0, where each begins."""
    for group in _GROUPS:
        rows, columns, first_frame = (
            _integer(ds, Tag(group, element), default)
            for element, default in ((_ROWS, 0), (_COLUMNS, 0), (_FIRST_FRAME, 1))
        )
        kind = attributes.text(ds, Tag(group, _TYPE)).upper()
        if min(rows, columns) < 1 or rows * columns > max_pixels or first_frame != 1:
            continue
        data = attributes.value(ds, Tag(group, _DATA))
        plane = (
            _packed(ds, group, data, rows, columns) if data else _embedded(ds, group, cells, rows, columns)
        )
        if plane is None or kind not in (_GRAPHICS, _REGION):
            continue
        origin = [int(at) for at in attributes.numbers(ds, Tag(group, _ORIGIN)) if at.is_integer()]
        top, left = origin if len(origin) == 2 else (1, 1)
        yield _outline(plane) if kind == _REGION else plane, (top - 1, left - 1)


def _integer(ds: Dataset, tag: BaseTag, default: int) -> int:
    number = next(iter(attributes.numbers(ds, tag)), float(default))
    return int(number) if number.is_integer() else default


def _packed(ds: Dataset, group: int, data: Any, rows: int, columns: int) -> Plane | None:
    """Return the first frame of Overlay Data: one bit a pixel, the first in the lowest bit (PS3.5 8.1.2)."""
    size = rows * columns
    if not isinstance(data, bytes) or len(data) * 8 < size:
        return None
    packed = np.frombuffer(data[: (size + 15) // 16 * 2], np.uint8)
    if ds.original_encoding[1] is False and ds[Tag(group, _DATA)].VR == "OW" and len(packed) % 2 == 0:
        packed = packed.reshape(-1, 2)[:, ::-1].ravel()
    return np.unpackbits(packed, count=size, bitorder="little").reshape(rows, columns).astype(bool)


def _embedded(ds: Dataset, group: int, cells: Callable[[], Cells], rows: int, columns: int) -> Plane | None:
    """Return a plane from a bit of the pixel cells that is none of the value's."""
    allocated, stored = integer(ds, "BitsAllocated"), integer(ds, "BitsStored")
    bit = _integer(ds, Tag(group, _BIT_POSITION), 0)
    same = _integer(ds, Tag(group, _BITS_ALLOCATED), 0) == allocated
    if not same or not max(stored - 1, pixel_cell(ds, allocated, stored).high_bit) < bit < allocated:
        return None
    found = cells()
    if found.shape != (rows, columns):
        return None
    return (found >> bit & 1).astype(bool)


def _outline(region: Plane) -> Plane:
    """Return the pixels of a region that have a neighbour outside of it, above, below or beside."""
    inside = np.pad(region, 1)
    surrounded = inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:]
    return region & ~surrounded
