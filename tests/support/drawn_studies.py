"""Drawn films as arrays, and studies of such films."""

from __future__ import annotations

import numpy as np

from models.processing.types import Film, Study


def draw_film(rows: int, columns: int, seed: int) -> np.ndarray:
    """Film with one bright spot, shape (rows, columns), float32 in [0, 1]."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0 : 1 : rows * 1j, 0 : 1 : columns * 1j]
    centre = random.uniform(0.2, 0.8, 2)
    blob = np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / 0.05)
    return np.clip(0.5 * blob + 0.2 * x + 0.1 * random.random((rows, columns)), 0, 1).astype(np.float32)


def draw_study(seed: int = 0) -> Study:
    """Study of two films with different shapes."""
    return Study(
        (
            Film(f"{seed}.front", draw_film(150, 120, seed)),
            Film(f"{seed}.side", draw_film(90, 130, seed + 1000)),
        )
    )
