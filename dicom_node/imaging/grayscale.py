"""Greyscale pipeline: tables from pixel cells to displayed greys (PS3.3 C.11, C.7.6.3.1.2, C.7.5.1.1.2).

Modality LUT or rescale, VOI LUT or window, polarity and padding are all functions of the stored value
alone. They are combined into one table with an entry for each possible pixel cell, so that a film of any
size needs one lookup for each pixel. There are three tables: :func:`grey_table` for models,
:func:`display_table` for a person, :func:`full_range_table` for a person who moves the window.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicom_node.errors import NotAnalysable
from dicom_node.imaging import attributes

FloatArray: TypeAlias = NDArray[np.float32]
Values: TypeAlias = NDArray[np.float64]
Cells: TypeAlias = NDArray[Any]
"""Pixel cells as unsigned integers of 8 or 16 bits."""

PERCENTILES = (0.5, 99.5)
"""Percentiles that become black and white in a film without a window: markers and collimator edges lie
outside."""

SAMPLES = 250_000
"""Number of pixels, on a regular grid, from which percentiles are computed."""

_ONE_GREY = 1 / 255
_LEAST_SLOPE = 1e-6
_STEP = 1e-6
"""Least width of a window, in values; a window of this width is a step."""
_OVERLAY_GROUP, _OVERLAY_BIT_POSITION = 0x6000, 0x0102
_DESCRIPTOR_VALUES = 3
_WORDS = 1 << 16


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


def grey_table(ds: Dataset, cell: PixelCell, cells: Cells, *, inverted: bool) -> FloatArray:
    """Return the grey of every possible pixel cell, as models see a film.

    Without a usable VOI LUT or window, the `PERCENTILES` of the picture become black and white. Padding
    becomes black.

    Parameters
    ----------
    ds
        Header of the film.
    cell
        Layout of the cells.
    cells
        Shape (rows, columns), unsigned integers: the picture that the table is for.
    inverted
        True when low values are displayed bright (MONOCHROME1).

    Returns
    -------
    numpy.ndarray
        Shape (256,) or (65536,), float32 in [0, 1], in the MONOCHROME2 sense.

    Raises
    ------
    NotAnalysable
        ``blank`` when all but a few of the pixels have one value, or all are padding.
    """
    step = max(1, math.isqrt(cells.size // SAMPLES))
    sample = cells[::step, ::step].ravel()
    stored = _stored_values(ds, cell, cells)
    padding = _padding(ds, stored)
    values = _modality(ds, stored)
    seen = values[sample[~padding[sample]]]
    if seen.size == 0:
        raise NotAnalysable("blank", "the picture is nothing but padding")
    low, high = (float(end) for end in np.percentile(seen, PERCENTILES))
    if not high > low:
        raise NotAnalysable("blank", "the picture is blank: all but a few of its pixels have one value")
    return _shown(_voi(ds, values, low, high), padding, inverted=inverted)


@dataclass(frozen=True, slots=True)
class VoiWindow:
    """VOI window with its function (PS3.3 C.11.2.1.2, C.11.2.1.3).

    Attributes
    ----------
    center, width
        Window Center and Window Width, in values after the Modality LUT.
    function
        VOI LUT Function.

    Raises
    ------
    ValueError
        When the standard does not allow such a window.
    """

    center: float
    width: float
    function: str = "LINEAR"

    def __post_init__(self) -> None:
        _, least = _VOI_FUNCTIONS[self.function]
        if not (math.isfinite(self.center) and math.isfinite(self.width) and self.width >= least):
            raise ValueError(f"{self.center} and {self.width} are no {self.function} window")

    def grey(self, values: Values) -> Values:
        """Return the greys of values, in [0, 1]."""
        function, _ = _VOI_FUNCTIONS[self.function]
        return function(values, self.center, self.width)


def display_table(
    ds: Dataset, cell: PixelCell, cells: Cells, *, inverted: bool, windowing: VoiWindow | None
) -> FloatArray:
    """Return the grey of every possible pixel cell, as a person sees the picture.

    As :func:`grey_table`, but blank pictures are shown too: where the percentiles are equal, the least and
    the greatest value become black and white.

    Parameters
    ----------
    ds, cell, cells, inverted
        As for :func:`grey_table`.
    windowing
        Window to apply; None for the one of the header.

    Returns
    -------
    numpy.ndarray
        As for :func:`grey_table`.
    """
    stored = _stored_values(ds, cell, cells)
    padding = _padding(ds, stored)
    values = _modality(ds, stored)
    if windowing is not None:
        return _shown(windowing.grey(values), padding, inverted=inverted)
    counts = np.bincount(cells.ravel(), minlength=len(stored))
    used = (counts > 0) & ~padding
    if not used.any():
        return np.zeros(len(stored), np.float32)
    low, high = _percentiles(values[used], counts[used])
    if not high > low:
        low, high = float(values[used].min()), float(values[used].max())
    return _shown(_voi(ds, values, low, max(high, low + 1)), padding, inverted=inverted)


def _shown(grey: Values, padding: NDArray[np.bool_], *, inverted: bool) -> FloatArray:
    grey = np.where(padding, 0, 1 - grey if inverted else grey)
    # np.clip passes NaN. Finite tables, slopes and windows give none; this makes sure of it.
    return np.clip(np.nan_to_num(grey), 0, 1).astype(np.float32)


@dataclass(frozen=True, slots=True)
class DisplayWindow:
    """Window on the greys of a full range table.

    Attributes
    ----------
    center, width
        Centre and width in greys, where 0 is the film's least value and 1 its greatest.
    """

    center: float
    width: float


def full_range_table(
    ds: Dataset, cell: PixelCell, cells: Cells, *, inverted: bool
) -> tuple[FloatArray, DisplayWindow]:
    """Return the grey of every possible pixel cell over the full range of the film's values, and its window.

    :func:`grey_table` cuts values outside of the window; this keeps them apart, for a person who moves the
    window.

    Parameters
    ----------
    ds, cell, cells, inverted
        As for :func:`grey_table`.

    Returns
    -------
    table : numpy.ndarray
        Shape (256,) or (65536,), float32 in [0, 1], in the MONOCHROME2 sense.
    window : DisplayWindow
        Window of the header, else the one between the picture's `PERCENTILES`.

    Raises
    ------
    NotAnalysable
        ``blank`` when all pixels have one value, or all are padding.
    """
    stored = _stored_values(ds, cell, cells)
    padding = _padding(ds, stored)
    values = _modality(ds, stored)
    counts = np.bincount(cells.ravel(), minlength=len(stored))
    used = (counts > 0) & ~padding
    if not used.any() or not (span := float(np.ptp(values[used]))) > 0:
        raise NotAnalysable("blank", "the picture is blank: its pixels have one value, or are padding")
    least = float(values[used].min())
    grey = (values - least) / span
    low, high = _between(ds, values, values[used], counts[used])
    center, width = ((low + high) / 2 - least) / span, max((high - low) / span, 1 / _WORDS)
    return _shown(grey, padding, inverted=inverted), DisplayWindow(1 - center if inverted else center, width)


def _between(ds: Dataset, values: Values, used: Values, counts: NDArray[Any]) -> tuple[float, float]:
    """Return the values that the header shows as black and as white, else the picture's percentiles."""
    low, high = _percentiles(used, counts)
    grey = _voi(ds, values, low, high if high > low else float(used.max()))
    # A curve is replaced by the straight line between its ends: a display window has no other shape.
    inner = values[(grey > 0.01) & (grey < 0.99)]  # noqa: PLR2004 - a sigmoid never reaches 0 and 1
    return (float(inner.min()), float(inner.max())) if inner.size > 1 else (low, high)


