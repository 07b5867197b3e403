"""Pictures for a person: greys by window, colours of every kind, one frame of many."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.uid import JPEGLSLossless

from dicom_node.errors import NotAnalysable, StorageFailed
from dicom_node.imaging.rendering import render_frame
from dicom_node.imaging.voi import VoiWindow
from dicom_node.results.encoding.compression import decompressed
from dicom_node.results.encoding.part10 import encoded
from tests.support.factories import film, write
from tests.support.reports import report_of
from tests.support.result_objects import objects_of

MAX_PIXELS = 10**7


def picture(source: str | Path, number: int = 1, windowing: VoiWindow | None = None) -> np.ndarray:
    """A file, or one of pydicom's own."""
    path = source if isinstance(source, Path) else Path(str(get_testdata_file(source)))
    return render_frame(path, max_pixels=MAX_PIXELS, number=number, windowing=windowing).pixels


def eight_bits(grey: np.ndarray) -> np.ndarray:
    return np.floor(np.clip(grey, 0, 1) * 255 + 0.5)


SHAPES: dict[str, Callable[[np.ndarray, float, float], np.ndarray]] = {
    "LINEAR": lambda x, c, w: (x - (c - 0.5)) / (w - 1) + 0.5,
    "LINEAR_EXACT": lambda x, c, w: (x - c) / w + 0.5,
    "SIGMOID": lambda x, c, w: 1 / (1 + np.exp(-4 * (x - c) / w)),
}
"""PS3.3 C.11.2.1.2.1, C.11.2.1.3.2 and C.11.2.1.3.1, as they stand there."""


@pytest.mark.parametrize("function", SHAPES)
def test_a_window_is_that_of_the_standard_on_values_after_the_rescale(function: str) -> None:
    ds = dcmread(str(get_testdata_file("CT_small.dcm")))
    values = ds.pixel_array * float(ds.RescaleSlope) + float(ds.RescaleIntercept)
    found = picture("CT_small.dcm", windowing=VoiWindow(40, 400, function))
    assert np.abs(found - eight_bits(SHAPES[function](values, 40, 400))).max() <= 1


def test_what_is_stored_bright_for_dark_and_compressed_is_shown_the_same(tmp_path: Path) -> None:
    plain = film(rows=96, columns=80)
    other = film(rows=96, columns=80, photometric="MONOCHROME1", transfer_syntax=JPEGLSLossless)
    found = picture(write(other, tmp_path / "other.dcm"), windowing=VoiWindow(4096 - 1500.5, 800))
    expected = eight_bits(SHAPES["LINEAR"](plain.pixel_array.astype(float), 1500.5, 800))
    assert np.abs(found - expected).max() <= 1


def test_without_a_window_the_header_says_what_is_shown(tmp_path: Path) -> None:
    ds = film(rows=96, columns=80, window=(1000, 500))
    expected = eight_bits(SHAPES["LINEAR"](ds.pixel_array.astype(float), 1000, 500))
    assert np.abs(picture(write(ds, tmp_path / "film.dcm")) - expected).max() <= 1


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("color-px.dcm", "color-pl.dcm"),
        ("SC_rgb.dcm", "SC_rgb_rle.dcm"),
        ("SC_rgb.dcm", "SC_rgb_expb.dcm"),
        ("SC_rgb_16bit.dcm", "SC_rgb_rle_16bit.dcm"),
        ("SC_rgb.dcm", "SC_rgb_16bit.dcm"),
        ("US1_UNCR.dcm", "US1_J2KR.dcm"),
        ("OBXXXX1A.dcm", "OBXXXX1A_rle.dcm"),
        ("OBXXXX1A.dcm", "OBXXXX1A_expb.dcm"),
    ],
)
def test_colours_are_the_same_however_they_are_stored(name: str, other: str) -> None:
    found = picture(name)
    assert found.shape[2:] == (3,)
    assert np.ptp(found.astype(int), axis=2).max() > 100
    assert np.array_equal(found, picture(other))


def test_colours_are_those_that_were_stored() -> None:
    ds = dcmread(str(get_testdata_file("SC_rgb.dcm")))
    assert picture("SC_rgb.dcm").tobytes() == ds.PixelData[: ds.Rows * ds.Columns * 3]
    photo = dcmread(str(get_testdata_file("examples_ybr_color.dcm")))
    jpeg = get_frame(photo.PixelData, 6, number_of_frames=int(photo.NumberOfFrames))
    with Image.open(io.BytesIO(jpeg)) as decoded:
        expected = np.asarray(decoded.convert("RGB")).astype(int)
    assert np.abs(picture("examples_ybr_color.dcm", 7) - expected).max() <= 3


