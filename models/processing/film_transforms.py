"""MONAI transforms of films: those that MONAI lacks, and the two chains of the preprocessing.

Imported by :class:`models.processing.transforms.Preprocessing` when the first film is prepared, not before:
importing MONAI takes seconds (:mod:`models.processing.monai_loading`), and commands that read no film must
not pay for it.

Importing this module turns MONAI's metadata tracking off for the process. The films carry no metadata, and
a ``MetaTensor`` at each step costs more time than the arithmetic.
"""

from __future__ import annotations

from functools import lru_cache
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the usual name
from monai.data import MetaTensor, get_track_meta, set_track_meta
from monai.transforms import (
    Compose,
    InvertibleTransform,
    NormalizeIntensity,
    RepeatChannel,
    ScaleIntensityRange,
    Transform,
)
from monai.utils import TransformBackends, convert_to_tensor
from torch import Tensor

from models.processing.transforms import percentile_window, to_source
from models.processing.types import FloatArray

set_track_meta(False)


def standardise(pixels: FloatArray, grid: int, low: float, high: float) -> Tensor:
    """Run :func:`standardisation` on one film of shape (rows, columns).

    Raises
    ------
    ValueError
        If a value is not finite.
    """
    # A copy only where torch asks for one: it takes neither read-only nor negatively strided arrays.
    if not pixels.flags.writeable or min(pixels.strides) < 0:
        pixels = pixels.copy()
    try:
        film: Tensor = standardisation(grid, low, high)(torch.from_numpy(pixels)[None])[0]
    except RuntimeError as error:
        # MONAI's Compose wraps what a transform raises.
        if isinstance(error.__cause__, ValueError):
            raise error.__cause__ from None
        raise
    return film


def square(pixels: FloatArray, grid: int) -> Tensor:
    """Resize one film of shape (rows, columns) to a square as :class:`SquareResize` does, and no more.

    Raises
    ------
    ValueError
        If a value is not finite.
    """
    if not np.isfinite(pixels).all():
        raise ValueError("a film holds values that are not finite")
    return resample(torch.from_numpy(np.ascontiguousarray(pixels))[None, None], (grid, grid))[0, 0]


def prepare(films: Tensor, size: int, channels: int, mean: float, std: float) -> Tensor:
    """Run :func:`network_input` on films of shape (n, grid, grid); gives (n, channels, size, size)."""
    flat: Tensor = network_input(size, channels, mean, std)(films)
    batch = flat.reshape(len(films), channels, size, size)
    return batch.contiguous(memory_format=torch.channels_last)


def stack(films: list[Tensor]) -> Tensor:
    """Batch of standardised films."""
    return torch.stack(films)


def resample(batch: Tensor, shape: tuple[int, int]) -> Tensor:
    """Resize (n, c, rows, columns) to a shape: area averaging downwards, bilinear upwards, axis by axis."""
    rows, columns = batch.shape[-2:]
    smaller = (min(rows, shape[0]), min(columns, shape[1]))
    if smaller != (rows, columns):
        batch = F.interpolate(batch, smaller, mode="area")
    if smaller != shape:
        batch = F.interpolate(batch, shape, mode="bilinear", align_corners=False)
    return batch


class SquareResize(InvertibleTransform):
    """Resize of a channel-first image to a square: area averaging downwards, bilinear upwards, per axis.

    MONAI's ``Resize(mode="area")`` is the same where both sides shrink, but repeats pixels where one grows.
    :meth:`inverse` brings an image back to its rows and columns; it needs metadata tracking.

    Parameters
    ----------
    side
        Side of the square, in pixels.
    """

    backend: ClassVar = [TransformBackends.TORCH]

    def __init__(self, side: int) -> None:
        self.side = side

    def __call__(self, img: Tensor) -> Tensor:
        """Resize an image of shape (channels, rows, columns) to (channels, side, side)."""
        image = convert_to_tensor(img, track_meta=get_track_meta())
        square: Tensor = resample(convert_to_tensor(image, track_meta=False)[None], (self.side, self.side))[0]
        if isinstance(image, MetaTensor):
            square = MetaTensor(square).copy_meta_from(image)
            self.push_transform(square, orig_size=tuple(image.shape[1:]))
        return square

    def inverse(self, data: Tensor) -> Tensor:
        """Bring an image that this transform resized back to its original shape, bilinearly."""
        shape = self.pop_transform(data)["orig_size"]
        source = torch.stack(
            [
                torch.from_numpy(to_source(channel, shape))
                for channel in convert_to_tensor(data, track_meta=False)
            ]
        )
        return MetaTensor(source).copy_meta_from(data)  # type: ignore[no-any-return]


class PercentileWindow(Transform):
    """Linear scaling of an image so that two of its percentiles become 0 and 1, clipped to [0, 1].

    Differs from MONAI's ``ScaleIntensityRangePercentiles`` in three points: both percentiles are found in one
    pass, a blank image becomes zeros, and an image with a value that is not finite is refused.

    Parameters
    ----------
    low, high
        Percentiles, in [0, 100].
    """

    backend: ClassVar = [TransformBackends.TORCH]

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high

    def __call__(self, img: Tensor) -> Tensor:
        """Scale an image of any shape.

        Raises
        ------
        ValueError
            If a value is not finite.
        """
        # NumPy finds them on one thread: for so few values, torch spends its time on waking the others.
        values = convert_to_tensor(img, track_meta=False).numpy()
        window = percentile_window(values, self.low, self.high)
        if window is None:
            return torch.zeros_like(img)
        return ScaleIntensityRange(*window, 0, 1, clip=True)(img)  # type: ignore[no-any-return]


class AntialiasedResize(Transform):
    """Bilinear resize of a channel-first image to a square, antialiased as in Pillow.

    MONAI's ``Resize(anti_aliasing=True)`` blurs with a Gaussian first and gives other values.

    Parameters
    ----------
    side
        Side of the square, in pixels.
    """

    backend: ClassVar = [TransformBackends.TORCH]

    def __init__(self, side: int) -> None:
        self.side = side

    def __call__(self, img: Tensor) -> Tensor:
        """Resize an image of shape (channels, rows, columns) to (channels, side, side)."""
        if img.shape[-2:] == (self.side, self.side):
            return img
        return F.interpolate(img[:, None], (self.side, self.side), mode="bilinear", antialias=True)[:, 0]


@lru_cache(maxsize=8)
def standardisation(grid: int, low: float, high: float) -> Compose:
    """Build the chain for one film: (1, rows, columns) -> (1, grid, grid), float32 in [0, 1]."""
    return Compose([SquareResize(grid), PercentileWindow(low, high)])


@lru_cache(maxsize=8)
def network_input(size: int, channels: int, mean: float, std: float) -> Compose:
    """Build the chain for a batch of standardised films: (n, grid, grid) -> (n * channels, size, size).

    The films stand in the place of an image's channels, so that a batch takes one pass. The channels of a
    film follow one another in the result.
    """
    return Compose(
        [
            AntialiasedResize(size),
            NormalizeIntensity(subtrahend=mean, divisor=std),
            *([RepeatChannel(channels)] if channels > 1 else []),
        ]
    )
