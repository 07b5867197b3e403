"""Studies of named films: DICOM by study, images and arrays one by one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread

from dicom_node.analysis.film_files import read_film
from dicom_node.analysis.studies import StudyCollection
from dicom_node.errors import BadInstance, ConfigurationError
from tests.support import factories


def draw(path: Path, seed: int = 0) -> Path:
    grey = (factories.chest(90, 80, seed=seed) * 255).round().astype(np.uint8)
    Image.fromarray(grey).save(path)
    return path


def test_a_folder_holds_dicom_studies_and_images(tmp_path: Path) -> None:
    for number in (1, 2):
        factories.write(factories.film(study=1, instance=number), tmp_path / f"{number}.dcm")
    factories.write(factories.film(study=2), tmp_path / "without-ending")
    draw(tmp_path / "film.png")
    (tmp_path / "below").mkdir()
    draw(tmp_path / "below" / "film.JPEG", seed=1)
    (tmp_path / "notes.txt").write_text("no film")
    found = StudyCollection.of(tmp_path)
    names = [[Path(name).name for name in study.names] for study in found.studies.values()]
    assert sorted(names) == [["1.dcm", "2.dcm"], ["film.JPEG"], ["film.png"], ["without-ending"]]
    assert [Path(name).name for name in found.unreadable] == ["notes.txt"]


def test_an_image_as_dicom_has_its_greys(tmp_path: Path) -> None:
    path = draw(tmp_path / "film.png")
    (study,) = StudyCollection.of(path).studies.values()
    with study.files() as (file,):
        assert np.abs(read_film(file) - read_film(path)).max() < 1e-6
        header = dcmread(file)
    assert header.StudyInstanceUID == study.study_instance_uid
    assert not file.exists()


def test_the_uid_follows_from_name_and_content(tmp_path: Path) -> None:
    chest = factories.chest(40, 30)
    (tmp_path / "elsewhere").mkdir()
    paths = [draw(tmp_path / "a.png"), draw(tmp_path / "elsewhere" / "a.png"), draw(tmp_path / "b.png")]
    found = StudyCollection.of([*paths, chest, chest])
    # The same file under the same name is the same film; arrays are numbered.
    assert [len(study.names) for study in found.studies.values()] == [2, 1, 1, 1]
    assert list(StudyCollection.of(paths[:1]).studies) == list(found.studies)[:1]


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (np.zeros((3, 4, 3)), r"film 1: an array of float64 \(3, 4, 3\)"),
        (np.full((3, 4), 255), "values from 255 to 255; divide them"),
        (np.full((3, 4), np.nan), "values from nan to nan"),
        (np.empty((0, 4)), r"\(0, 4\)"),
        (np.full((3, 4), "a"), "give numbers"),
    ],
    ids=["colour", "bytes", "nan", "empty", "text"],
)
def test_an_array_that_is_no_film_is_named(array: np.ndarray, sentence: str) -> None:
    with pytest.raises(BadInstance, match=sentence):
        StudyCollection.of([array])


def test_what_is_not_there_or_no_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="nowhere: no such file or folder"):
        StudyCollection.of(tmp_path / "nowhere")
    (tmp_path / "film.png").write_bytes(b"no image")
    (study,) = StudyCollection.of(tmp_path).studies.values()
    with pytest.raises(BadInstance, match=r"film\.png cannot be read as an image"), study.files():
        pass
