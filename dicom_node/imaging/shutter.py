"""Display shutter and collimator of a film (PS3.3 C.7.6.11, C.8.7.3): what of the picture is to be seen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicom_node.imaging import attributes
from dicom_node.imaging.pixel_shape import aspect_ratio

_LEAST_LEFT: Final = 0.05
"""Share of the picture that must be left; a header that leaves less describes another picture."""
_LEAST_VERTICES: Final = 3

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Rectangle:
    """Rectangular shutter: its edges, which are seen, as columns and rows from 1."""

    left: float
    right: float
    upper: float
    lower: float

    def mask(self, rows: int, columns: int) -> Mask:
        """Mask of the pixels inside, shape (rows, columns)."""
        y, x = _grid(rows, columns)
        inside: Mask = (x >= self.left) & (x <= self.right) & (y >= self.upper) & (y <= self.lower)
        return inside


@dataclass(frozen=True, slots=True)
class Circle:
    """Circular shutter.

    Attributes
    ----------
    row, column
        Row and column of its center, from 1.
    radius
        Radius in columns.
    aspect_ratio
        Ratio of a pixel's height to its width, from :func:`dicom_node.imaging.pixel_shape.aspect_ratio`.
    """

    row: float
    column: float
    radius: float
    aspect_ratio: float = 1.0

    def mask(self, rows: int, columns: int) -> Mask:
        """Mask of the pixels inside, shape (rows, columns)."""
        y, x = _grid(rows, columns)
        down, across = (y - self.row) * self.aspect_ratio, x - self.column
        inside: Mask = down**2 + across**2 <= self.radius**2
        return inside


@dataclass(frozen=True, slots=True)
class Polygon:
    """Polygonal shutter: the row and column of each vertex, from 1."""

    vertices: tuple[tuple[float, float], ...]

    def mask(self, rows: int, columns: int) -> Mask:
        """Mask of the pixels inside, by the even-odd rule; shape (rows, columns)."""
        mask = np.zeros((rows, columns), bool)
        x = np.arange(1, columns + 1)
        vertices = np.array(self.vertices)
        ends = np.roll(vertices, -1, axis=0)
        for row in range(1, rows + 1):
            crosses = (vertices[:, 0] <= row) != (ends[:, 0] <= row)
            (y1, x1), (y2, x2) = vertices[crosses].T, ends[crosses].T
            at = np.sort(x1 + (row - y1) * (x2 - x1) / (y2 - y1))
            mask[row - 1] = np.searchsorted(at, x, side="right") % 2 == 1
        return mask


Shape: TypeAlias = Rectangle | Circle | Polygon


def shapes(ds: Dataset, rows: int, columns: int) -> list[Shape]:
    """Shapes of the shutters and collimators that cover some of the picture.

    Parameters
    ----------
    ds
        Header of the film.
    rows, columns
        Size of the picture, in pixels.

    Returns
    -------
    list of Shape
        Shapes inside of all of which the picture is seen; none when nothing is covered, or when what is
        described leaves next to nothing of the picture.
    """
    return [shape for shape, _ in _believed(ds, rows, columns)]


def visible(ds: Dataset, rows: int, columns: int) -> Mask | None:
    """Mask of the pixels inside of every one of the :func:`shapes`.

    Parameters
    ----------
    ds, rows, columns
        As for :func:`shapes`.

    Returns
    -------
    numpy.ndarray or None
        Shape (rows, columns), True where the picture is seen; None when there are no shapes.
    """
    masks = [mask for _, mask in _believed(ds, rows, columns)]
    return np.logical_and.reduce(masks) if masks else None


def _believed(ds: Dataset, rows: int, columns: int) -> list[tuple[Shape, Mask]]:
    described = [
        *_described(ds, "Shutter", "CircularShutter", "PolygonalShutter"),
        *_described(ds, "Collimator", "CircularCollimator", "PolygonalCollimator"),
    ]
    masks = [(shape, shape.mask(rows, columns)) for shape in described]
    found = [(shape, mask) for shape, mask in masks if _LEAST_LEFT <= mask.mean() < 1]
    left = np.logical_and.reduce([mask for _, mask in found]).mean() if found else 0
    return found if left >= _LEAST_LEFT else []


def _described(ds: Dataset, kind: str, circular: str, polygonal: str) -> Iterator[Shape]:
    for shape in attributes.texts(ds, f"{kind}Shape"):
        if shape.upper() == "RECTANGULAR":
            edges = [
                attributes.numbers(ds, f"{kind}{edge}Edge")[:1]
                for edge in ("LeftVertical", "RightVertical", "UpperHorizontal", "LowerHorizontal")
            ]
            if all(edge and np.isfinite(edge[0]) for edge in edges):
                yield Rectangle(*(edge[0] for edge in edges))
        elif shape.upper() == "CIRCULAR":
            center = attributes.numbers(ds, f"CenterOf{circular}")
            radius = attributes.numbers(ds, f"RadiusOf{circular}")[:1]
            if len(center) == 2 and radius and np.isfinite([*center, *radius]).all():
                yield Circle(center[0], center[1], radius[0], aspect_ratio(ds))
        elif shape.upper() == "POLYGONAL":
            points = np.array(attributes.numbers(ds, f"VerticesOfThe{polygonal}"))
            if len(points) % 2 == 0 and len(points) >= 2 * _LEAST_VERTICES and np.isfinite(points).all():
                yield Polygon(tuple((float(row), float(column)) for row, column in points.reshape(-1, 2)))


def _grid(rows: int, columns: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row numbers as a column and column numbers as a row, from 1."""
    return np.arange(1, rows + 1)[:, None], np.arange(1, columns + 1)[None, :]