def _percentiles(used: Values, counts: NDArray[Any]) -> tuple[float, float]:
    """Return the `PERCENTILES` of distinct values with their counts."""
    order = np.argsort(used)
    share = 100 * np.cumsum(counts[order]) / counts.sum()
    places = np.minimum(np.searchsorted(share, PERCENTILES), len(used) - 1)
    low, high = (float(used[order][place]) for place in places)
    return low, high


def _stored_values(ds: Dataset, cell: PixelCell, cells: Cells) -> Values:
    """Return the stored value of every possible pixel cell.

    Cells that fit in Bits Stored are taken as they are. In others the extra bits are dropped if High Bit or
    an embedded overlay explains them, or if sign bits are missing. If nothing explains them, Bits Stored is
    wrong, and dropping bits would make bright pixels dark.
    """
    unsigned = np.arange(1 << (8 * cells.dtype.itemsize), dtype=cells.dtype)
    whole = unsigned.view(f"i{cells.dtype.itemsize}") if cell.signed else unsigned
    low, high = int(cells.view(whole.dtype).min()), int(cells.view(whole.dtype).max())
    half, full = 1 << (cell.stored - 1), 1 << cell.stored
    fits = (-half <= low and high < half) if cell.signed else high < full
    shift = cell.high_bit + 1 - cell.stored
    unextended = cell.signed and low >= 0 and high < full
    if fits or not (shift or unextended or _embedded_overlay(ds)):
        return whole.astype(np.float64)
    value = (unsigned.astype(np.int64) >> shift) & (full - 1)
    if cell.signed:
        value = np.where(value >= half, value - full, value)
    return value.astype(np.float64)


def _embedded_overlay(ds: Dataset) -> bool:
    """True when an overlay plane lies in the cells' unused bits (PS3.5 8.1.2, retired)."""
    return any(
        tag.group & 0xFF01 == _OVERLAY_GROUP and tag.element == _OVERLAY_BIT_POSITION and bool(ds[tag].value)
        for tag in ds.keys()  # noqa: SIM118 - iterating a Dataset would convert every element
    )


