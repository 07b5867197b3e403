"""Report: contents that its constructor checks."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name that everybody knows
from hypothesis import given, settings
from hypothesis import strategies as st

from dicom_node.results.report import Saliency


@given(st.integers(2, 12), st.integers(2, 12), st.integers(12, 70), st.integers(12, 70), st.integers(0, 999))
@settings(deadline=None, max_examples=50)
def test_a_map_is_brought_to_a_film_s_size_as_it_was_drawn(
    height: int, width: int, rows: int, columns: int, seed: int
) -> None:
    values = np.random.default_rng(seed).random((height, width), np.float32)
    sized = Saliency("1.2", values, "Grad-CAM").at(rows, columns)
    expected = F.interpolate(torch.from_numpy(values)[None, None], (rows, columns), mode="bilinear")[0, 0]
    np.testing.assert_allclose(sized, expected.numpy(), atol=1e-5)
    assert sized.min() >= 0
    assert sized.max() <= 1
