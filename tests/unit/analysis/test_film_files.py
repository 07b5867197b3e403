"""Film files for training: images and DICOM are read by one function."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dicom_node.analysis.film_files import read_film
from dicom_node.cli.labelled_data import read_labelled_data
from models.errors import DatasetError
from tests.support import factories
from tests.support.openi_folder import write_reports


def test_an_image_and_dicom_give_the_same_film(tmp_path: Path):
    chest = factories.chest(80, 70)
    Image.fromarray((chest * 255).round().astype(np.uint8)).save(tmp_path / "film.png")
    factories.write(
        factories.film(pixels=chest, photometric="MONOCHROME1", window=(2048, 4096)), tmp_path / "film.DCM"
    )
    image, dicom = read_film(tmp_path / "film.png"), read_film(tmp_path / "film.DCM")
    assert dicom.dtype == np.float32
    assert np.abs(image - dicom).max() < 0.005


def test_dicom_that_cannot_be_read_is_named(tmp_path: Path):
    (tmp_path / "film.dcm").write_bytes(b"no film")
    with pytest.raises(DatasetError, match=r"film .*film\.dcm cannot be read: "):
        read_film(tmp_path / "film.dcm")
    factories.write(factories.film(photometric="RGB"), tmp_path / "colour.dcm")
    with pytest.raises(DatasetError, match=r"colour\.dcm cannot be read: .*not grayscale"):
        read_film(tmp_path / "colour.dcm")
    with pytest.raises(DatasetError, match=r"gone\.dcm is missing"):
        read_film(tmp_path / "gone.dcm")


def test_the_commands_read_the_dicom_films_of_a_collection(tmp_path: Path):
    write_reports(tmp_path / "ecgen-radiology", 1)
    (tmp_path / "NLMCXR_dcm").mkdir()
    factories.write(factories.film(rows=80, columns=70), tmp_path / "NLMCXR_dcm" / "1_IM-0001-1001.dcm")
    (study,) = (study for found in read_labelled_data("openi", tmp_path).studies.values() for study in found)
    assert study.load().films[0].pixels.shape == (80, 70)
