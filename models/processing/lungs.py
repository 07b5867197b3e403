"""Lung regions of a frontal film: an estimate by darkness and position, for figures and checks.

The estimate uses no outline drawn by a radiologist, and replaces none. A lung is the region that is dark for
its side of the film and connected to the core position, where every lung lies. If that region is too small or
too large, as with a white lung, the usual position stands in for it. The estimate tends to include the area
above the clavicle, and to leave out white parts of the lung and the part behind the heart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from models.processing.array_transforms import standardise
from models.processing.transforms import Preprocessing
from models.processing.types import FloatArray

BoolArray: TypeAlias = NDArray[np.bool_]

#: Side of the grid, in cells.
GRID = 64
#: Preprocessing of a film to the grid; independent of a bundle's own.
_STANDARD = Preprocessing(grid=GRID, size=GRID)

#: Air around the patient is darker than this, and reaches the film's edge.
_AIR = 0.12
#: Smallest and largest share of the film that one lung of an upright adult covers.
_LEAST, _MOST = 0.05, 0.2


@dataclass(frozen=True, slots=True, eq=False)
class Anatomy:
    """Anatomical regions of a frontal film.

    Attributes
    ----------
    lungs
        Shape (GRID, GRID), bool; cell (i, j) covers the rows from ``i / GRID`` of the film on, and so for
        columns.
    chest
        The lungs, the cells between them row by row, and a margin of one cell; same shape.
    guessed
        Number of sides, 0 to 2, on which no lung was found and the usual position stands in for it.
    """

    lungs: BoolArray
    chest: BoolArray
    guessed: int


def find_lungs(pixels: FloatArray) -> Anatomy:
    """Estimate the lung regions of a frontal film, in a few milliseconds.

    Parameters
    ----------
    pixels
        Shape (rows, columns), float32 in [0, 1], lungs dark.
    """
    film = _standard(pixels)
    body = ~_around(film)
    lungs, guessed = np.zeros_like(body), 0
    for wide, core, usual in zip(_WIDE, _CORE, _USUAL, strict=True):
        place = wide & body
        dark = place & (film <= _split(film[place]))
        lung = _connected(core, _grown(_shrunk(dark)) & dark)
        lung = _shrunk(_grown(lung, 2), 2) & wide
        if not _LEAST <= float(lung.mean()) <= _MOST:
            lung, guessed = usual, guessed + 1
        lungs |= lung
    between = np.logical_or.accumulate(lungs, axis=1)
    between &= np.logical_or.accumulate(lungs[:, ::-1], axis=1)[:, ::-1]
    return Anatomy(lungs, _grown(between), guessed)


def find_body(pixels: FloatArray) -> BoolArray:
    """Find the body on a film of any view: all but the surrounding air; shape (GRID, GRID), bool."""
    return ~_around(_standard(pixels))


def thinned(values: FloatArray) -> FloatArray:
    """Subsample a film by whole steps; at least four times :data:`GRID` pixels are left on each axis."""
    rows, columns = (max(1, side // (4 * GRID)) for side in values.shape)
    return np.ascontiguousarray(values[::rows, ::columns])


def _standard(pixels: FloatArray) -> FloatArray:
    """Film on the grid within its percentiles, each cell averaged with its neighbours."""
    padded = np.pad(standardise(_STANDARD, thinned(pixels)), 1, mode="edge")
    return _added(_added(padded, 0), 1) / np.float32(9)


def _added(padded: FloatArray, axis: int) -> FloatArray:
    middle, ends = padded.take(range(1, padded.shape[axis] - 1), axis), padded.shape[axis]
    return middle + padded.take(range(ends - 2), axis) + padded.take(range(2, ends), axis)


def _around(film: FloatArray) -> BoolArray:
    """Air that reaches the edge of the film, and the collimator's shadow."""
    edge = np.pad(np.zeros((GRID - 2, GRID - 2), bool), 1, constant_values=True)
    return _connected(edge, (film < _AIR) & ~_grown(_CORE[0] | _CORE[1], 2))


def _split(values: FloatArray) -> float:
    """Threshold between the dark and the bright (Otsu 1979)."""
    ordered = np.sort(values)
    if len(ordered) < 2:
        return 0.0
    sums, below = np.cumsum(ordered), np.arange(1, len(ordered))
    above = len(ordered) - below
    between = below * above * (sums[:-1] / below - (sums[-1] - sums[:-1]) / above) ** 2
    return float(ordered[between.argmax()])


def _grown(mask: BoolArray, cells: int = 1) -> BoolArray:
    """Dilate a mask by a number of cells in every direction, diagonals included."""
    for _axis in (0, 1):
        grown = mask.copy()
        for shift in range(1, cells + 1):
            grown[shift:] |= mask[:-shift]
            grown[:-shift] |= mask[shift:]
        mask = grown.T
    return mask


def _shrunk(mask: BoolArray, cells: int = 1) -> BoolArray:
    return ~_grown(~mask, cells)


def _connected(seed: BoolArray, mask: BoolArray) -> BoolArray:
    """Part of a mask that is connected to the seed by shared sides (4-connectivity).

    A run of the mask along a row or a column is reached as a whole when one of its cells is.
    """
    across = np.cumsum(~np.pad(mask, ((0, 0), (1, 0)))).reshape(GRID, GRID + 1)[:, 1:]
    down = np.cumsum(~np.pad(mask.T, ((0, 0), (1, 0)))).reshape(GRID, GRID + 1)[:, 1:].T
    reached, before = seed & mask, -1
    while (count := int(reached.sum())) > before:
        before = count
        for runs in (across, down):
            hit = np.zeros(GRID * (GRID + 1) + 1, bool)
            hit[runs[reached]] = True
            reached = mask & hit[runs]
    return reached


def _places(
    above: float, below: float, inner: float, top: float, bottom: float
) -> tuple[BoolArray, BoolArray]:
    """Position of each lung, apex near the midline and base far from it, in shares of the film's sides.

    Parameters
    ----------
    above, below
        Half the width of a lung at the apex and at the base.
    inner
        Smallest distance of a lung from the midline.
    top, bottom
        Upper and lower end of a lung.
    """
    centres = (np.arange(GRID) + 0.5) / GRID
    down, across = centres[:, None], centres[None] - 0.5
    share = np.clip((down - 0.05) / 0.8, 0, 1)
    middle, half = 0.15 + 0.08 * share, above + (below - above) * share
    capped = (np.abs(down - (top + bottom) / 2) / ((bottom - top) / 2)) ** 4

    def lung(side: int) -> BoolArray:
        inside: BoolArray = np.abs((side * across - middle) / half) ** 2.5 + capped <= 1
        return inside & (side * across > inner)

    return lung(-1), lung(1)


_WIDE = _places(0.13, 0.22, 0.035, 0.06, 0.88)
"""Largest region in which each lung may lie."""
_CORE = _places(0.05, 0.07, 0.05, 0.2, 0.6)
"""Core position of each lung, part of it on every film."""
_USUAL = _places(0.09, 0.13, 0.04, 0.12, 0.72)
"""Usual position of each lung."""
