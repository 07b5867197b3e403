"""Drawn films: pictures like chest films, drawn by the node, of nobody."""

from __future__ import annotations

import functools
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


@functools.lru_cache(maxsize=32)
def chest(rows: int = 512, columns: int = 448, *, seed: int = 0, view: str = "PA") -> NDArray[Any]:
    """Draw a picture like a chest film: dark lungs in a bright body on a black ground.

    Parameters
    ----------
    seed
        Number that decides the noise and one small shadow.
    view
        View Position: ``LL``, ``RL`` or ``LATERAL`` for a lateral film, else frontal.

    Returns
    -------
    numpy.ndarray
        Shape (rows, columns), float32 in [0, 1], read-only.
    """
    rng = np.random.default_rng(seed)
    y, x = np.meshgrid(np.linspace(-1, 1, rows), np.linspace(-1, 1, columns), indexing="ij")

    def blob(cx: float, cy: float, rx: float, ry: float, edge: float = 12.0) -> NDArray[Any]:
        distance = np.sqrt(((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2)
        return 1 / (1 + np.exp(np.clip((distance - 1) * edge, -50, 50)))

    picture = 0.72 * blob(0, 0.15, 0.95, 1.35)
    lungs = ((0.05, -0.05, 0.55, 0.72),) if view in ("LL", "LATERAL", "RL") else (
        (-0.45, -0.05, 0.33, 0.68),
        (0.45, -0.05, 0.33, 0.68),
    )  # fmt: skip
    for lung in lungs:
        picture -= 0.5 * blob(*lung)
    picture += 0.25 * blob(0, 0.1, 0.1, 1.3)  # spine
    picture += 0.25 * blob(0.17, 0.3, 0.26, 0.3, 8)  # heart
    ribs = 0.04 * np.sin(14 * (y + 0.25 * x**2))
    picture += ribs * blob(0, 0, 0.85, 0.9)
    picture += rng.normal(0, 0.012, picture.shape)
    picture += 0.06 * rng.random() * blob(rng.uniform(-0.5, 0.5), rng.uniform(-0.4, 0.4), 0.08, 0.08)
    result: NDArray[Any] = np.clip(picture, 0, 1).astype(np.float32)
    result.setflags(write=False)
    return result


@functools.cache
def drawn_film(view: str) -> bytes:
    """Return a drawn film as a PNG file of 8 bits.

    Parameters
    ----------
    view
        View Position: ``PA``, or ``LL`` for a lateral film.
    """
    stream = io.BytesIO()
    Image.fromarray((chest(640, 560, seed=1, view=view) * 255).astype(np.uint8)).save(stream, "PNG")
    return stream.getvalue()
