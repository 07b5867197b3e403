"""Preprocessing from a film's pixels to a network's input, and the way back from its grid to the film.

Training, evaluation and serving call the same :class:`Preprocessing`, whose parameters travel in the bundle.
With torch it runs two chains of MONAI transforms (:mod:`models.processing.film_transforms`); their twin
without torch is :mod:`models.processing.array_transforms`:

1. :meth:`~Preprocessing.standardise`: rows x columns -> square ``grid``, by area averaging so that a film of
   10 megapixels costs milliseconds; then the percentile window, so that a film without a DICOM window looks
   like one with it.
2. :meth:`~Preprocessing.tensor`: a batch of those -> ``size``, normalised, ``channels`` deep.

The square does not keep the aspect ratio; neither do the films that the bundles are trained on. An imported
network may ask for another fit: borders around the whole film, or the square in its middle.
"""

from __future__ import annotations

import hashlib
import importlib
import json
from dataclasses import asdict, dataclass, replace
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from models.processing.monai_loading import load_monai
from models.processing.resampling import linear_weights
from models.processing.types import FloatArray

if TYPE_CHECKING:
    from torch import Tensor

FITS = ("squash", "pad", "crop")
"""Fits of a film into the square: squashed; whole, with black borders; or the square in its middle."""
WINDOWS = ("percentiles", "none")
"""Windows of a film's values: between two of its percentiles, or as they are."""
#: Side of the network's square, in cells, from which the part over the film is cut.
_MAP_SIDE = 256
_OPTIONAL = ("fit", "window")
"""Entries of the table that are left out where they have their defaults, as older bundles leave them out."""

#: A film whose two percentiles differ by less than this is blank.
_BLANK = 1e-6


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
    fit
        Fit of the film into the square, one of :data:`FITS`.
    window
        Window of the film's values, one of :data:`WINDOWS`; `low` and `high` count with percentiles alone.

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
    fit: str = "squash"
    window: str = "percentiles"

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
        for name, choices in (("fit", FITS), ("window", WINDOWS)):
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"preprocessing: {name} {getattr(self, name)!r} is none of {', '.join(choices)}"
                )

    @classmethod
    def from_table(cls, table: dict[str, Any]) -> Preprocessing:
        """Read what :meth:`table` wrote.

        Raises
        ------
        ValueError
            If an entry is missing, unknown, of another type or out of range: nothing falls back to a default.
        """
        kinds = cls._kinds()
        expected = {name: kind for name, kind in kinds.items() if name in table or name not in _OPTIONAL}
        if set(table) != set(expected):
            odd = ", ".join(sorted(set(table) ^ set(expected)))
            raise ValueError(f"preprocessing: missing or unknown {odd}")
        for name, kind in expected.items():
            # An integer is accepted for a real number; a bool never is.
            if type(table[name]) not in ((kind,) if kind is str else (kind, int)):
                raise ValueError(f"preprocessing: {name} = {table[name]!r} is not of type {kind.__name__}")
        values: dict[str, Any] = {name: kind(table[name]) for name, kind in expected.items()}
        return cls(**values)

    def table(self) -> dict[str, int | float | str]:
        """Parameters as the bundle's ``[preprocessing]`` table; real numbers are written as such."""
        default = type(self)()
        return {
            name: kind(getattr(self, name))
            for name, kind in self._kinds().items()
            if name not in _OPTIONAL or getattr(self, name) != getattr(default, name)
        }

    @classmethod
    def _kinds(cls) -> dict[str, type[int | float | str]]:
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
        transforms, film = _film_transforms(), fitted(pixels, self.fit)
        if self.window == "none":
            return transforms.square(film, self.grid)  # type: ignore[no-any-return]
        return transforms.standardise(film, self.grid, self.low, self.high)  # type: ignore[no-any-return]

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
        transforms = _film_transforms()
        return transforms.prepare(films, self.size, self.channels, self.mean, self.std)  # type: ignore[no-any-return]

    def __call__(self, films: list[FloatArray]) -> Tensor:
        """Run both steps: films of any shapes -> network input, shape (n, channels, size, size)."""
        return self.tensor(_film_transforms().stack([self.standardise(film) for film in films]))


def _film_transforms() -> ModuleType:
    """Import the transforms, and MONAI with them, when the first film is prepared."""
    load_monai()
    return importlib.import_module("models.processing.film_transforms")


def percentile_window(values: FloatArray, low: float, high: float) -> tuple[np.float32, np.float32] | None:
    """Two percentiles of a film's values; None for a blank film, in which they are the same.

    Parameters
    ----------
    low, high
        Percentiles, in [0, 100].

    Raises
    ------
    ValueError
        If a value is not finite.
    """
    if not np.isfinite(values).all():
        raise ValueError("a film holds values that are not finite")
    ends = np.percentile(values, (low, high)).astype(np.float32)
    return None if ends[1] - ends[0] < _BLANK else (ends[0], ends[1])


def fitted(pixels: FloatArray, fit: str) -> FloatArray:
    """Film as it is resized to the square: itself, with black borders, or the square in its middle.

    Parameters
    ----------
    pixels
        Shape (rows, columns), float32.
    fit
        One of :data:`FITS`.
    """
    rows, columns = pixels.shape
    if fit == "squash" or rows == columns:
        return pixels
    if fit == "crop":
        side = min(rows, columns)
        top, left = (rows - side) // 2, (columns - side) // 2
        return pixels[top : top + side, left : left + side]
    side = max(rows, columns)
    top, left = (side - rows) // 2, (side - columns) // 2
    return np.pad(pixels, ((top, side - rows - top), (left, side - columns - left)))


def over_film(grid: FloatArray, shape: tuple[int, int], fit: str) -> FloatArray:
    """Map that covers the whole film, from one that covers the network's square: the inverse of a fit.

    Parameters
    ----------
    grid
        Shape (height, width), over the square.
    shape
        Rows and columns of the film.
    fit
        One of :data:`FITS`.

    Returns
    -------
    numpy.ndarray
        Shape (height, width), float32; 0 where the network did not look.
    """
    if fit == "squash" or shape[0] == shape[1]:
        return grid
    square = to_source(grid, (_MAP_SIDE, _MAP_SIDE))
    side = min(shape) if fit == "crop" else max(shape)
    rows, columns = (max(1, round(_MAP_SIDE * length / side)) for length in shape)
    if fit == "crop":
        film = np.zeros((rows, columns), np.float32)
        top, left = (rows - _MAP_SIDE) // 2, (columns - _MAP_SIDE) // 2
        film[top : top + _MAP_SIDE, left : left + _MAP_SIDE] = square
        return film
    top, left = (_MAP_SIDE - rows) // 2, (_MAP_SIDE - columns) // 2
    return np.ascontiguousarray(square[top : top + rows, left : left + columns])


def to_source(grid: ArrayLike, shape: tuple[int, int]) -> FloatArray:
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
    cells = np.asarray(grid, np.float32)
    rows, columns = (linear_weights(*sides) for sides in zip(cells.shape, shape, strict=True))
    film: FloatArray = np.linalg.multi_dot([rows, cells, columns.T])
    # Rounding may carry a value beyond the range of the grid's values.
    return np.clip(film, cells.min(), cells.max(), out=film)
