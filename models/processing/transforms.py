"""The one way from a film's pixels to a network's input, and back from the network's grid to the film.

Training, evaluation and serving call the same :class:`Preprocessing`, whose parameters travel in the bundle:

1. :meth:`~Preprocessing.standardise`: any rows x columns -> square ``grid``, by area averaging so that a
   film of 10 megapixels costs milliseconds; then the percentile window, so that a film without a DICOM window
   looks like one with it.
2. :meth:`~Preprocessing.tensor`: a batch of those -> ``size``, normalised, ``channels`` deep.

The square shape squashes the aspect, as the films that the bundles are trained on do. The arithmetic is
MONAI's ``Resize(mode="area")``, ``ScaleIntensityRangePercentiles`` and ``NormalizeIntensity``, and a test
holds it to them; it is written in torch because importing MONAI doubles the time that a worker needs to
become ready.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name that everybody knows
from numpy.typing import NDArray
from torch import Tensor

from models.processing.types import FloatArray

#: Films with less spread than this between the two percentiles are blank and become zeros.
_BLANK = 1e-6


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """Parameters of the preprocessing, and the preprocessing itself.

    Attributes
    ----------
    grid
        Side of the square that every film is brought to first, in pixels.
    low, high
        Percentiles that become 0 and 1.
    size
        Side of the network's input, in pixels; at most `grid`.
    channels
        1, or 3 equal ones.
    mean, std
        Of the normalisation, on the scale [0, 1].

    Raises
    ------
    ValueError
        If a parameter is out of range.
    """

    grid: int = 256
    low: float = 0.5
    high: float = 99.5
    size: int = 224
    channels: int = 1
    mean: float = 0.5
    std: float = 0.5

    def __post_init__(self) -> None:
        if not 8 <= self.size <= self.grid:
            raise ValueError(f"preprocessing: size {self.size} is not within 8 and the grid of {self.grid}")
        if not 0 <= self.low < self.high <= 100:
            raise ValueError(
                f"preprocessing: percentiles {self.low} and {self.high} are no window within 0 and 100"
            )
        if self.channels not in (1, 3):
            raise ValueError(f"preprocessing: {self.channels} channels, not 1 or 3")
        if not self.std > 0:
            raise ValueError(f"preprocessing: standard deviation {self.std} is not positive")

    @classmethod
    def from_table(cls, table: dict[str, Any]) -> Preprocessing:
        """Read what :meth:`table` wrote.

        Raises
        ------
        ValueError
            If an entry is missing, unknown, of another type or out of range: nothing falls back to a default.
        """
        expected = cls._kinds()
        if set(table) != set(expected):
            odd = ", ".join(sorted(set(table) ^ set(expected)))
            raise ValueError(f"preprocessing: missing or unknown {odd}")
        for name, kind in expected.items():
            # A whole number will do where a real one is asked for, and True will do nowhere.
            if type(table[name]) not in (kind, int):
                raise ValueError(f"preprocessing: {name} = {table[name]!r} is not of type {kind.__name__}")
        values: dict[str, Any] = {name: kind(table[name]) for name, kind in expected.items()}
        return cls(**values)

    def table(self) -> dict[str, int | float]:
        """All parameters, for the bundle's ``[preprocessing]``; real ones are written as such."""
        return {name: kind(getattr(self, name)) for name, kind in self._kinds().items()}

    @classmethod
    def _kinds(cls) -> dict[str, type[int | float]]:
        return {name: type(value) for name, value in asdict(cls()).items()}

    def digest(self) -> str:
        """Short hash of all parameters."""
        return hashlib.sha256(json.dumps(self.table(), sort_keys=True).encode()).hexdigest()[:16]

    def resized(self, size: int) -> Preprocessing:
        """The same for another input size."""
        return replace(self, size=size)

    def standardise(self, pixels: FloatArray) -> Tensor:
        """Bring one film to the square grid and the percentile window.

        Parameters
        ----------
        pixels
            Shape (rows, columns), float32.

        Returns
        -------
        torch.Tensor
            Shape (grid, grid), float32 in [0, 1]; zeros for a blank film.
        """
        # A copy only where torch asks for one: it takes neither read-only nor negatively strided arrays.
        if not pixels.flags.writeable or min(pixels.strides) < 0:
            pixels = pixels.copy()
        square = resample(torch.from_numpy(pixels)[None, None], (self.grid, self.grid))[0, 0].numpy()
        if not np.isfinite(square).all():
            raise ValueError("a film holds values that are not finite")
        # In NumPy, on one thread: for so few values, torch would spend its time on waking the others.
        low, high = np.percentile(square, (self.low, self.high)).astype(np.float32)
        if high - low < _BLANK:
            return torch.zeros(square.shape)
        return torch.from_numpy(np.clip((square - low) / (high - low), 0, 1))

    def tensor(self, films: Tensor) -> Tensor:
        """Bring a batch of standardised films to the network's size, scale and channels.

        Parameters
        ----------
        films
            Shape (n, grid, grid), float32 in [0, 1].

        Returns
        -------
        torch.Tensor
            Shape (n, channels, size, size), float32, channels last in memory.
        """
        batch = films[:, None]
        if films.shape[-1] != self.size:
            batch = F.interpolate(batch, (self.size, self.size), mode="bilinear", antialias=True)
        batch = (batch - self.mean) / self.std
        return batch.expand(-1, self.channels, -1, -1).contiguous(memory_format=torch.channels_last)

    def __call__(self, films: list[FloatArray]) -> Tensor:
        """Both steps: films of any shapes -> network input, shape (n, channels, size, size)."""
        return self.tensor(torch.stack([self.standardise(film) for film in films]))


def resample(batch: Tensor, shape: tuple[int, int]) -> Tensor:
    """Resize (n, c, rows, columns) to a shape: area averaging downwards, bilinear upwards, axis by axis."""
    rows, columns = batch.shape[-2:]
    smaller = (min(rows, shape[0]), min(columns, shape[1]))
    if smaller != (rows, columns):
        batch = F.interpolate(batch, smaller, mode="area")
    if smaller != shape:
        batch = F.interpolate(batch, shape, mode="bilinear", align_corners=False)
    return batch


def to_source(grid: Tensor | NDArray[np.float32], shape: tuple[int, int]) -> FloatArray:
    """Inverse of the geometry: a map on the network's grid -> the film's rows and columns, bilinear.

    Parameters
    ----------
    grid
        Shape (height, width). Cell (i, j) covers the film's rows from ``i / height`` to ``(i + 1) / height``
        of them, and so for columns, because the preprocessing squashes the whole film into the square.
    shape
        Rows and columns of the film.

    Returns
    -------
    numpy.ndarray
        Shape (rows, columns), float32, within the range of `grid`.
    """
    cells = torch.as_tensor(grid, dtype=torch.float32)
    rows, columns = (_weights(*sides) for sides in zip(cells.shape, shape, strict=True))
    film = (rows @ cells) @ columns.T
    # Rounding may carry a value past those that it lies between.
    values: FloatArray = film.clamp_(cells.min(), cells.max()).numpy()
    return values


@lru_cache(maxsize=8)
def _weights(cells: int, pixels: int) -> Tensor:
    """What each cell of a line adds to each pixel of it, shape (pixels, cells): bilinear interpolation.

    Two products with them take a fifth of the time of interpolating a map to the size of a film.
    """
    return F.interpolate(torch.eye(cells)[None], pixels, mode="linear", align_corners=False)[0].T.contiguous()
