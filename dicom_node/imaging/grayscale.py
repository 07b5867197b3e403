"""Greyscale pipeline: tables from pixel cells to displayed greys (PS3.3 C.11, C.7.6.3.1.2, C.7.5.1.1.2).

Modality LUT or rescale, VOI LUT or window, polarity and padding are all functions of the stored value
alone. They are combined into one table with an entry for each possible pixel cell, so that a film of any
size needs one lookup for each pixel. There are three tables: that of a :class:`GreyTransform` for models,
:func:`display_table` for a person, :func:`full_range_table` for a person who moves the window.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicom_node.errors import NotAnalysable
from dicom_node.imaging import attributes
from dicom_node.imaging.stored_values import Cells, PixelCell, Values, stored_values, stray_share
from dicom_node.imaging.voi import Lut, VoiWindow, read_luts, read_modality, read_named_windows, read_windows

FloatArray: TypeAlias = NDArray[np.float32]
Mask: TypeAlias = NDArray[np.bool_]

PERCENTILES = (0.5, 99.5)
"""Percentiles that become black and white in a film without a window: markers and collimator edges lie
outside."""

SAMPLES = 250_000
"""Number of pixels, on a regular grid, from which percentiles are computed."""

CURVE_ENTRIES = 4096
"""Number of greys of a display curve: as many as a VOI LUT of 12 bits has entries."""

LEAST_SEEN = 1 / 65535
"""Grey of a film's least value in a full range table: 0 is left to what is not to be seen."""

MOST_OFFERED = 8
"""Most windows of a header that a person can choose from."""
_NAME_LENGTH = 64

_ONE_GREY = 1 / 255
_REST = _ONE_GREY / 4
"""Difference to the grey at its end from which a curve has begun to rise."""
_LEAST_SHOWN = 0.2
"""Share of the pixels that a window or VOI LUT must show between black and white to be believed."""
_MOST_STRAY = 0.05
"""Share of the pixels that may carry bits outside of Bits Stored before Bits Stored is thought wrong."""
_WORDS = 1 << 16


@dataclass(frozen=True, slots=True)
class GreyTransform:
    """Transform from the stored values of a film to its greys, as models see it (PS3.4 N.2).

    Modality LUT or rescale and padding stand in the header. What else there is was chosen by looking at the
    pixels; it is small, so that it travels with them.

    Attributes
    ----------
    voi
        Window in force: one of the header's, or the one between the film's `PERCENTILES`. An integer is the
        place, from 0, of the VOI LUT in force among those of the header.
    inverted
        True when low values are displayed bright.
    """

    voi: VoiWindow | int
    inverted: bool

    def voi_transform(self, ds: Dataset) -> VoiWindow | Lut:
        """Return the window or the VOI LUT in force."""
        if isinstance(self.voi, VoiWindow):
            return self.voi
        return list(read_luts(ds, "VOILUTSequence"))[self.voi]

    def grey(self, ds: Dataset, stored: Values) -> FloatArray:
        """Return the greys of stored values.

        Parameters
        ----------
        ds
            Header of the film.
        stored
            Any shape.

        Returns
        -------
        numpy.ndarray
            Shape of `stored`, float32 in [0, 1], in the MONOCHROME2 sense; padding is black.
        """
        grey = self.voi_transform(ds).grey(read_modality(ds).values(stored))
        return _shown(grey, _padding(ds, stored), inverted=self.inverted)

    def passed_over(self, ds: Dataset) -> tuple[str, ...]:
        """Return a clause for each VOI LUT and window of the header that does not show the film."""
        # In the order in which they were tried: see _fitting.
        luts, windows = len(list(read_luts(ds, "VOILUTSequence"))), list(read_windows(ds))
        if isinstance(self.voi, int):
            luts, windows = self.voi, []
        elif self.voi in windows:
            windows = windows[: windows.index(self.voi)]
        said = [f"VOI LUT {place + 1}" for place in range(luts)]
        said += [
            f"window {place + 1} (center {window.center:g}, width {window.width:g})"
            for place, window in enumerate(windows)
        ]
        return tuple(f"{each} does not fit the film's values and was set aside" for each in said)


