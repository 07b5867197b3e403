"""The picture itself: colours that can be trusted, words that can be read."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageFont

from dicom_node.results.image.overlay import OUTLINE_COLOURS, OutlinedFilm, colours, draw, draw_outlined
from dicom_node.results.image.secondary_capture import _banner
from tests.support.factories import chest
from tests.support.reports import ALGORITHM, finding, heat


def picture(pixels: np.ndarray, hot: np.ndarray, *, longer_side: int = 512, banner: str = "B") -> np.ndarray:
    return draw(pixels, hot, banner=banner, caption="C", longer_side=longer_side)


LUMINANCE = np.array([0.2126, 0.7152, 0.0722])
RGB_TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], LUMINANCE, [0.0193, 0.1192, 0.9505]])
DICHROMACY = {
    "none": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.01182, 0.04294, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.3039],
    ],
}
"""Linear sRGB as dichromats see it (Machado, Oliveira and Fernandes 2009, severity 1)."""


def linear(rgb: np.ndarray) -> np.ndarray:
    """Linear sRGB (IEC 61966-2-1)."""
    share = rgb / 255
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


def hottest_over(grey: float) -> np.ndarray:
    """Colour of the hottest point over film of one grey, as it is in a picture."""
    film, hot = np.full((512, 512), grey, np.float32), np.ones((512, 512), np.float32)
    return panels(picture(film, hot), 512, 512)[1][256, 256].astype(float)


def luminance_ratio(one: np.ndarray, other: np.ndarray) -> float:
    """Contrast ratio of two sRGB colours (WCAG 2.2, "contrast ratio")."""
    darker, lighter = sorted(float(linear(each) @ LUMINANCE) for each in (one, other))
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("grey", [0.1, 0.9])
def test_the_hottest_point_differs_in_luminance_from_dark_and_from_bright_tissue(grey: float) -> None:
    assert luminance_ratio(hottest_over(grey), np.full(3, 255 * grey)) >= 1.5


def lab(light: np.ndarray) -> np.ndarray:
    """CIELAB of linear sRGB (CIE 15)."""
    x, y, z = RGB_TO_XYZ @ light / [0.9505, 1, 1.089]
    x, y, z = (np.cbrt(each) if each > 0.008856 else 7.787 * each + 16 / 116 for each in (x, y, z))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("kind", DICHROMACY)
def test_the_hottest_point_differs_from_every_grey_for_colour_blind_readers_too(kind: str) -> None:
    for grey in np.linspace(0, 1, 11):
        hot, bare = (
            lab(np.clip(DICHROMACY[kind] @ linear(each), 0, 1))
            for each in (hottest_over(float(grey)), np.full(3, 255 * grey))
        )
        assert np.linalg.norm(hot - bare) > 30, grey


def lightness(rgb: np.ndarray) -> np.ndarray:
    """CIE L* of sRGB values (IEC 61966-2-1, CIE 15)."""
    luminance = linear(rgb) @ LUMINANCE
    return np.where(luminance > 0.008856, 116 * np.cbrt(luminance) - 16, 903.3 * luminance)


def test_hotter_is_lighter_everywhere_and_evenly() -> None:
    steps = np.diff(lightness(colours().astype(float)))
    assert colours().shape == (256, 3)
    assert np.convolve(steps, np.ones(8) / 8, "valid").min() > 0
    assert lightness(colours()[-1:].astype(float))[0] - lightness(colours()[:1].astype(float))[0] > 50
    blocks = steps[:252].reshape(12, 21).sum(axis=1)
    assert blocks.max() < 2.2 * blocks.min()


def panels(shown: np.ndarray, rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Film and heat map of a picture whose panels have this size."""
    em = max(rows, columns) // 40
    head, gap = 2 * em, em // 2
    left = shown[head : head + rows, gap : gap + columns]
    right = shown[head : head + rows, 2 * gap + columns : 2 * gap + 2 * columns]
    return left.astype(int), right.astype(int)


def test_the_left_panel_is_the_film_and_the_right_one_the_film_where_it_is_cold() -> None:
    pixels = np.array(chest(512, 512))
    left, right = panels(picture(pixels, np.zeros((512, 512), np.float32)), 512, 512)
    assert np.abs(left - np.round(pixels * 255)[..., None]).max() <= 1
    assert np.array_equal(left, right)


def test_the_map_may_stand_between_the_two() -> None:
    pixels, hot = np.array(chest(512, 400)), heat(512, 400)
    two = draw(pixels, hot, banner="B", caption="C", longer_side=512)
    three = draw(pixels, hot, banner="B", caption="C", longer_side=512, map_alone=True)
    em, gap = 12, 6
    assert three.shape == (two.shape[0], two.shape[1] + 400 + gap, 3)
    rows = slice(2 * em, 2 * em + 512)
    alone = three[rows, 2 * gap + 400 : 2 * gap + 800]
    assert np.abs(alone.astype(int) - colours()[np.round(hot * 255).astype(int)]).max() <= 8
    assert np.array_equal(
        three[rows, 3 * gap + 800 : 3 * gap + 1200], two[rows, 2 * gap + 400 : 2 * gap + 800]
    )


def test_heat_colours_only_where_it_is() -> None:
    hot = heat(512, 512, row=0.25, column=0.25, width=0.05)
    left, right = panels(picture(np.full((512, 512), 0.3, np.float32), hot), 512, 512)
    rows, columns = np.nonzero(np.ptp(right, axis=2) > 20)
    assert 60 < rows.min() < rows.max() < 200
    assert 60 < columns.min() < columns.max() < 200
    assert not np.ptp(left, axis=2).any()


