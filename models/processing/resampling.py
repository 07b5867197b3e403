"""Resampling of pictures, in NumPy: each axis by the weights of its source pixels.

The values are those of ``torch.nn.functional.interpolate`` without ``align_corners``, but for rounding.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from models.processing.types import FloatArray

#: Coefficient of the cubic convolution (Keys 1981) that torch uses.
_KEYS = -0.75
_FEW_ROWS = 4
"""Most rows under a new one that are added all at once: beyond, a copy of the picture takes longer."""


def resample(image: FloatArray, shape: tuple[int, int]) -> FloatArray:
    """Resize a picture: area averaging downwards, bilinear upwards, axis by axis.

    Parameters
    ----------
    image
        Shape (rows, columns), float32.
    shape
        Rows and columns of the result.
    """
    smaller = (min(image.shape[0], shape[0]), min(image.shape[1], shape[1]))
    if smaller != image.shape:
        image = _averaged(_averaged(image, smaller[0]).T, smaller[1]).T
    if smaller != shape:
        rows, columns = (linear_weights(*sides) for sides in zip(smaller, shape, strict=True))
        image = np.linalg.multi_dot([rows, image, columns.T])
    return np.ascontiguousarray(image)


def _averaged(image: FloatArray, rows: int) -> FloatArray:
    """Average over the rows that each new row covers in part or whole (adaptive average pooling)."""
    count = len(image)
    if rows == count:
        return image
    image = np.ascontiguousarray(image)
    first, covered = _covered(count, rows)
    if covered.max() <= _FEW_ROWS:
        # All first rows, then all second ones: a call of NumPy for each row takes longer than its sum.
        total = image[first]
        for step in range(1, covered.max()):
            further = np.flatnonzero(covered > step)
            total[further] += image[first[further] + step]
    else:
        total = np.empty((rows, image.shape[1]), np.float32)
        for row, (begin, length) in enumerate(zip(first, covered, strict=True)):
            np.add.reduce(image[begin : begin + length], axis=0, out=total[row])
    total /= covered[:, None].astype(np.float32)
    return total


@lru_cache(maxsize=16)
def _covered(count: int, rows: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """First row that each new row covers in part or whole, and their number."""
    row = np.arange(rows)
    first = row * count // rows
    return first, -(-(row + 1) * count // rows) - first


@lru_cache(maxsize=16)
def linear_weights(cells: int, pixels: int) -> FloatArray:
    """Weights of each cell in each pixel along one axis, for linear interpolation; shape (pixels, cells)."""
    place = np.maximum((np.arange(pixels) + 0.5) * (cells / pixels) - 0.5, 0)
    first = np.minimum(place.astype(int), cells - 1)
    share = place - first
    weights = np.zeros((pixels, cells))
    rows = np.arange(pixels)
    weights[rows, first] = 1 - share
    weights[rows, np.minimum(first + 1, cells - 1)] += share
    return _kept(weights)


@lru_cache(maxsize=16)
def cubic_weights(cells: int, pixels: int) -> FloatArray:
    """Weights of each cell in each pixel along one axis, for cubic interpolation; shape (pixels, cells)."""
    place = (np.arange(pixels) + 0.5) * (cells / pixels) - 0.5
    first = np.floor(place).astype(int)
    weights = np.zeros((pixels, cells))
    for tap in (-1, 0, 1, 2):
        away = np.abs(place - (first + tap))
        near = ((_KEYS + 2) * away - (_KEYS + 3)) * away**2 + 1
        far = ((away - 5) * away + 8) * away * _KEYS - 4 * _KEYS
        cell = np.clip(first + tap, 0, cells - 1)
        np.add.at(weights, (np.arange(pixels), cell), np.where(away <= 1, near, far))
    return _kept(weights)


@lru_cache(maxsize=16)
def antialiased_weights(cells: int, pixels: int) -> FloatArray:
    """Weights of each cell in each pixel along one axis, shape (pixels, cells), antialiased as in Pillow.

    A triangle as wide as a pixel of the result covers in cells, and never narrower than one cell each way.
    """
    scale = cells / pixels
    support = max(scale, 1.0)
    centres = scale * (np.arange(pixels) + 0.5)
    first = np.maximum((centres - support + 0.5).astype(int), 0)
    last = np.minimum((centres + support + 0.5).astype(int), cells)
    cell = np.arange(cells)
    weights = np.maximum(1 - np.abs((cell - centres[:, None] + 0.5) / support), 0)
    weights[(cell < first[:, None]) | (cell >= last[:, None])] = 0
    return _kept(weights / weights.sum(axis=1, keepdims=True))


def shrink(image: FloatArray, side: int) -> FloatArray:
    """Resize a square picture to a smaller square by :func:`antialiased_weights`."""
    taps = _antialiased_taps(len(image), side)
    return _weighed(_weighed(image, taps).T, taps).T


def _weighed(image: FloatArray, taps: tuple[NDArray[np.intp], FloatArray]) -> FloatArray:
    """Sum of the rows that each new row is made of.

    Few rows have a weight, and a product of matrices would wake the threads of the BLAS for thousands of
    zeros.
    """
    image = np.ascontiguousarray(image)
    total: FloatArray = np.zeros((taps[0].shape[1], image.shape[1]), np.float32)
    for rows, weights in zip(*taps, strict=True):
        total += image[rows] * weights[:, None]
    return total


@lru_cache(maxsize=16)
def _antialiased_taps(cells: int, pixels: int) -> tuple[NDArray[np.intp], FloatArray]:
    """Cells with a weight in each pixel, and these weights; both of shape (taps, pixels)."""
    weights = antialiased_weights(cells, pixels)
    first = (weights != 0).argmax(axis=1)
    place = first + np.arange(np.count_nonzero(weights, axis=1).max())[:, None]
    rows = np.minimum(place, cells - 1)
    return rows, np.where(place < cells, weights[np.arange(pixels), rows], 0).astype(np.float32)


def _kept(weights: NDArray[np.float64]) -> FloatArray:
    """Weights as float32 that no caller can change: they are cached."""
    kept: FloatArray = weights.astype(np.float32)
    kept.flags.writeable = False
    return kept
