"""The box around where a heat map is high."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.results.regions import hot_box
from tests.support.reports import heat


@pytest.mark.parametrize("shape", [(64, 64), (512, 448), (3000, 2500), (70, 3000)])
def test_the_box_is_around_the_hot_spot(shape: tuple[int, int]) -> None:
    rows, columns = shape
    left, top, right, bottom = hot_box(heat(rows, columns, row=0.7, column=0.3, width=0.1)) or (0, 0, 0, 0)
    # At half of its height a bell of width 0.1 is 0.118 from its middle; the grid is 1/64 wide.
    for value, expected in ((left / columns, 0.182), (right / columns, 0.418)):
        assert abs(value - expected) < 2 / 64
    for value, expected in ((top / rows, 0.582), (bottom / rows, 0.818)):
        assert abs(value - expected) < 2 / 64


def test_another_spot_stays_outside() -> None:
    near, far = (heat(512, 512, row=place, column=place, width=0.05) for place in (0.2, 0.8))
    _, _, right, bottom = hot_box(np.maximum(near, 0.9 * far)) or (0, 0, 0, 0)
    assert right < 256
    assert bottom < 256


def test_a_cold_map_has_no_box() -> None:
    assert hot_box(np.zeros((100, 100), np.float32)) is None


def test_a_map_that_is_hot_everywhere_is_its_own_box() -> None:
    assert hot_box(np.ones((100, 90), np.float32)) == (0, 0, 90, 100)


@given(st.integers(1, 200), st.integers(1, 200), st.integers(1, 100), st.data())
def test_the_hottest_pixel_lies_in_the_box_and_the_box_in_the_film(
    rows: int, columns: int, peak: int, data: st.DataObject
) -> None:
    values = np.zeros((rows, columns), np.float32)
    row, column = data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, columns - 1))
    values[row, column] = peak / 100
    left, top, right, bottom = hot_box(values) or (0, 0, 0, 0)
    assert 0 <= left <= column < right <= columns
    assert 0 <= top <= row < bottom <= rows


@given(st.integers(1, 200), st.integers(1, 200), st.integers(1, 4000), st.integers(1, 4000))
def test_a_box_is_in_the_columns_and_rows_of_the_film(rows: int, columns: int, high: int, wide: int) -> None:
    own = hot_box(heat(rows, columns))
    assert own is not None
    left, top, right, bottom = own
    expected = (left * wide / columns, top * high / rows, right * wide / columns, bottom * high / rows)
    assert hot_box(heat(rows, columns), (high, wide)) == pytest.approx(expected)
