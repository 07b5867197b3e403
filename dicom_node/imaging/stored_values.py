"""Stored values of pixel cells: which bits of a cell are the value (PS3.5 8.1.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

Values: TypeAlias = NDArray[np.float64]
Cells: TypeAlias = NDArray[Any]
"""Pixel cells as unsigned integers of 8 or 16 bits."""

_OVERLAY_GROUP, _OVERLAY_DATA = 0x6000, 0x3000


@dataclass(frozen=True, slots=True)
class PixelCell:
    """Layout of a stored value in its pixel cell (PS3.5 8.1.1).

    Attributes
    ----------
    stored, high_bit
        Bits Stored and High Bit.
    signed
        True for two's complement (Pixel Representation 1).
    """

    stored: int
    high_bit: int
    signed: bool


def stored_values(cell: PixelCell, cells: Cells, *, occurring: bool = False) -> Values:
    """Stored value of every pixel cell that can occur; bits outside of Bits Stored are no part of it.

    With `occurring` the table ends at the greatest of the cells: most films have 12 bits of 16.

    A High Bit above Bits Stored - 1 is believed only where the cells do not keep to the bits at the bottom:
    PS3.5 8.1.1 allows no other any more, and many headers that state one do not mean it.
    """
    count = int(cells.max()) + 1 if occurring else 1 << (8 * cells.dtype.itemsize)
    unsigned = np.arange(count, dtype=np.int64)
    half, full = 1 << (cell.stored - 1), 1 << cell.stored
    value = (unsigned >> _shift(cell, cells)) & (full - 1)
    if cell.signed:
        value = np.where(value >= half, value - full, value)
    return value.astype(np.float64)


def _shift(cell: PixelCell, cells: Cells) -> int:
    """Number of bits below the stored value in its cell."""
    low, high = _range(cell, cells)
    half, full = 1 << (cell.stored - 1), 1 << cell.stored
    at_bottom = (-half <= low and high < full) if cell.signed else high < full
    return 0 if at_bottom else cell.high_bit + 1 - cell.stored


def _range(cell: PixelCell, cells: Cells) -> tuple[int, int]:
    """Least and greatest of the cells, taken as whole words."""
    words = cells.view(f"{'i' if cell.signed else 'u'}{cells.dtype.itemsize}")
    return int(words.min()), int(words.max())


def stray_share(ds: Dataset, cell: PixelCell, cells: Cells) -> float:
    """Share of the pixels with bits above the stored value that nothing in the header explains.

    An embedded overlay explains them (PS3.5 8.1.2, retired), and so does a High Bit: of cells with bits
    below the value nobody can say more. Sign bits may be extended, partly extended or absent.
    """
    low, high = _range(cell, cells)
    half, full = 1 << (cell.stored - 1), 1 << cell.stored
    fits = (-half <= low and high < full) if cell.signed else high < full
    if fits or cell.high_bit >= cell.stored or _embedded_overlay(ds):
        return 0.0
    stray = cells >> cell.stored != 0
    if cell.signed:
        whole = (1 << (8 * cells.dtype.itemsize)) - 1
        stray &= (cells | (half - 1)) != whole  # a negative number, extended as it should be
    return float(np.count_nonzero(stray)) / cells.size


def _embedded_overlay(ds: Dataset) -> bool:
    """True when an overlay plane without Overlay Data lies in unused bits of the cells (PS3.5 8.1.2)."""
    # Iterating a Dataset would convert every element.
    groups = {tag.group for tag in ds.keys() if tag.group & 0xFF01 == _OVERLAY_GROUP}  # noqa: SIM118
    return any((group, _OVERLAY_DATA) not in ds for group in groups)
