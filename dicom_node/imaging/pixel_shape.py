"""Shape of a film's pixels: their height over their width (PS3.3 C.7.6.3.1.7, 10.7.1)."""

from __future__ import annotations

import math
from typing import Final

from pydicom.dataset import Dataset

from dicom_node.imaging import attributes

_ATTRIBUTES: Final = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio")
"""Attributes that state a vertical and a horizontal size, in the order that they are asked. The
standard allows Pixel Aspect Ratio only where there is none of the others."""
_SQUARE: Final = 0.01
"""Difference of the sides, as a share, that is a rounded number and no shape."""
_MOST: Final = 4.0
"""Greatest ratio of the sides that a film can have; beyond it, the header is wrong."""


def aspect_ratio(header: Dataset) -> float:
    """Ratio of a pixel's height to its width: vertical spacing divided by horizontal spacing.

    Parameters
    ----------
    header
        Header of the film.

    Returns
    -------
    float
        From 1/4 to 4; 1 where the header says nothing that can be used, or sides that differ by 1 % or less.
        An attribute with values that no film has is passed over.
    """
    for keyword in _ATTRIBUTES:
        sides = attributes.numbers(header, keyword)[:2]
        if len(sides) < 2 or not all(0 < side < math.inf for side in sides):
            continue
        ratio = sides[0] / sides[1]
        if not 1 / _MOST <= ratio <= _MOST:
            continue
        return 1.0 if abs(ratio - 1) <= _SQUARE else ratio
    return 1.0


def imager_spacing(header: Dataset) -> tuple[float, float] | None:
    """Imager Pixel Spacing: vertical and horizontal distance of two pixels (PS3.3 C.8.11.7.1.1).

    It is measured at the detector; what lies before it in the patient is smaller than it seems.

    Returns
    -------
    tuple of float or None
        Millimetres; None where the header has none, or values that no film has.
    """
    sides = attributes.numbers(header, "ImagerPixelSpacing")[:2]
    if len(sides) < 2 or not all(0 < side < math.inf for side in sides):
        return None
    down, across = sides
    return (down, across) if 1 / _MOST <= down / across <= _MOST else None


def true_size(width: float, height: float, ratio: float) -> tuple[float, float]:
    """Size of a picture in square pixels as small as its own, so that it has its true shape and loses none.

    Parameters
    ----------
    width, height
        Size in pixels that are `ratio` times as high as wide.
    ratio
        As from :func:`aspect_ratio`.

    Returns
    -------
    width, height : float
        Size in square pixels.
    """
    return width * max(1.0, 1 / ratio), height * max(1.0, ratio)
