"""Chest films as they come in: what differs from film to film without making it another kind of picture."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name that everybody knows
from numpy.random import Generator
from numpy.typing import NDArray

from models.processing.types import FloatArray

#: Standard deviation of a tilt in radians, largest change of either side's length (as the logarithm of a
#: factor), and largest shift as a share of half the film.
_TILT, _STRETCH, _SHIFT = 0.07, 0.18, 0.1
#: Largest shares of a side that are cut off, or added as the edge of a collimator.
_CUT, _BORDER = 0.14, 0.2
#: The same of a small patient on a large plate, on every side.
_MARGIN = 0.45


def vary(film: FloatArray, generator: Generator) -> FloatArray:
    """Change position, crop, borders, contrast and grain of a film; sometimes mirror or mark it.

    Parameters
    ----------
    film
        Shape (rows, columns), float32 in [0, 1].

    Returns
    -------
    numpy.ndarray
        Film of nearly the same shape, float32 in [0, 1].
    """
    changed = _exposed(_framed(_moved(film, generator), generator), generator)
    if _coin(generator, 0.3):
        changed = _marked(changed, generator)
    result: FloatArray = np.ascontiguousarray(np.clip(changed, 0, 1), dtype=np.float32)
    return result


def invert(film: FloatArray) -> FloatArray:
    """Turn the grey scale round."""
    return 1 - film


def turn(film: FloatArray, quarters: int) -> FloatArray:
    """Turn a film by so many quarters of a circle."""
    return np.ascontiguousarray(np.rot90(film, quarters))


def corner(film: FloatArray, generator: Generator) -> FloatArray:
    """Cut a corner out of a film, too small to show a chest."""
    rows, columns = (max(8, round(side * generator.uniform(0.15, 0.3))) for side in film.shape)
    top = 0 if _coin(generator, 0.5) else film.shape[0] - rows
    left = 0 if _coin(generator, 0.5) else film.shape[1] - columns
    return film[top : top + rows, left : left + columns].copy()


def part(picture: FloatArray, generator: Generator) -> FloatArray:
    """Cut anything between a sixth and two thirds out of a picture."""
    rows, columns = (max(8, round(side * generator.uniform(0.4, 0.8))) for side in picture.shape)
    top, left = (
        int(generator.integers(0, whole - side + 1))
        for whole, side in zip(picture.shape, (rows, columns), strict=True)
    )
    return picture[top : top + rows, left : left + columns].copy()


def _coin(generator: Generator, share: float) -> bool:
    return bool(generator.random() < share)


def _moved(film: FloatArray, generator: Generator) -> FloatArray:
    """Mirror, tilt, stretch and shift; beyond the edge lies black, or what lies at the edge."""
    angle = generator.normal(0, _TILT) if _coin(generator, 0.8) else 0.0
    across, down = np.exp(generator.uniform(-_STRETCH, _STRETCH, 2))
    right, below = generator.uniform(-_SHIFT, _SHIFT, 2)
    mirror = -1 if _coin(generator, 0.3) else 1
    rows = [
        [mirror * across * np.cos(angle), -np.sin(angle), right],
        [np.sin(angle), down * np.cos(angle), below],
    ]
    picture = torch.from_numpy(np.ascontiguousarray(film))[None, None]
    grid = F.affine_grid(torch.tensor([rows], dtype=torch.float32), list(picture.shape), align_corners=False)
    beyond = "border" if _coin(generator, 0.5) else "zeros"
    moved: FloatArray = F.grid_sample(picture, grid, padding_mode=beyond, align_corners=False)[0, 0].numpy()
    return moved


def _framed(film: FloatArray, generator: Generator) -> FloatArray:
    """Cut some off each side, or put the edge of a collimator, or the rest of a large plate there."""
    rows, columns = film.shape
    sides = (rows, rows, columns, columns)
    kind = generator.random()
    if kind < 0.3:  # noqa: PLR2004
        top, bottom, left, right = (int(generator.uniform(0, _CUT) * side) for side in sides)
        return film[top : rows - bottom, left : columns - right]
    if kind < 0.65:  # noqa: PLR2004
        top, bottom, left, right = (
            int(generator.uniform(0, _BORDER) * side) if _coin(generator, 0.6) else 0 for side in sides
        )
        shade = 0.0 if _coin(generator, 0.7) else 1.0 if _coin(generator, 0.6) else float(np.median(film))
        return np.pad(film, ((top, bottom), (left, right)), constant_values=shade)
    if kind < 0.8:  # noqa: PLR2004
        top, bottom, left, right = (int(generator.uniform(0.1, _MARGIN) * side) for side in sides)
        return np.pad(film, ((top, bottom), (left, right)))
    return film


def _exposed(film: FloatArray, generator: Generator) -> NDArray[np.floating]:
    """Change gamma and window, add grain, blur."""
    changed: NDArray[np.floating] = film
    if _coin(generator, 0.7):
        changed = changed ** np.float32(np.exp(generator.uniform(-0.6, 0.6)))
    if _coin(generator, 0.4):
        low, high = generator.uniform(0, 0.17), generator.uniform(0.65, 1)
        changed = np.clip((changed - low) / (high - low), 0, 1)
    if _coin(generator, 0.3):
        changed = generator.uniform(0, 0.5) + generator.uniform(0.15, 0.5) * changed
    if _coin(generator, 0.3):
        changed = changed + generator.normal(0, generator.uniform(0.005, 0.04), changed.shape)
    if _coin(generator, 0.15):
        sharp = torch.from_numpy(np.ascontiguousarray(changed, dtype=np.float32))[None, None]
        coarse = F.avg_pool2d(sharp, int(generator.integers(2, 4)))
        changed = F.interpolate(coarse, changed.shape, mode="bilinear")[0, 0].numpy()
    return changed


def _marked(film: NDArray[np.floating], generator: Generator) -> NDArray[np.floating]:
    """Put a white mark, as letters are, near one side."""
    rows, columns = film.shape
    size = int(generator.integers(4, max(6, rows // 8)))
    strokes = generator.random((max(2, size // 4),) * 2) < 0.5  # noqa: PLR2004
    mark = np.kron(strokes, np.ones((4, 4), bool))[:size, :size]
    top = int(generator.integers(0, rows - size))
    edge = int(generator.integers(0, max(1, columns // 5 - size)))
    left = edge if _coin(generator, 0.5) else columns - size - edge
    marked = np.array(film)
    marked[top : top + mark.shape[0], left : left + mark.shape[1]][mark] = 1
    return marked
