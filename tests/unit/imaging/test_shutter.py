"""Shutters and collimators: what they cover is black, and does not count for the greys of the rest."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom.dataset import Dataset

from dicom_node.imaging.pixels import read_film
from dicom_node.imaging.shutter import visible
from tests.support.factories import film, put

ROWS, COLUMNS = 120, 100


def header(**elements: object) -> Dataset:
    return put(Dataset(), elements)


def rectangle(
    kind: str = "Shutter", left: int = 11, right: int = 90, upper: int = 21, lower: int = 100
) -> Dataset:
    edges = {"LeftVertical": left, "RightVertical": right, "UpperHorizontal": upper, "LowerHorizontal": lower}
    return header(
        **{f"{kind}Shape": "RECTANGULAR"}, **{f"{kind}{edge}Edge": str(at) for edge, at in edges.items()}
    )


@pytest.mark.parametrize("kind", ["Shutter", "Collimator"])
def test_a_rectangle_shows_its_edges_and_what_is_between(kind: str) -> None:
    expected = np.zeros((ROWS, COLUMNS), bool)
    expected[20:100, 10:90] = True
    assert np.array_equal(visible(rectangle(kind), ROWS, COLUMNS), expected)


def test_a_circle_is_round_about_row_and_column() -> None:
    ds = header(ShutterShape="CIRCULAR", CenterOfCircularShutter=["60", "40"], RadiusOfCircularShutter="30")
    mask = visible(ds, ROWS, COLUMNS)
    assert mask is not None
    assert abs(mask.sum() - np.pi * 30**2) < 60
    rows, columns = np.nonzero(mask)
    assert (rows.mean() + 1, columns.mean() + 1) == pytest.approx((60, 40), abs=0.01)


def test_a_circle_is_round_on_pixels_that_are_not_square() -> None:
    # PS3.3 C.7.6.11: the radius counts pixels along the row; these are twice as high as wide.
    ds = header(
        ShutterShape="CIRCULAR",
        CenterOfCircularShutter=["60", "50"],
        RadiusOfCircularShutter="30",
        PixelAspectRatio=["2", "1"],
    )
    rows, columns = np.nonzero(visible(ds, ROWS, COLUMNS))
    assert (np.ptp(columns), np.ptp(rows)) == (60, 30)


def test_a_polygon_is_its_inside() -> None:
    vertices = ["10", "20", "10", "81", "111", "81", "111", "20"]
    mask = visible(header(ShutterShape="POLYGONAL", VerticesOfThePolygonalShutter=vertices), ROWS, COLUMNS)
    expected = np.zeros((ROWS, COLUMNS), bool)
    expected[9:110, 19:80] = True
    assert mask is not None
    assert np.count_nonzero(mask != expected) <= ROWS + COLUMNS


def test_several_shapes_show_what_all_of_them_show() -> None:
    ds = rectangle()
    ds.update(
        header(
            ShutterShape=["RECTANGULAR", "CIRCULAR"],
            CenterOfCircularShutter=["60", "50"],
            RadiusOfCircularShutter="30",
        )
    )
    mask = visible(ds, ROWS, COLUMNS)
    assert mask is not None
    assert not mask[59, 85]
    assert mask[59, 50]


@pytest.mark.parametrize(
    "ds",
    [
        header(),
        rectangle(left=1, right=COLUMNS, upper=1, lower=ROWS),
        rectangle(left=50, right=51),
        rectangle(left=90, right=10),
        header(ShutterShape="RECTANGULAR", ShutterLeftVerticalEdge="10"),
        header(ShutterShape="CIRCULAR", CenterOfCircularShutter="60", RadiusOfCircularShutter="30"),
        header(
            ShutterShape="CIRCULAR", CenterOfCircularShutter=["5000", "5000"], RadiusOfCircularShutter="3"
        ),
        header(ShutterShape="POLYGONAL", VerticesOfThePolygonalShutter=["1", "2", "3"]),
        header(ShutterShape="HEXAGONAL"),
    ],
    ids=[
        "none",
        "all",
        "next to nothing",
        "turned round",
        "an edge",
        "a number",
        "elsewhere",
        "odd",
        "unknown",
    ],
)
def test_a_shutter_that_covers_nothing_or_everything_is_none(ds: Dataset) -> None:
    assert visible(ds, ROWS, COLUMNS) is None


def test_what_is_covered_is_black_and_does_not_darken_the_rest() -> None:
    pixels = np.tile(np.linspace(1000, 2000, COLUMNS).astype(np.int64), (ROWS, 1))
    bare = read_film(film(pixels=pixels), max_pixels=10**6).pixels
    covered = pixels.copy()
    covered[:20] = covered[100:] = 4095
    ds = film(pixels=covered)
    ds.update(rectangle(left=1, right=COLUMNS))
    for full_range in (False, True):
        shown = read_film(ds, max_pixels=10**6, full_range=full_range).pixels
        assert not shown[:20].any()
        assert not shown[100:].any()
    assert np.abs(read_film(ds, max_pixels=10**6).pixels[20:100] - bare[20:100]).max() < 0.01
