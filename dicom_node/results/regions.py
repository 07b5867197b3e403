"""Hot region of a heat map, as a box on the film."""

from __future__ import annotations

import itertools
from typing import Final

import numpy as np
from numpy.typing import NDArray

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
    down, across = _connected(grid >= LEVEL * peak, int(grid.argmax()))
    down_by, across_by = (1.0, 1.0) if shape is None else (shape[0] / rows, shape[1] / columns)
    return (
        float(left[min(across)] * across_by),
        float(top[min(down)] * down_by),
        float(left[max(across) + 1] * across_by),
        float(top[max(down) + 1] * down_by),
    )


def _connected(hot: NDArray[np.bool_], start: int) -> tuple[list[int], list[int]]:
    """Rows and columns of the cells that are joined to one by their sides; `start` counts row by row."""
    stride = hot.shape[1] + 2
    open_cells = bytearray(np.pad(hot, 1).tobytes())  # within a border, where the way ends
    row, column = divmod(start, hot.shape[1])
    front = [(row + 1) * stride + column + 1]
    open_cells[front[0]] = 0
    reached = []
    while front:
        cell = front.pop()
        reached.append(cell)
        for beside in (cell - stride, cell + stride, cell - 1, cell + 1):
            if open_cells[beside]:
                open_cells[beside] = 0
                front.append(beside)
    return [cell // stride - 1 for cell in reached], [cell % stride - 1 for cell in reached]