def _padding(ds: Dataset, stored: Values) -> NDArray[np.bool_]:
    """Return a mask of the stored values that are padding (PS3.3 C.7.5.1.1.2)."""
    first = next(iter(attributes.numbers(ds, "PixelPaddingValue")), math.nan)
    limit = next(iter(attributes.numbers(ds, "PixelPaddingRangeLimit")), first)
    low, high = sorted((first, first if math.isnan(limit) else limit))
    # NaN stands for a missing or malformed value, and equals no stored value.
    return (stored >= low) & (stored <= high)


def _modality(ds: Dataset, stored: Values) -> Values:
    """Apply the Modality LUT or the rescale (PS3.3 C.11.1); an absurd slope or intercept is ignored."""
    for lut in _luts(ds, "ModalityLUTSequence"):
        return lut.values(stored)
    slope = next(iter(attributes.numbers(ds, "RescaleSlope")), 1.0)
    intercept = next(iter(attributes.numbers(ds, "RescaleIntercept")), 0.0)
    if not (_LEAST_SLOPE <= abs(slope) <= 1 / _LEAST_SLOPE and abs(intercept) <= _WORDS / _LEAST_SLOPE):
        return stored
    return stored * slope + intercept


def _voi(ds: Dataset, values: Values, low: float, high: float) -> Values:
    """Apply the VOI LUT, a window, or the range between `low` and `high` (PS3.3 C.11.2); grey in [0, 1].

    A transform that gives `low` and `high`, the picture's percentiles, the same grey would show nothing, and
    is ignored. The first usable one is applied.
    """
    for transform in (*(lut.grey for lut in _luts(ds, "VOILUTSequence")), *_windows(ds)):
        first, last = transform(np.array([low, high]))
        if abs(last - first) > _ONE_GREY:
            return transform(values)
    return (values - low) / (high - low)


@dataclass(frozen=True, slots=True, eq=False)
class _Lut:
    """Lookup table (PS3.3 C.11.1.1.1): outputs for the input values from `first` on."""

    first: float
    entries: Values

    def values(self, values: Values) -> Values:
        index = np.clip(values - self.first, 0, len(self.entries) - 1).astype(np.int64)
        return self.entries[index]

    def grey(self, values: Values) -> Values:
        # The bit depth of the descriptor is often wrong; the greatest entry tells the one in use.
        return self.values(values) / ((1 << int(self.entries.max()).bit_length()) - 1)


def _luts(ds: Dataset, keyword: str) -> Iterator[_Lut]:
    """Yield the valid lookup tables of a sequence; those with a wrong number of entries are ignored."""
    for item in attributes.items(ds, keyword):
        descriptor = attributes.numbers(item, "LUTDescriptor")
        if len(descriptor) != _DESCRIPTOR_VALUES or not all(number.is_integer() for number in descriptor):
            continue
        count, first = int(descriptor[0]) or _WORDS, descriptor[1]
        data = attributes.value(item, "LUTData")
        if isinstance(data, bytes) and len(data) in (count, count + 1):
            entries = np.frombuffer(data, "u1")[:count].astype(np.float64)
        else:
            entries = np.array(attributes.numbers(item, "LUTData"))
        if len(entries) != count or not np.isfinite(entries).all() or entries.min() < 0 or entries.max() < 1:
            continue
        if first + count > _WORDS:  # a signed number (US or SS, PS3.3 C.11.1.1)
            first -= _WORDS
        yield _Lut(first, entries)


def _windows(ds: Dataset) -> Iterator[Callable[[Values], Values]]:
    """Yield the windows of a header that the standard allows, in order; others are ignored."""
    name = attributes.text(ds, "VOILUTFunction").upper()
    function = name if name in _VOI_FUNCTIONS else "LINEAR"
    pairs = zip(attributes.numbers(ds, "WindowCenter"), attributes.numbers(ds, "WindowWidth"), strict=False)
    for center, width in pairs:
        with contextlib.suppress(ValueError):
            yield VoiWindow(center, width, function).grey


def _linear(values: Values, center: float, width: float) -> Values:
    """Apply the function LINEAR (PS3.3 C.11.2.1.2.1)."""
    return np.clip((values - (center - 0.5)) / max(width - 1, _STEP) + 0.5, 0, 1)


def _linear_exact(values: Values, center: float, width: float) -> Values:
    """Apply the function LINEAR_EXACT (PS3.3 C.11.2.1.3.2)."""
    return np.clip((values - center) / width + 0.5, 0, 1)


def _sigmoid(values: Values, center: float, width: float) -> Values:
    """Apply the function SIGMOID (PS3.3 C.11.2.1.3.1)."""
    return 1 / (1 + np.exp(np.clip(-4 * (values - center) / width, -700, 700)))


_VOI_FUNCTIONS: dict[str, tuple[Callable[..., Values], float]] = {
    "LINEAR": (_linear, 1.0),
    "LINEAR_EXACT": (_linear_exact, _STEP),
    "SIGMOID": (_sigmoid, _STEP),
}
"""VOI LUT Function -> its implementation, and its least Window Width."""