@pytest.mark.parametrize(
    ("size", "panel"), [((3000, 2000), (1024, 683)), ((200, 300), (341, 512)), ((512, 512), (512, 512))]
)
def test_a_spot_stays_where_it_is_when_the_film_is_scaled(
    size: tuple[int, int], panel: tuple[int, int]
) -> None:
    hot = heat(*size, row=0.3, column=0.6, width=0.04)
    _, right = panels(picture(np.zeros(size, np.float32), hot, longer_side=1024), *panel)
    rows, columns = np.nonzero(np.ptp(right, axis=2) > 60)
    assert abs(rows.mean() / panel[0] - 0.3) < 0.01
    assert abs(columns.mean() / panel[1] - 0.6) < 0.01


def test_a_long_banner_fits() -> None:
    words = "RESEARCH USE ONLY · " + "Pulmonary Artery Enlargement " * 6
    shown = picture(np.zeros((512, 400), np.float32), np.zeros((512, 400), np.float32), banner=words)
    top = shown[:20].max(axis=(0, 2))
    assert top[-5:].max() < 60
    assert top[10:].max() > 150


@pytest.mark.parametrize("certainty", [None, 0.5])
def test_every_character_of_a_banner_has_a_shape(certainty: float | None) -> None:
    font = ImageFont.load_default(size=24)
    missing = bytes(font.getmask("\uffff"))
    for character in set(_banner(finding(certainty=certainty), ALGORITHM)) - {" "}:
        assert bytes(font.getmask(character)) != missing, character


def test_the_same_input_gives_the_same_picture() -> None:
    pixels, hot = np.array(chest(300, 200)), heat(300, 200)
    assert np.array_equal(picture(pixels, hot), picture(pixels, hot))


def test_extreme_shapes_are_drawn() -> None:
    for shape in ((64, 4000), (4000, 64)):
        shown = picture(np.ones(shape, np.float32), np.ones(shape, np.float32))
        assert Image.fromarray(shown).size[0] > 0


def outlined(*films: OutlinedFilm, names: int, longer_side: int = 800) -> np.ndarray:
    said = [(f"Finding {number}", "certainty 80 %") for number in range(1, names + 1)]
    return draw_outlined(films, said, banner="B", caption="C", longer_side=longer_side)


def places(shown: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the pixels that have the colour of a finding."""
    return np.nonzero((shown == OUTLINE_COLOURS[number - 1]).all(axis=2))


@pytest.mark.parametrize("size", [(800, 640), (640, 800), (2400, 1920)])
def test_a_box_surrounds_the_hot_region_of_its_finding(size: tuple[int, int]) -> None:
    spot = {"row": 0.4, "column": 0.6, "width": 0.05}
    shown = outlined(OutlinedFilm(np.zeros(size, np.float32), {1: heat(*size, **spot)}), names=1)
    scale, em = 800 / max(size), 20
    height, width = round(size[0] * scale), round(size[1] * scale)
    down, across = places(shown[2 * em : 2 * em + height, em // 2 : em // 2 + width], 1)
    half = 0.05 * np.sqrt(2 * np.log(2))  # where the spot has half its height
    for found, middle, length in ((down, 0.4, height), (across, 0.6, width)):
        assert found.min() == pytest.approx((middle - half) * length, abs=length / 64 + 1)
        assert found.max() == pytest.approx((middle + half) * length, abs=length / 64 + 1)


def test_five_findings_of_one_place_keep_their_numbers_and_names() -> None:
    same = heat(800, 640, row=0.02, column=0.98, width=0.03)
    shown = outlined(
        OutlinedFilm(np.zeros((800, 640), np.float32), dict.fromkeys(range(1, 6), same)), names=5
    )
    tag = 26 * 26
    for number in range(1, 6):
        _, across = places(shown, number)
        film, legend = np.count_nonzero(across < 650), np.count_nonzero(across >= 650)
        assert film > 0.7 * tag  # the digit covers the rest
        assert legend > 0.7 * tag
    names = shown[40:340, 650 + 40 : -10].max(axis=2)
    assert all(names[60 * each : 60 * each + 60].max() > 200 for each in range(5))


def test_films_stand_side_by_side_each_with_its_own_findings() -> None:
    one = OutlinedFilm(np.full((800, 640), 0.2, np.float32), {2: heat(800, 640)})
    other = OutlinedFilm(np.full((800, 700), 0.4, np.float32), {1: heat(800, 700)}, aspect_ratio=0.5)
    shown = outlined(one, other, names=2)
    _, second = places(shown[:, :1460], 1)
    _, first = places(shown[:, :650], 2)
    assert first.min() >= 10
    assert second.min() > 650
    assert shown.shape[0] <= 880


def test_a_map_that_is_nowhere_hot_has_no_box() -> None:
    shown = outlined(
        OutlinedFilm(np.zeros((800, 640), np.float32), {1: np.zeros((9, 9), np.float32)}), names=1
    )
    _, across = places(shown, 1)
    assert across.min() > 640


@pytest.mark.parametrize("shape", [(64, 4000), (4000, 64), (8, 8)])
def test_outlines_of_extreme_shapes_are_drawn(shape: tuple[int, int]) -> None:
    hot = np.ones(shape, np.float32)
    shown = outlined(OutlinedFilm(hot, dict.fromkeys(range(1, 6), hot)), names=5, longer_side=64)
    assert shown.shape[2] == 3
