"""Display shutter and collimator of a film (PS3.3 C.7.6.11, C.8.7.3): what of the picture is to be seen."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicom_node.imaging import attributes

_LEAST_LEFT: Final = 0.05
"""Share of the picture that must be left; a header that leaves less describes another picture."""
_LEAST_VERTICES: Final = 3

Mask = NDArray[np.bool_]


def visible(ds: Dataset, rows: int, columns: int) -> Mask | None:
    """Mask of the pixels inside of every shutter and collimator that the header describes.

    Parameters
    ----------
    ds
        Header of the film.
    rows, columns
        Size of the picture, in pixels.

    Returns
    -------
    numpy.ndarray or None
        Shape (rows, columns), True where the picture is seen; None when nothing is covered, or when what
        is described leaves next to nothing of the picture.
    """
    shapes = [
        *_shapes(ds, "Shutter", "CircularShutter", "PolygonalShutter", rows, columns),
        *_shapes(ds, "Collimator", "CircularCollimator", "PolygonalCollimator", rows, columns),
    ]
    masks = [shape for shape in shapes if shape.mean() >= _LEAST_LEFT]
    if not masks:
        return None
    mask: Mask = np.logical_and.reduce(masks)
    return mask if not mask.all() and mask.mean() >= _LEAST_LEFT else None


def _shapes(ds: Dataset, kind: str, circular: str, polygonal: str, rows: int, columns: int) -> list[Mask]:
    found = []
    y, x = np.arange(1, rows + 1)[:, None], np.arange(1, columns + 1)[None, :]
    for shape in attributes.texts(ds, f"{kind}Shape"):
        if shape.upper() == "RECTANGULAR":
            edges = [
                attributes.numbers(ds, f"{kind}{edge}Edge")[:1]
                for edge in ("LeftVertical", "RightVertical", "UpperHorizontal", "LowerHorizontal")
            ]
            if all(edge and np.isfinite(edge[0]) for edge in edges):
                left, right, upper, lower = (edge[0] for edge in edges)
                found.append((x >= left) & (x <= right) & (y >= upper) & (y <= lower))
        elif shape.upper() == "CIRCULAR":
            center = attributes.numbers(ds, f"CenterOf{circular}")
            radius = attributes.numbers(ds, f"RadiusOf{circular}")[:1]
            if len(center) == 2 and radius and np.isfinite([*center, *radius]).all():
                found.append((y - center[0]) ** 2 + (x - center[1]) ** 2 <= radius[0] ** 2)
        elif shape.upper() == "POLYGONAL":
            points = np.array(attributes.numbers(ds, f"VerticesOfThe{polygonal}"))
            if len(points) % 2 == 0 and len(points) >= 2 * _LEAST_VERTICES and np.isfinite(points).all():
                found.append(_inside(points.reshape(-1, 2), rows, columns))
    return found


def _inside(vertices: NDArray[np.float64], rows: int, columns: int) -> Mask:
    """Pixels inside of a polygon of (row, column) vertices, by the even-odd rule."""
    mask = np.zeros((rows, columns), bool)
    x = np.arange(1, columns + 1)
    ends = np.roll(vertices, -1, axis=0)
    for row in range(1, rows + 1):
        crosses = (vertices[:, 0] <= row) != (ends[:, 0] <= row)
        (y1, x1), (y2, x2) = vertices[crosses].T, ends[crosses].T
        at = np.sort(x1 + (row - y1) * (x2 - x1) / (y2 - y1))
        mask[row - 1] = np.searchsorted(at, x, side="right") % 2 == 1
    return mask
