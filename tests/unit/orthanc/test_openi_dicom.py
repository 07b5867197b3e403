"""Open-i films with their original headers: the node shows the same image."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from dicom_node.imaging.pixels import read_film
from dicom_node.results.encoding.part10 import encoded
from orthanc import openi_dicom


def row(**columns: str) -> dict[str, str]:
    return openi_dicom.NO_HEADER | {"SOP Instance UID": "2.25.1", "Study Instance UID": "2.25.2"} | columns


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("bits", ["8", "10", "12", "15"])
@pytest.mark.parametrize(
    "window", [{}, {"Window Center": "['128', '30']", "Window Width": "['255', '20']", "Rescale Slope": "1"}]
)
def test_a_wrapped_picture_is_read_as_it_was(
    photometric: str, bits: str, window: dict[str, str], tmp_path: Path
) -> None:
    picture = np.tile(np.arange(256, dtype=np.uint8), (64, 1))
    header = row(**{"Photometric Interpretation": photometric, "Bits Stored": bits}, **window)
    path = tmp_path / "film.dcm"
    path.write_bytes(encoded(openi_dicom.to_dicom(header, picture)))
    read = read_film(path, max_pixels=10**6).pixels
    # Without a window the node stretches the range in use, so that the ends are cut a little.
    np.testing.assert_allclose(read, picture / 255, atol=0.006 if window else 0.03)


def test_elements_are_set_last_and_none_takes_one_away() -> None:
    ds = openi_dicom.to_dicom(
        row(**{"Body Part Examined": "CHEST"}), np.zeros((8, 8), np.uint8), StudyInstanceUID="1.2"
    )
    assert ds.StudyInstanceUID == "1.2"
    assert ds.BodyPartExamined == "CHEST"
    gone = openi_dicom.to_dicom(
        row(**{"Body Part Examined": "CHEST"}), np.zeros((8, 8), np.uint8), BodyPartExamined=None
    )
    assert "BodyPartExamined" not in gone
    assert io.BytesIO(encoded(gone)).read(132)[128:] == b"DICM"


def test_a_squashed_picture_is_stretched_to_the_original() -> None:
    shape = openi_dicom.restore_aspect_ratio(
        row(Rows="2000", Columns="1000"), np.zeros((64, 64), np.uint8), 100
    ).shape
    assert shape == (100, 50)
