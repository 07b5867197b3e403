"""Shape of pixels by every attribute that states it."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset

from dicom_node.imaging.pixel_shape import aspect_ratio, true_size
from tests.support.factories import put


def ratio(**elements: object) -> float:
    return aspect_ratio(put(Dataset(), elements))


@pytest.mark.parametrize("keyword", ["PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"])
def test_spacings_state_the_height_first(keyword: str) -> None:
    assert ratio(**{keyword: ["0.4", "0.2"]}) == 2
    assert ratio(**{keyword: ["0.143", "0.286"]}) == 0.5
    assert ratio(**{keyword: ["0.139", "0.139"]}) == 1


def test_pixel_aspect_ratio_states_the_height_first() -> None:
    assert ratio(PixelAspectRatio=["2", "1"]) == 2
    assert ratio(PixelAspectRatio=["3", "4"]) == 0.75


def test_nothing_stated_is_square() -> None:
    assert ratio() == 1
    assert ratio(PixelSpacing=None, PixelAspectRatio=[]) == 1


def test_a_spacing_comes_before_the_ratio_and_pixel_spacing_before_all() -> None:
    assert ratio(ImagerPixelSpacing=["0.2", "0.2"], PixelAspectRatio=["2", "1"]) == 1
    assert ratio(PixelSpacing=["0.3", "0.2"], ImagerPixelSpacing=["0.2", "0.2"]) == pytest.approx(1.5)


@pytest.mark.parametrize("pair", [["0.1", "0.101"], ["0.1", "0.0991"], ["0.1", "0.1"]])
def test_one_percent_is_square(pair: list[str]) -> None:
    assert ratio(PixelSpacing=pair) == 1


@pytest.mark.parametrize("pair", [["0.1", "0.1015"], ["0.1015", "0.1"]])
def test_more_than_one_percent_is_a_shape(pair: list[str]) -> None:
    assert ratio(PixelSpacing=pair) == pytest.approx(float(pair[0]) / float(pair[1]))


@pytest.mark.parametrize(
    "pair",
    [["0", "0"], ["0.1", "0"], ["-0.1", "0.1"], ["0.1"], ["0.1", "mm"], ["1", "4.1"], ["NaN", "1"],
     ["inf", "1"], ["1e308", "1e-308"]],
)  # fmt: skip
def test_an_absurd_pair_is_passed_over(pair: list[str]) -> None:
    assert ratio(PixelSpacing=pair) == 1
    assert ratio(PixelSpacing=pair, PixelAspectRatio=["2", "1"]) == 2


def test_a_decimal_comma_is_read() -> None:
    assert ratio(PixelSpacing=["0,4", "0,2"]) == 2


def test_a_picture_grows_to_its_true_shape() -> None:
    assert true_size(100, 50, 2) == (100, 100)
    assert true_size(100, 50, 0.5) == (200, 50)
    assert true_size(100, 50, 1) == (100, 50)
