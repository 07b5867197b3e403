"""Where the lungs are on a frontal film: an estimate by darkness and place, for figures and checks.

No outline of a radiologist went into it, and none is replaced by it. A lung is what is dark for its side of
the film and hangs together with the place where a lung always is; a side on which that comes out too small or
too large, such as a white lung, gets the place where lungs usually are. It tends to take in what lies above
the clavicle, and to leave out what is white in the lung and what lies behind the heart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from models.processing.transforms import Preprocessing
from models.processing.types import FloatArray

BoolArray: TypeAlias = NDArray[np.bool_]

#: Cells across and down.
GRID = 64
#: How a film is brought to the grid, whatever a bundle's own preprocessing is.
_STANDARD = Preprocessing(grid=GRID, size=GRID)

#: Air around the patient is darker than this, and reaches the film's edge.
_AIR = 0.12
#: Of the film, that a lung of an upright adult covers.
_LEAST, _MOST = 0.05, 0.2


@dataclass(frozen=True, slots=True, eq=False)
class Anatomy:
    """What is where on a frontal film.

    Attributes
    ----------
    lungs
        Shape (GRID, GRID), bool; cell (i, j) covers the rows from ``i / GRID`` of the film on, and so for
        columns.
    chest
        The lungs and, row by row, what is between them, and one cell around.
    guessed
        Sides, 0 to 2, on which nothing like a lung was found and the usual place stands for it.
    """

    lungs: BoolArray
    chest: BoolArray
    guessed: int


def find_lungs(pixels: FloatArray) -> Anatomy:
    """Estimate where the lungs of a frontal film are, in some milliseconds.

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
    """Where on a film, frontal or lateral, there is more than air; shape (GRID, GRID), bool."""
    return ~_around(_standard(pixels))


def thinned(values: FloatArray) -> FloatArray:
    """Every so many pixels: four times :data:`GRID` or more are left, of which the cells are averages."""
    rows, columns = (max(1, side // (4 * GRID)) for side in values.shape)
    return np.ascontiguousarray(values[::rows, ::columns])


def _standard(pixels: FloatArray) -> FloatArray:
    """Film on the grid within its percentiles, each cell averaged with its neighbours."""
    padded = np.pad(_STANDARD.standardise(thinned(pixels)).numpy(), 1, mode="edge")
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
    """By so many cells in every direction, diagonals included."""
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
    """What of a mask hangs together with the seed, side by side.

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
    """Place of each lung, apex near the midline and base far from it, in shares of the film's sides.

    Parameters
    ----------
    above, below
        Half of its width at the apex and at the base.
    inner
        Its least distance from the midline.
    top, bottom
        Where it begins and ends.
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
"""Where a lung may be."""
_CORE = _places(0.05, 0.07, 0.05, 0.2, 0.6)
"""Where it is on every film."""
_USUAL = _places(0.09, 0.13, 0.04, 0.12, 0.72)
"""Where it is on most."""
