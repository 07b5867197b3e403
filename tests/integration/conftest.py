"""Fixtures that several integration tests use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.film_file import FilmFile


@pytest.fixture
def film(tmp_path: Path) -> Callable[..., FilmFile]:
    """Function that writes a small film, by its number and further elements."""
    return lambda number=1, **options: FilmFile(tmp_path / "films", number, **options)