def test_each_frame_is_found_and_shown_by_its_own_functional_groups(tmp_path: Path) -> None:
    objects = dict(objects_of(report_of(film(rows=96, columns=80))))
    for kind, full in (("seg", 255), ("pm", 65535)):
        ds: Dataset = objects[kind]
        path = write(ds, tmp_path / f"{kind}.dcm")
        cells = ds.pixel_array.reshape(-1, 96, 80).astype(float)
        for number, frame in enumerate(cells, 1):
            assert np.abs(picture(path, number) - eight_bits(frame / full)).max() <= 1, kind
        with pytest.raises(NotAnalysable, match=f"no frame {len(cells) + 1}"):
            picture(path, len(cells) + 1)
    path = tmp_path / "sc.dcm"
    path.write_bytes(encoded(objects["sc"]))
    shown = decompressed(path).pixel_array.astype(int)
    assert np.abs(picture(path).reshape(shown.shape) - shown).mean() < 0.5


def test_a_frame_has_its_own_window(tmp_path: Path) -> None:
    ds = film(rows=64, columns=64, pixels=np.tile(np.arange(64) * 60, (64, 1)))
    ds.PixelData, ds.NumberOfFrames = ds.PixelData * 2, 2
    ds.PerFrameFunctionalGroupsSequence = [Dataset(), Dataset()]
    for item, center in zip(ds.PerFrameFunctionalGroupsSequence, ("600", "3000"), strict=True):
        item.FrameVOILUTSequence = [Dataset()]
        item.FrameVOILUTSequence[0].WindowCenter, item.FrameVOILUTSequence[0].WindowWidth = center, "100"
    path = write(ds, tmp_path / "two.dcm")
    dark = [int((picture(path, number)[0] == 0).sum()) for number in (1, 2)]
    assert dark == [10, 50]


def test_plain_and_small_pictures_are_shown(tmp_path: Path) -> None:
    blank = film(rows=64, columns=64, pixels=np.full((64, 64), 7))
    assert np.unique(picture(write(blank, tmp_path / "blank.dcm"))).tolist() == [0]
    assert picture("SC_rgb_small_odd.dcm").shape == (3, 3, 3)
    dot = np.zeros((200, 200), np.int64)
    dot[3, 4] = 9
    assert np.argwhere(picture(write(film(pixels=dot), tmp_path / "dot.dcm")) == 255).tolist() == [[3, 4]]
    assert set(np.unique(picture("liver_1frame.dcm"))) == {0, 255}  # one bit


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("test-SR.dcm", "no_pixels"),
        ("rtdose_1frame.dcm", "bad_header"),
        ("MR_truncated.dcm", "undecodable"),
        ("image_dfl.dcm", "transfer_syntax"),
        ("US1_UNCR.dcm", "too_large"),
    ],
)
def test_what_cannot_be_shown_says_why(name: str, reason: str) -> None:
    with pytest.raises(NotAnalysable) as caught:
        render_frame(Path(str(get_testdata_file(name))), max_pixels=300_000)
    assert caught.value.reason == reason


def test_a_missing_file_is_a_matter_of_storage(tmp_path: Path) -> None:
    with pytest.raises(StorageFailed):
        picture(tmp_path / "none.dcm")


@pytest.mark.parametrize(
    ("center", "width", "function"), [(1, 0.5, "LINEAR"), (1, 0, "SIGMOID"), (float("nan"), 5, "LINEAR")]
)
def test_no_window_is_made_that_the_standard_forbids(center: float, width: float, function: str) -> None:
    with pytest.raises(ValueError, match="no"):
        VoiWindow(center, width, function)


def test_what_is_outside_of_the_shutter_is_black_in_any_window(tmp_path: Path) -> None:
    ds = film(rows=96, columns=80, photometric="MONOCHROME1", ShutterShape="CIRCULAR",
              CenterOfCircularShutter=["48", "40"], RadiusOfCircularShutter="30")  # fmt: skip
    path = write(ds, tmp_path / "film.dcm")
    y, x = np.mgrid[1:97, 1:81]
    outside = (y - 48) ** 2 + (x - 40) ** 2 > 30**2
    for windowing in (None, VoiWindow(0, 100_000)):
        found = picture(path, windowing=windowing)
        assert not found[outside].any()
        assert found[~outside].mean() > 50


def test_a_frame_says_the_shape_of_its_pixels(tmp_path: Path) -> None:
    ds = film(rows=96, columns=80, ImagerPixelSpacing=["0.1", "0.2"])
    assert render_frame(write(ds, tmp_path / "film.dcm"), max_pixels=MAX_PIXELS).aspect_ratio == 0.5
