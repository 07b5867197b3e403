"""Steady load for long: films, results, pages, DICOMweb; memory, threads, descriptors, files stay flat.

Run: ``python -m pytest tests/chaos -s -o python_files='chaos_*.py' -k soak``. ``SOAK_SECONDS`` is
the length of the load (default 600). It prints one line for each part of the node.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.soak import soak

SECONDS = float(os.environ.get("SOAK_SECONDS", "600"))


@pytest.mark.peer
@pytest.mark.timeout(4 * SECONDS + 900)
def test_a_long_load_takes_no_more_in_the_end_than_in_the_beginning(tmp_path: Path) -> None:
    for part, line in soak(tmp_path, SECONDS).items():
        print(f"{part}: {line}")
