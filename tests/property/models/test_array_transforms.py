"""Films are prepared alike with and without torch, whatever their size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.processing.array_transforms import network_input, standardise
from models.processing.film_transforms import resample as resample_in_torch
from models.processing.resampling import antialiased_weights, cubic_weights, linear_weights, resample
from models.processing.transforms import Preprocessing

SIDES = st.integers(1, 300)
SHAPES = st.tuples(SIDES, SIDES)


def film(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


@settings(deadline=None, max_examples=60)
@given(SHAPES, st.integers(16, 96), st.integers(8, 96), st.sampled_from([1, 3]), st.integers(0, 1000))
def test_a_film_is_the_same_network_input_in_both(shape, grid, size, channels, seed):
    preprocessing = Preprocessing(grid=grid, size=min(size, grid), channels=channels)
    pixels = film(shape, seed)
    expected = preprocessing.standardise(pixels).numpy()
    found = standardise(preprocessing, pixels)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    np.testing.assert_allclose(
        network_input(preprocessing, [found]), preprocessing([pixels]).numpy(), atol=1e-3
    )


@settings(deadline=None, max_examples=60)
@given(SHAPES, SHAPES)
def test_resampling_is_that_of_torch(shape, wanted):
    pixels = film(shape)
    expected = resample_in_torch(torch.from_numpy(pixels)[None, None], wanted)[0, 0].numpy()
    np.testing.assert_allclose(resample(pixels, wanted), expected, atol=5e-5)


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(1, 200))
def test_each_weighting_is_that_of_torch(cells, pixels):
    line = torch.eye(cells)[None, None]
    for weights, options in (
        (linear_weights(cells, pixels), {"mode": "bilinear"}),
        (cubic_weights(cells, pixels), {"mode": "bicubic"}),
        (antialiased_weights(cells, pixels), {"mode": "bilinear", "antialias": True}),
    ):
        expected = torch.nn.functional.interpolate(line, (cells, pixels), align_corners=False, **options)
        np.testing.assert_allclose(weights.T, expected[0, 0].numpy(), atol=1e-4, err_msg=str(options))
        np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-5)


def test_large_and_odd_films_are_the_same_in_both():
    preprocessing = Preprocessing(grid=256, size=224, channels=3)
    for shape in ((2991, 2515), (4280, 300), (100, 3000)):
        pixels = film(shape)
        np.testing.assert_allclose(
            standardise(preprocessing, pixels), preprocessing.standardise(pixels).numpy(), atol=1e-5
        )


def test_what_is_no_film_is_treated_alike():
    preprocessing = Preprocessing(grid=32, size=24)
    assert not standardise(preprocessing, np.full((50, 70), 0.7, np.float32)).any()
    odd = film((40, 40))
    odd[3, 3] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        standardise(preprocessing, odd)
    view = film((90, 80))[::-1, ::2]
    view.flags.writeable = False
    np.testing.assert_allclose(
        standardise(preprocessing, view), preprocessing.standardise(view).numpy(), atol=1e-5
    )
