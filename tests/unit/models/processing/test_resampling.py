"""Rows are averaged as one by one, in whichever way is faster."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from models.processing.resampling import resample


@pytest.mark.parametrize(
    ("rows", "fewer"), [(512, 320), (320, 319), (96, 24), (97, 24), (90, 7), (2236, 320), (5, 1)]
)
def test_each_new_row_is_the_mean_of_those_that_it_covers(rows: int, fewer: int) -> None:
    image = np.random.default_rng(rows).random((rows, 6), np.float32)
    expected = [
        image[row * rows // fewer : -(-(row + 1) * rows // fewer)].mean(axis=0) for row in range(fewer)
    ]
    assert_array_equal(resample(image, (fewer, 6)), np.stack(expected))
