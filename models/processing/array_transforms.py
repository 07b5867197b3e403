"""Preprocessing of films in NumPy: the arithmetic of :mod:`models.processing.film_transforms` without torch.

The two give the same numbers but for rounding; where torch is not installed, or not worth its start, films
are prepared here.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.processing.resampling import resample, shrink
from models.processing.transforms import Preprocessing, fitted, percentile_window
from models.processing.types import FloatArray


def standardise(preprocessing: Preprocessing, pixels: FloatArray) -> FloatArray:
    """Bring one film to the square grid and the percentile window.

    Parameters
    ----------
    pixels
        Shape (rows, columns), float32.

    Returns
    -------
    numpy.ndarray
        Shape (grid, grid), float32 in [0, 1]; zeros for a blank film.

    Raises
    ------
    ValueError
        If a value is not finite.
    """
    film = fitted(pixels, preprocessing.fit)
    square = resample(film, (preprocessing.grid, preprocessing.grid))
    if preprocessing.window == "none":
        if not np.isfinite(square).all():
            raise ValueError("a film holds values that are not finite")
        return square
    window = percentile_window(square, preprocessing.low, preprocessing.high)
    if window is None:
        return np.zeros_like(square)
    low, high = window
    windowed: FloatArray = np.clip((square - low) / (high - low), 0, 1)
    return windowed


def network_input(preprocessing: Preprocessing, films: Sequence[FloatArray]) -> FloatArray:
    """Bring standardised films to the network's size, scale and channels.

    Parameters
    ----------
    films
        Each of shape (grid, grid), float32 in [0, 1].

    Returns
    -------
    numpy.ndarray
        Shape (n, channels, size, size), float32.
    """
    size = preprocessing.size
    images = np.empty((len(films), preprocessing.channels, size, size), np.float32)
    for image, film in zip(images, films, strict=True):
        small = film if size == preprocessing.grid else shrink(film, size)
        # The same value in every channel.
        image[:] = (small - np.float32(preprocessing.mean)) / np.float32(preprocessing.std)
    return images
