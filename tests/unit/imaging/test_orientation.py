"""Orientation of a film: what Patient Orientation says, and the way there and back (PS3.3 C.7.6.1.1.1)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import DataElement, config
from pydicom.dataset import Dataset

from dicom_node.imaging.orientation import Orientation, read_orientation

# Shape of an F: no turn and no mirroring leaves it as it is. The patient's head is above, left is right.
UPRIGHT = np.array([[1, 1, 1], [1, 0, 0], [1, 1, 0], [1, 0, 0]], np.float32)
STORED = {
    "L F": UPRIGHT,
    "R F": UPRIGHT[:, ::-1],
    "R H": UPRIGHT[::-1, ::-1],
    "L H": UPRIGHT[::-1],
    "F R": np.rot90(UPRIGHT),  # feet to the right: a quarter turn counter-clockwise of the upright one
    "H L": np.rot90(UPRIGHT, -1),
    "F L": UPRIGHT.T,
    "H R": np.rot90(UPRIGHT, 2).T,
}


def _header(*directions: str) -> Dataset:
    ds = Dataset()
    # Devices write small letters, which the value representation does not allow.
    ds.add(DataElement("PatientOrientation", "CS", list(directions), validation_mode=config.IGNORE))
    return ds


@pytest.mark.parametrize("directions", STORED)
def test_every_orientation_of_a_frontal_film_is_brought_upright(directions: str) -> None:
    orientation = read_orientation(_header(*directions.split()))
    assert np.array_equal(orientation.upright(STORED[directions]), UPRIGHT)
    assert bool(orientation) is (directions != "L F")


@pytest.mark.parametrize(
    ("directions", "turns"), [("A F", 0), ("P F", 0), ("A H", 2), ("P H", 2), ("F A", 1), ("H P", 3)]
)
def test_a_lateral_film_is_turned_and_never_mirrored(directions: str, turns: int) -> None:
    found = read_orientation(_header(*directions.split()))
    assert not found.mirrored
    if turns % 2 == 0:
        assert found.turns == turns
    else:  # feet to the right come down by three turns counter-clockwise
        assert found.turns == {"F A": 3, "H P": 1}[directions]


@pytest.mark.parametrize(
    "values", [[], ["L"], ["L", "R"], ["F", "H"], ["X", "F"], ["", ""], ["L", "F", "A"], ["A", "L"]]
)
def test_a_header_that_names_no_two_directions_turns_nothing(values: list[str]) -> None:
    assert not read_orientation(_header(*values))


def test_first_letters_count_and_small_ones_too() -> None:
    assert read_orientation(_header("rp", "hl")) == Orientation(2)


@given(st.integers(0, 3), st.booleans(), st.integers(1, 3))
def test_the_way_back_is_the_inverse(turns: int, mirrored: bool, quarters: int) -> None:
    orientation = Orientation(turns, mirrored)
    assert np.array_equal(orientation.stored(orientation.upright(UPRIGHT)), UPRIGHT)
    further = orientation.turned(quarters)
    assert np.array_equal(further.upright(UPRIGHT), np.rot90(orientation.upright(UPRIGHT), quarters))


def test_what_was_done_reads_as_a_sentence() -> None:
    assert str(Orientation(1, mirrored=True)) == "turned by 90 degrees counter-clockwise and mirrored"
    assert str(Orientation(0, mirrored=True)) == "mirrored"
