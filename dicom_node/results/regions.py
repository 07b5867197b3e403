"""Hot region of a heat map, as a box on the film."""

from __future__ import annotations

import itertools
from typing import Final

import numpy as np

from dicom_node.results.report import FloatArray

LEVEL: Final = 0.5
"""Share of the map's maximum that belongs to its region."""

_GRID: Final = 64


def hot_box(
    heat: FloatArray, shape: tuple[int, int] | None = None
) -> tuple[float, float, float, float] | None:
    """Bounding box of the connected region around a heat map's maximum.

    The map is reduced to a grid of at most 64 x 64 by taking maxima; a box is as coarse as that.

    Parameters
    ----------
    heat
        Shape (rows, columns), in [0, 1].
    shape
        Rows and columns of the film that it covers; the map's own when None.

    Returns
    -------
    tuple of float or None
        Left, top, right, bottom in columns and rows of the film, the top left corner of the top left pixel
        being (0, 0); None when the map is nowhere above 0.
    """
    rows, columns = heat.shape
    top = np.unique(np.linspace(0, rows, min(rows, _GRID) + 1).astype(int))
    left = np.unique(np.linspace(0, columns, min(columns, _GRID) + 1).astype(int))
    # Rows first and band by band, which numpy does at the speed of memory.
    bands = np.stack([heat[start:stop].max(axis=0) for start, stop in itertools.pairwise(top)])
    grid = np.maximum.reduceat(bands, left[:-1], axis=1)
    peak = grid.max()
    if not peak > 0:
        return None
    hot = grid >= LEVEL * peak
    start = np.unravel_index(int(grid.argmax()), grid.shape)
    reached = {(int(start[0]), int(start[1]))}
    front = list(reached)
    while front:
        row, column = front.pop()
        for cell in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
            inside = 0 <= cell[0] < grid.shape[0] and 0 <= cell[1] < grid.shape[1]
            if inside and cell not in reached and hot[cell]:
                reached.add(cell)
                front.append(cell)
    down, across = ([cell[axis] for cell in reached] for axis in (0, 1))
    down_by, across_by = (1.0, 1.0) if shape is None else (shape[0] / rows, shape[1] / columns)
    return (
        float(left[min(across)] * across_by),
        float(top[min(down)] * down_by),
        float(left[max(across) + 1] * across_by),
        float(top[max(down) + 1] * down_by),
    )
