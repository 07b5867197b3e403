"""Steady load for a minute; ``make chaos`` loads the node for as long as it is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.soak import soak

SECONDS = 60


@pytest.mark.peer
@pytest.mark.timeout(500)
def test_a_steady_load_takes_no_more_in_the_end_than_in_the_beginning(tmp_path: Path) -> None:
    for part, line in soak(tmp_path, SECONDS).items():
        print(f"{part}: {line}")
