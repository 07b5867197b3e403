from __future__ import annotations

import numpy as np
import pytest

from models.explain.heatmap import PREVIEW_SIDE, Heatmap


def one(rows: int, columns: int) -> Heatmap:
    return Heatmap("mass", "1.2", "gradcam", np.eye(7, dtype=np.float32), (rows, columns))


@pytest.mark.parametrize("shape", [(64, 48), (256, 200), (3000, 2500), (1, 4000)])
def test_a_map_has_the_film_s_rows_and_columns_or_fewer_in_proportion(shape: tuple[int, int]) -> None:
    drawn = one(*shape)
    assert drawn.values.shape == shape
    rows, columns = drawn.preview.shape
    assert max(rows, columns) == min(max(shape), PREVIEW_SIDE)
    assert rows / columns == pytest.approx(shape[0] / shape[1], rel=0.05) or min(rows, columns) == 1


def test_a_small_film_is_looked_at_as_it_is() -> None:
    drawn = one(200, 256)
    np.testing.assert_array_equal(drawn.preview, drawn.values)
