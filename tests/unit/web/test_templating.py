"""Words and numbers of the pages."""

from __future__ import annotations

import pytest

from dicom_node.web.templating import frequency


@pytest.mark.parametrize(
    ("certainty", "limits", "said"),
    [
        (0.75, (0.6, 0.85), "in 100 such studies about 75 had it (60 to 85)"),
        (0.03, (0.012, 0.06), "in 100 such studies about 3 had it (1 to 6)"),
        (0.004, (0.001, 0.012), "in 100 such studies fewer than 1 had it (0 to 1)"),
        (0.998, (None, None), "in 100 such studies more than 99 had it"),
        (0.0, (0.0, 0.0), "in 100 such studies about 0 had it (0 to 0)"),
    ],
)
def test_a_probability_is_said_as_a_natural_frequency(
    certainty: float, limits: tuple[float | None, float | None], said: str
) -> None:
    assert frequency(certainty, *limits) == said
