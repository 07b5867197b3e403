"""Geometry and window of the preprocessing, for any film."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.processing.resampling import resample
from models.processing.transforms import Preprocessing, to_source

PRE = Preprocessing(grid=32, size=24)
SHAPES = st.tuples(st.integers(8, 150), st.integers(8, 150))


def film(shape: tuple[int, int], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


@settings(deadline=None)
@given(SHAPES, st.integers(0, 1000))
def test_every_film_becomes_a_square_within_0_and_1(shape, seed):
    square = PRE.standardise(film(shape, seed))
    assert square.shape == (32, 32)
    assert float(square.min()) == 0
    assert float(square.max()) == 1


@settings(deadline=None)
@given(SHAPES, st.integers(0, 1000), st.floats(0.05, 1), st.floats(0, 1))
def test_the_window_of_a_film_does_not_matter(shape, seed, width, share):
    pixels = film(shape, seed)
    windowed = (pixels * width + (1 - width) * share).astype(np.float32)
    torch.testing.assert_close(PRE.standardise(windowed), PRE.standardise(pixels), atol=2e-3, rtol=0)


@settings(deadline=None)
@given(SHAPES, st.integers(1, 12), st.integers(1, 12), st.floats(0, 1, width=32))
def test_an_even_map_stays_even(shape, height, width, value):
    back = to_source(np.full((height, width), value, np.float32), shape)
    assert back.shape == shape
    np.testing.assert_allclose(back, value, atol=1e-6)


@settings(deadline=None)
@given(
    st.tuples(st.integers(1, 7), st.integers(1, 7)),
    st.integers(1, 20),
    st.integers(1, 20),
    st.integers(0, 999),
)
def test_a_map_that_was_brought_to_the_film_and_back_keeps_its_peak(cells, times, across, seed):
    grid = np.zeros(cells, np.float32)
    peak = np.unravel_index(seed % grid.size, cells)
    grid[peak] = 1
    back = to_source(grid, (cells[0] * times, cells[1] * across))
    assert back.min() >= 0
    assert back.max() <= 1
    cell_means = resample(back, cells)
    assert np.unravel_index(int(cell_means.argmax()), cells) == peak


@settings(max_examples=50, deadline=None)
@given(SHAPES, st.floats(-0.4, 0.4), st.floats(-0.4, 0.4))
def test_a_slope_across_the_film_is_the_same_slope_on_the_grid_and_back(shape, down, right):
    rows, columns = shape
    y = (np.arange(rows) + 0.5) / rows
    x = (np.arange(columns) + 0.5) / columns
    slope = (0.5 + down * (y[:, None] - 0.5) + right * (x[None] - 0.5)).astype(np.float32)
    grid = resample(slope, (8, 8))
    back = to_source(grid, shape)
    # Area averaging takes whole pixels, so a cell's edge is up to one of them off; beyond the outermost
    # cells' centres a map is held, not continued.
    inner = (slice(rows // 8, rows - rows // 8), slice(columns // 8, columns - columns // 8))
    tolerance = abs(down) / rows + abs(right) / columns + 1e-4
    if back[inner].size:
        assert float(np.abs(back - slope)[inner].max()) <= 2 * tolerance


@pytest.mark.parametrize("shape", [(3000, 2500), (2500, 2048)])
def test_a_large_film_is_averaged_not_sampled(shape):
    # A fine chequerboard has no structure that the network could see.
    board = (np.indices(shape).sum(axis=0) % 2).astype(np.float32)
    small = resample(board, (256, 256))
    assert float(np.abs(small - 0.5).max()) < 0.05
