"""Where the lungs are on a frontal film: an estimate by darkness and place, for figures and checks.

No outline of a radiologist went into it, and none is replaced by it. A lung is what is dark for its side of
the film and hangs together with the place where a lung always is; a side on which that comes out too small or
too large, such as a white lung, gets the place where lungs usually are. It tends to take in what lies above
the clavicle, and to leave out what is white in the lung and what lies behind the heart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name that everybody knows
from numpy.typing import NDArray
from torch import Tensor

from models.transforms import Preprocessing
from models.types import FloatArray

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

    lungs: NDArray[np.bool_]
    chest: NDArray[np.bool_]
    guessed: int


def find_lungs(pixels: FloatArray) -> Anatomy:
    """Estimate where the lungs of a frontal film are.

    Parameters
    ----------
    pixels
        Shape (rows, columns), float32 in [0, 1], lungs dark.
    """
    film = _STANDARD.standardise(pixels)[None, None]
    film = F.avg_pool2d(F.pad(film, (1, 1, 1, 1), mode="replicate"), 3, 1)
    body = 1 - _around(film)
    sides, guessed = [], 0
    for wide, core, usual in zip(_WIDE, _CORE, _USUAL, strict=True):
        place = wide * body
        dark = place * (film <= _split(film[place > 0]))
        opened = _grown(_shrunk(dark)) * dark
        lung = _connected(core, opened)
        lung = _shrunk(_grown(lung, 2), 2) * wide
        if not _LEAST <= float(lung.mean()) <= _MOST:
            lung, guessed = usual, guessed + 1
        sides.append(lung)
    lungs = torch.maximum(*sides)
    left = lungs.flip(3).cumsum(3).flip(3) > 0
    between = (lungs.cumsum(3) > 0) & left
    chest = _grown(between.float())
    return Anatomy(lungs[0, 0].numpy() > 0, chest[0, 0].numpy() > 0, guessed)


def find_body(pixels: FloatArray) -> NDArray[np.bool_]:
    """Where on a film, frontal or lateral, there is more than air; shape (GRID, GRID), bool."""
    air: NDArray[np.bool_] = _around(_STANDARD.standardise(pixels)[None, None])[0, 0].numpy() > 0
    return ~air


def _around(film: Tensor) -> Tensor:
    """Air that reaches the edge of the film, and the collimator's shadow."""
    edge = torch.ones_like(film)
    edge[..., 1:-1, 1:-1] = 0
    return _connected(edge, (film < _AIR).float() * (1 - _grown(_CORE[0] + _CORE[1], 2)))


def _split(values: Tensor) -> float:
    """Threshold between the dark and the bright (Otsu 1979)."""
    ordered = np.sort(values.numpy())
    if len(ordered) < 2:
        return 0.0
    sums, below = np.cumsum(ordered), np.arange(1, len(ordered))
    above = len(ordered) - below
    between = below * above * (sums[:-1] / below - (sums[-1] - sums[:-1]) / above) ** 2
    return float(ordered[between.argmax()])


def _grown(mask: Tensor, cells: int = 1) -> Tensor:
    return F.max_pool2d(mask, 2 * cells + 1, 1, cells)


def _shrunk(mask: Tensor, cells: int = 1) -> Tensor:
    return 1 - _grown(1 - mask, cells)


def _connected(seed: Tensor, mask: Tensor) -> Tensor:
    """What of a mask hangs together with the seed."""
    reached = seed * mask
    for _ in range(2 * GRID):
        further = _grown(reached) * mask
        if torch.equal(further, reached):
            break
        reached = further
    return reached


def _places(above: float, below: float, inner: float, top: float, bottom: float) -> tuple[Tensor, Tensor]:
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
    centres = (torch.arange(GRID) + 0.5) / GRID
    down, across = centres[:, None], centres[None] - 0.5
    share = ((down - 0.05) / 0.8).clamp(0, 1)
    middle, half = 0.15 + 0.08 * share, above + (below - above) * share
    capped = ((down - (top + bottom) / 2).abs() / ((bottom - top) / 2)) ** 4
    sides = (
        ((((side * across - middle) / half).abs() ** 2.5 + capped <= 1) & (side * across > inner)).float()
        for side in (-1, 1)
    )
    left, right = (side[None, None] for side in sides)
    return left, right


_WIDE = _places(0.13, 0.22, 0.035, 0.06, 0.88)
"""Where a lung may be."""
_CORE = _places(0.05, 0.07, 0.05, 0.2, 0.6)
"""Where it is on every film."""
_USUAL = _places(0.09, 0.13, 0.04, 0.12, 0.72)
"""Where it is on most."""
