"""Preprocessing from a film's pixels to a network's input, and the way back from its grid to the film.

Training, evaluation and serving call the same :class:`Preprocessing`, whose parameters travel in the bundle.
It runs two chains of MONAI transforms (:mod:`models.processing.film_transforms`):

1. :meth:`~Preprocessing.standardise`: rows x columns -> square ``grid``, by area averaging so that a film of
   10 megapixels costs milliseconds; then the percentile window, so that a film without a DICOM window looks
   like one with it.
2. :meth:`~Preprocessing.tensor`: a batch of those -> ``size``, normalised, ``channels`` deep.

The square does not keep the aspect ratio; neither do the films that the bundles are trained on.
"""

from __future__ import annotations

import hashlib
import importlib
import json
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the usual name
from numpy.typing import NDArray
from torch import Tensor

from models.processing.monai_loading import load_monai
from models.processing.types import FloatArray

if TYPE_CHECKING:
    from monai.transforms import Compose


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """Preprocessing of films, and its parameters.

    Attributes
    ----------
    grid
        Side of the square that every film is resized to first, in pixels.
    low, high
        Percentiles of the film's values that become 0 and 1.
    size
        Side of the network's input, in pixels; 8 to `grid`.
    channels
        Number of channels of the network's input: 1, or 3 equal ones.
    mean, std
        Mean and standard deviation of the normalisation, on the scale [0, 1].

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
            # An integer is accepted for a real number; a bool never is.
            if type(table[name]) not in (kind, int):
                raise ValueError(f"preprocessing: {name} = {table[name]!r} is not of type {kind.__name__}")
        values: dict[str, Any] = {name: kind(table[name]) for name, kind in expected.items()}
        return cls(**values)

    def table(self) -> dict[str, int | float]:
        """Parameters as the bundle's ``[preprocessing]`` table; real numbers are written as such."""
        return {name: kind(getattr(self, name)) for name, kind in self._kinds().items()}

    @classmethod
    def _kinds(cls) -> dict[str, type[int | float]]:
        return {name: type(value) for name, value in asdict(cls()).items()}

    def digest(self) -> str:
        """Short hash of all parameters."""
        return hashlib.sha256(json.dumps(self.table(), sort_keys=True).encode()).hexdigest()[:16]

    def resized(self, size: int) -> Preprocessing:
        """Copy of this preprocessing with another input size."""
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

        Raises
        ------
        ValueError
            If a value is not finite.
        """
        # A copy only where torch asks for one: it takes neither read-only nor negatively strided arrays.
        if not pixels.flags.writeable or min(pixels.strides) < 0:
            pixels = pixels.copy()
        try:
            film: Tensor = _standardisation(self.grid, self.low, self.high)(torch.from_numpy(pixels)[None])[0]
        except RuntimeError as error:
            # MONAI's Compose wraps what a transform raises.
            if isinstance(error.__cause__, ValueError):
                raise error.__cause__ from None
            raise
        return film

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
        flat: Tensor = _network_input(self.size, self.channels, self.mean, self.std)(films)
        batch = flat.reshape(len(films), self.channels, self.size, self.size)
        return batch.contiguous(memory_format=torch.channels_last)

    def __call__(self, films: list[FloatArray]) -> Tensor:
        """Run both steps: films of any shapes -> network input, shape (n, channels, size, size)."""
        return self.tensor(torch.stack([self.standardise(film) for film in films]))


@lru_cache(maxsize=8)
def _standardisation(grid: int, low: float, high: float) -> Compose:
    chain: Compose = _film_transforms().standardisation(grid, low, high)
    return chain


@lru_cache(maxsize=8)
def _network_input(size: int, channels: int, mean: float, std: float) -> Compose:
    chain: Compose = _film_transforms().network_input(size, channels, mean, std)
    return chain


def _film_transforms() -> ModuleType:
    """Import the transforms, and MONAI with them, when the first film is prepared."""
    load_monai()
    return importlib.import_module("models.processing.film_transforms")


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
    """Resize a map on the network's grid to the film's rows and columns, bilinearly: the inverse geometry.

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
    # Rounding may carry a value beyond the range of the grid's values.
    values: FloatArray = film.clamp_(cells.min(), cells.max()).numpy()
    return values


@lru_cache(maxsize=8)
def _weights(cells: int, pixels: int) -> Tensor:
    """Weights of each cell in each pixel along one axis, shape (pixels, cells), for linear interpolation.

    Two matrix products with them take a fifth of the time of ``F.interpolate`` to the size of a film.
    """
    return F.interpolate(torch.eye(cells)[None], pixels, mode="linear", align_corners=False)[0].T.contiguous()