def grey_transform(
    ds: Dataset, cell: PixelCell, cells: Cells, *, inverted: bool, visible: Mask | None = None
) -> GreyTransform:
    """Return the transform by which models see a film: with the first VOI LUT or window that shows it.

    Without one, the `PERCENTILES` of the picture become black and white.

    Parameters
    ----------
    ds
        Header of the film.
    cell
        Layout of the cells.
    cells
        Shape (rows, columns), unsigned integers: the picture.
    inverted
        True when low values are displayed bright (MONOCHROME1).
    visible
        Mask of the cells that count, shape (rows, columns); all of them when None.

    Raises
    ------
    NotAnalysable
        ``blank`` when all but a few of the pixels have one value, or all are padding; ``bad_header`` when
        the pixels do not keep to Bits Stored.
    """
    if stray_share(ds, cell, cells) > _MOST_STRAY:
        raise NotAnalysable(
            "bad_header", f"the pixels use bits outside of the {cell.stored} that Bits Stored states"
        )
    step = max(1, math.isqrt(cells.size // SAMPLES))
    sample = cells[::step, ::step]
    sample = sample.ravel() if visible is None else sample[visible[::step, ::step]]
    stored = stored_values(cell, cells, occurring=True)
    seen = read_modality(ds).values(stored[sample[~_padding(ds, stored)[sample]]])
    if seen.size == 0:
        raise NotAnalysable("blank", "the picture is nothing but padding")
    low, high = (float(end) for end in np.percentile(seen, PERCENTILES))
    if not high > low:
        raise NotAnalysable("blank", "the picture is blank: all but a few of its pixels have one value")
    return GreyTransform(_fitting(ds, low, high, seen), inverted)


def display_table(
    ds: Dataset,
    cell: PixelCell,
    cells: Cells,
    *,
    inverted: bool,
    windowing: VoiWindow | None,
    film: bool = True,
) -> FloatArray:
    """Return the grey of every possible pixel cell, as a person sees the picture.

    By the transform of :func:`grey_transform`, but blank pictures are shown too: where the percentiles are
    equal, the least and the greatest value become black and white.

    Parameters
    ----------
    ds, cell, cells, inverted
        As for :func:`grey_transform`.
    windowing
        Window to apply; None for the one of the header.
    film
        True for a radiograph, whose window must show most of it.

    Returns
    -------
    numpy.ndarray
        Shape (256,) or (65536,), float32 in [0, 1], in the MONOCHROME2 sense.
    """
    stored = stored_values(cell, cells)
    padding = _padding(ds, stored)
    values = read_modality(ds).values(stored)
    if windowing is not None:
        return _shown(windowing.grey(values), padding, inverted=inverted)
    counts = np.bincount(cells.ravel(), minlength=len(stored))
    used = (counts > 0) & ~padding
    if not used.any():
        return np.zeros(len(stored), np.float32)
    low, high = _percentiles(values[used], counts[used])
    if not high > low:
        low, high = float(values[used].min()), float(values[used].max())
    least = _LEAST_SHOWN if film else 0.0
    voi = _voi(ds, values, low, max(high, low + 1), values[used], counts[used], least=least)
    return _shown(voi, padding, inverted=inverted)


def _shown(grey: Values, padding: NDArray[np.bool_], *, inverted: bool) -> FloatArray:
    grey = np.where(padding, 0, 1 - grey if inverted else grey)
    # np.clip passes NaN. Finite tables, slopes and windows give none; this makes sure of it.
    return np.clip(np.nan_to_num(grey), 0, 1).astype(np.float32)


@dataclass(frozen=True, slots=True)
class HeaderWindow:
    """Window that a header offers, on the greys of a full range table.

    Attributes
    ----------
    name
        Window Center & Width Explanation; may be empty.
    center, width
        As of :class:`DisplayWindow`.
    """

    name: str
    center: float
    width: float


@dataclass(frozen=True, slots=True, eq=False)
class DisplayWindow:
    """Window on the greys of a full range table, and the curve between its ends.

    Attributes
    ----------
    center, width
        Centre and width in greys, where 0 is black and 1 the film's greatest value.
    curve
        Displayed greys in [0, 1] at `CURVE_ENTRIES` evenly spaced places from the lower to the upper end of
        the window: a VOI LUT or a SIGMOID. None for the straight line from 0 to 1.
    slope, intercept
        Line from the greys to the values after the Modality LUT or rescale, which windows of a header are in:
        a value is the intercept and slope times its grey. Without either these are the stored values.
    offered
        Windows of the header, usable or not, at most `MOST_OFFERED`; none for a film with a curve.
    """

    center: float
    width: float
    curve: FloatArray | None = None
    slope: float = 1.0
    intercept: float = 0.0
    offered: tuple[HeaderWindow, ...] = ()


def full_range_table(
    ds: Dataset, cell: PixelCell, cells: Cells, *, inverted: bool, visible: Mask | None = None
) -> tuple[FloatArray, DisplayWindow]:
    """Return the grey of every possible pixel cell over the full range of the film's values, and its window.

    A :class:`GreyTransform` cuts values outside of the window; this keeps them apart, for a person who moves
    the window. Through the window and its curve, both are the same picture.

    Parameters
    ----------
    ds, cell, cells, inverted, visible
        As for :func:`grey_transform`.

    Returns
    -------
    table : numpy.ndarray
        Shape (256,) or (65536,), float32: 0 for padding alone, from `LEAST_SEEN` to 1 for the values of the
        film. The brighter a value is displayed, the greater it is: in the MONOCHROME2 sense, unless the VOI
        LUT falls.
    window : DisplayWindow
        Window of the header, else the one between the picture's `PERCENTILES`.

    Raises
    ------
    NotAnalysable
        ``blank`` when all pixels have one value, or all are padding.
    """
    stored = stored_values(cell, cells)
    padding = _padding(ds, stored)
    values = read_modality(ds).values(stored)
    counts = np.bincount(cells.ravel() if visible is None else cells[visible], minlength=len(stored))
    used = (counts > 0) & ~padding
    if not used.any() or not (span := float(np.ptp(values[used]))) > 0:
        raise NotAnalysable("blank", "the picture is blank: its pixels have one value, or are padding")
    least = float(values[used].min())
    low, high, curve = _between(ds, values, values[used], counts[used])
    center, width = ((low + high) / 2 - least) / span, max((high - low) / span, 1 / _WORDS)
    grey = np.clip((values - least) / span, 0, 1)
    if curve is not None and inverted:
        curve = 1 - curve
    falls = inverted if curve is None else curve[-1] < curve[0]
    if falls:
        grey, center = 1 - grey, 1 - center
        curve = None if curve is None else curve[::-1]
    seen = 1 - LEAST_SEEN
    slope, black = (-span, least + span) if falls else (span, least)
    slope, intercept = slope / seen, black - slope / seen * LEAST_SEEN
    offered = [] if curve is not None else read_named_windows(ds)
    window = DisplayWindow(
        LEAST_SEEN + seen * center,
        seen * width,
        curve,
        slope,
        intercept,
        tuple(_on_greys(name, each, slope, intercept) for name, each in islice(offered, MOST_OFFERED)),
    )
    return _shown(LEAST_SEEN + seen * grey, padding, inverted=False), window


def _on_greys(name: str, window: VoiWindow, slope: float, intercept: float) -> HeaderWindow:
    low, high = ((end - intercept) / slope for end in window.ends)
    return HeaderWindow(name[:_NAME_LENGTH], (low + high) / 2, max(abs(high - low), 1 / _WORDS))


def _between(
    ds: Dataset, values: Values, used: Values, counts: NDArray[Any]
) -> tuple[float, float, FloatArray | None]:
    """Return the values between which the header shows greys, and the curve of greys unless it is straight.

    Without a usable VOI LUT or window, these are the picture's percentiles.
    """
    low, high = _percentiles(used, counts)
    high = high if high > low else float(used.max())
    # A window reaches beyond the values that can occur; within a range more, every curve has come to rest, or
    # is as good as straight.
    possible = np.unique(values)
    span = possible[-1] - possible[0]
    beyond = np.linspace(0, span, CURVE_ENTRIES + 1)[1:]
    points = np.concatenate([(possible[0] - beyond)[::-1], possible, possible[-1] + beyond])
    grey = np.clip(_voi(ds, points, low, high, used, counts), 0, 1)
    inner = np.flatnonzero((grey > 0) & (grey < 1))
    if inner.size > 1 and grey[inner[-1]] > grey[inner[0]]:
        (first, last), (start, end) = points[inner[[0, -1]]], grey[inner[[0, -1]]]
        slope = (end - start) / (last - first)
        black, white = first - start / slope, last + (1 - end) / slope
        if np.abs(np.clip((points - black) / (white - black), 0, 1) - grey).max() < _ONE_GREY / 2:
            return float(black), float(white), None
    rises = int(np.argmax(np.abs(grey - grey[0]) > _REST))
    rests = len(grey) - int(np.argmax(np.abs(grey - grey[-1])[::-1] > _REST))
    ends = float(points[max(rises - 1, 0)]), float(points[min(rests, len(points) - 1)])
    return *ends, np.interp(np.linspace(*ends, CURVE_ENTRIES), points, grey).astype(np.float32)


def _percentiles(used: Values, counts: NDArray[Any]) -> tuple[float, float]:
    """Return the `PERCENTILES` of distinct values with their counts."""
    order = np.argsort(used)
    share = 100 * np.cumsum(counts[order]) / counts.sum()
    places = np.minimum(np.searchsorted(share, PERCENTILES), len(used) - 1)
    low, high = (float(used[order][place]) for place in places)
    return low, high


def _padding(ds: Dataset, stored: Values) -> NDArray[np.bool_]:
    """Return a mask of the stored values that are padding (PS3.3 C.7.5.1.1.2)."""
    first = next(iter(attributes.numbers(ds, "PixelPaddingValue")), math.nan)
    limit = next(iter(attributes.numbers(ds, "PixelPaddingRangeLimit")), first)
    low, high = sorted((first, first if math.isnan(limit) else limit))
    # NaN stands for a missing or malformed value, and equals no stored value.
    return (stored >= low) & (stored <= high)


def _voi(
    ds: Dataset,
    values: Values,
    low: float,
    high: float,
    used: Values,
    counts: NDArray[Any] | None = None,
    *,
    least: float = _LEAST_SHOWN,
) -> Values:
    """Return values as greys in [0, 1], by the VOI LUT or window that :func:`_fitting` finds."""
    voi = _fitting(ds, low, high, used, counts, least=least)
    return GreyTransform(voi, inverted=False).voi_transform(ds).grey(values)


def _fitting(
    ds: Dataset,
    low: float,
    high: float,
    used: Values,
    counts: NDArray[Any] | None = None,
    *,
    least: float = _LEAST_SHOWN,
) -> VoiWindow | int:
    """Return the VOI LUT or window that shows the picture, as :class:`GreyTransform` has it (PS3.3 C.11.2).

    The first that shows it is taken, else the window from `low` to `high`, the picture's percentiles. One
    does not show it when these become the same grey under it, or nearly all of the pixels black or white.

    Parameters
    ----------
    used, counts
        Values of the picture without its padding, and how often each occurs; once when None.
    least
        Share of the pixels that must become neither black nor white.
    """
    candidates: list[tuple[VoiWindow | int, VoiWindow | Lut]] = [
        *enumerate(read_luts(ds, "VOILUTSequence")),
        *((window, window) for window in read_windows(ds)),
    ]
    for voi, transform in candidates:
        first, last = transform.grey(np.array([low, high]))
        if abs(last - first) <= _ONE_GREY:
            continue
        grey = transform.grey(used)
        between = (grey > _ONE_GREY) & (grey < 1 - _ONE_GREY)
        if np.average(between, weights=counts) >= least:
            return voi
    # LINEAR, the function that every viewer knows: black at `low`, white at `high` (PS3.3 C.11.2.1.2.1).
    return VoiWindow((low + high + 1) / 2, high - low + 1)
