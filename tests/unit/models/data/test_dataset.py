"""Films as image files: grey in [0, 1], whatever their depth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.data.dataset import LabelledStudy, read_film
from models.errors import DatasetError
from tests.support.factories import chest


@pytest.mark.parametrize(
    ("name", "kind"), [("film.png", np.uint16), ("film.tiff", np.uint16), ("film.tiff", np.int32)]
)
def test_a_film_of_16_bits_is_that_of_8(tmp_path: Path, name: str, kind: type) -> None:
    film = chest(96, 80)
    Image.fromarray(np.round(film * 65535).astype(kind)).save(tmp_path / name)
    Image.fromarray(np.round(film * 255).astype(np.uint8)).save(tmp_path / "film8.png")
    deep, shallow = read_film(tmp_path / name), read_film(tmp_path / "film8.png")
    assert deep.dtype == shallow.dtype == np.float32
    assert np.abs(deep - shallow).max() < 0.5 / 255 + 1e-4


@pytest.mark.parametrize(
    "pixels", [np.ones((8, 8), np.float32), np.full((8, 8), 70000, np.int32), -np.eye(8, dtype=np.int32)]
)
def test_other_numbers_are_refused(tmp_path: Path, pixels: np.ndarray) -> None:
    Image.fromarray(pixels).save(tmp_path / "film.tiff")
    with pytest.raises(DatasetError, match="no integers from 0 to 65535"):
        read_film(tmp_path / "film.tiff")


@pytest.mark.parametrize(("views", "expected"), [((), ("", "")), (("frontal", ""), ("frontal", ""))])
def test_a_film_of_unknown_view_has_an_empty_one(views: tuple[str, ...], expected: tuple[str, ...]) -> None:
    films = (Path("a.png"), Path("b.png"))
    study = LabelledStudy("1", "P", films, frozenset(), None, views=views)
    assert study.films_with_views() == tuple(zip(films, expected, strict=True))
