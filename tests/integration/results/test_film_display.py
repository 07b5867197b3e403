"""Presentation states as DCMTK draws them: the greys that the model saw, whatever the film's header."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from dicom_node.imaging.grayscale import GreyTransform, grey_transform
from dicom_node.imaging.pixels import is_inverted, pixel_cell, read_cells, read_film
from dicom_node.imaging.shutter import visible
from dicom_node.results.encoding.part10 import encoded
from dicom_node.results.image.multiframe import film_maps
from dicom_node.results.image.presentation_state import write_gsps
from dicom_node.results.validation import check_result, dciodvfy
from tests.support.factories import chest, film, put, write
from tests.support.reports import EQUIPMENT, report_of

pytestmark = pytest.mark.peer

STORED = np.round(chest(128, 112) * 3800 + 100).astype(np.int64)
WIDE = STORED * 16
ROOT = np.round(np.sqrt(np.arange(4096) / 4095) * 4095)
DIM = np.round(np.linspace(0, 30000, 4096))
FEW = np.linspace(0, 90, 4096)
COVERED = np.where((np.arange(128)[:, None] < 20) | (np.arange(112)[None, :] >= 100), 4095, STORED)
PADDED = np.where(np.arange(128)[:, None] < 20, 0, STORED)
STRAY = STORED | ((STORED % 160 == 0) << 15)


def lut(entries: np.ndarray, *, first: int = 0, bits: int = 16) -> Sequence:
    """Sequence of one lookup table."""
    item = put(Dataset(), {"ModalityLUTType": "US"})
    descriptor = [len(entries) % 65536, first % 65536, bits]
    item["LUTDescriptor"] = DataElement("LUTDescriptor", "US", descriptor)
    item["LUTData"] = DataElement("LUTData", "OW", np.asarray(entries).astype("<u2").tobytes())
    return Sequence([item])


def edges(kind: str, left: int, right: int, upper: int, lower: int) -> dict[str, str]:
    """Elements of a rectangular shutter or collimator."""
    names = ("LeftVertical", "RightVertical", "UpperHorizontal", "LowerHorizontal")
    found = {
        f"{kind}{name}Edge": str(at) for name, at in zip(names, (left, right, upper, lower), strict=True)
    }
    return {f"{kind}Shape": "RECTANGULAR"} | found


def one(pixels: np.ndarray = STORED, **elements: object) -> Callable[[], Dataset]:
    """Function that makes a film."""
    return lambda: film(pixels=pixels, **elements)  # type: ignore[arg-type]


FILMS: dict[str, Callable[[], Dataset]] = {
    "window": one(window=(1800, 2500)),
    "no window": one(),
    "no window, 16 bits": one(WIDE, bits=16),
    "no window, signed": one(STORED - 2048, signed=True),
    "8 bits": one(STORED // 16, bits=8, window=(120, 200)),
    "MONOCHROME1": one(photometric="MONOCHROME1", window=(1800, 2500)),
    "MONOCHROME1, no window": one(photometric="MONOCHROME1"),
    "MONOCHROME2 with INVERSE": one(PresentationLUTShape="INVERSE", window=(2000, 3500)),
    "negative slope": one(RescaleSlope="-1", RescaleIntercept="4095", window=(2000, 3000)),
    "negative slope, no window": one(RescaleSlope="-0.5", RescaleIntercept="10.25"),
    "small slope, no window": one(RescaleSlope="0.0001", RescaleIntercept="0"),
    "half a slope": one(RescaleSlope="0.5", RescaleIntercept="-100", window=(900, 1500)),
    "small slope, narrow LINEAR_EXACT": one(
        RescaleSlope="0.001", RescaleIntercept="0", window=(2, 3), voi_function="LINEAR_EXACT"
    ),
    "large slope": one(RescaleSlope="1000", RescaleIntercept="-1e6", window=("1e6", "3e6")),
    "absurd slope": one(RescaleSlope="1e-300", RescaleIntercept="0", window=(1800, 2500)),
    "slope without intercept": one(RescaleSlope="2", window=(4000, 5000)),
    "Modality LUT": one(ModalityLUTSequence=lut(ROOT), window=(2400, 3000)),
    "Modality LUT, no window": one(ModalityLUTSequence=lut(ROOT[::-1])),
    "VOI LUT": one(VOILUTSequence=lut(ROOT, bits=12)),
    "VOI LUT, dim by intent": one(VOILUTSequence=lut(DIM)),
    "VOI LUT of fewer bits than it states": one(VOILUTSequence=lut(ROOT)),
    "VOI LUT that shows nothing": one(VOILUTSequence=lut(FEW * 0 + 5), window=(1800, 2500)),
    "VOI LUT behind a rescale": one(
        VOILUTSequence=lut(ROOT, first=-1000, bits=12), RescaleSlope="1", RescaleIntercept="-1000"
    ),
    "VOI LUT, MONOCHROME1": one(photometric="MONOCHROME1", VOILUTSequence=lut(ROOT, bits=12)),
    "SIGMOID": one(window=(1800, 1500), voi_function="SIGMOID"),
    "SIGMOID, MONOCHROME1": one(window=(1800, 1500), voi_function="SIGMOID", photometric="MONOCHROME1"),
    "SIGMOID, small slope": one(
        window=(1.8, 1.5), voi_function="SIGMOID", RescaleSlope="0.001", RescaleIntercept="0"
    ),
    "SIGMOID, 16 bits signed": one(
        WIDE - 32768, bits=16, signed=True, window=(-4000, 24000), voi_function="SIGMOID"
    ),
    "LINEAR_EXACT": one(window=(1800, 2500), voi_function="LINEAR_EXACT"),
    "windows, the second fits": one(WindowCenter=["-600", "1800"], WindowWidth=["1600", "2500"]),
    "window that does not fit": one(window=(-600, 1600)),
    "decimal commas": one(WindowCenter="1800,5", WindowWidth="2500,0"),
    "padding, no window": one(PADDED, PixelPaddingValue=0),
    "padding under a table": one(
        PADDED, PixelPaddingValue=0, VOILUTSequence=lut(ROOT, bits=12), photometric="MONOCHROME1"
    ),
    "shutter": one(COVERED, **edges("Shutter", 1, 100, 21, 128)),
    "collimator": one(COVERED, **edges("Collimator", 1, 100, 21, 128)),
    "stray bits": lambda: put(
        film(pixels=STRAY, bits=16, window=(1800, 2500)),
        {"BitsStored": 12, "HighBit": 11},
    ),
    "twice as high as wide": one(window=(1800, 2500), PixelAspectRatio=["2", "1"]),
}  # fmt: skip


def seen_by_the_model(path: Path, ds: Dataset) -> GreyTransform:
    """Transform that was chosen on the film's pixels."""
    cells = read_cells(path, max_pixels=10**6)
    cell = pixel_cell(ds, int(ds.BitsAllocated), int(ds.BitsStored))
    mask = visible(ds, *cells.shape)
    return grey_transform(ds, cell, cells, inverted=is_inverted(ds), visible=mask)


def state_of(path: Path) -> tuple[Dataset, Path]:
    """Presentation state of a film's file, and its file; DCMTK finds nothing to draw on top."""
    film_read = read_film(path, max_pixels=10**6)
    report = report_of(film_read.header, grey=seen_by_the_model(path, film_read.header))
    (maps,) = film_maps(report)
    state = write_gsps(report, maps, equipment=EQUIPMENT)
    assert state is not None
    check_result(state)
    whole = path.with_name("state.dcm")
    whole.write_bytes(encoded(state))
    # A table that is dim by intent leaves the upper half of its 16 bits unused; the film's own does as well.
    assert [line for line in dciodvfy(whole) if "maximum LUT Data value is 0x7530" not in line] == []
    bare = path.with_name("bare.dcm")
    for keyword in ("GraphicAnnotationSequence", "GraphicLayerSequence"):
        del state[keyword]
    bare.write_bytes(encoded(state))
    return state, bare


def by_dcmtk(path: Path, state: Path) -> tuple[np.ndarray, str]:
    """Greys of a film under a presentation state, 8 bits, and what DCMTK says of the state."""
    picture = path.with_suffix(".pgm")
    done = subprocess.run(
        ["dcmp2pgm", "-v", "-p", state, path, picture], check=True, capture_output=True, text=True
    )
    with Image.open(picture) as image:
        return np.asarray(image, np.float64), done.stdout + done.stderr


@pytest.mark.parametrize("name", FILMS)
def test_dcmtk_draws_the_film_as_the_model_saw_it(name: str, tmp_path: Path) -> None:
    ds = FILMS[name]()
    path = write(ds, tmp_path / "film.dcm")
    found, _ = by_dcmtk(path, state_of(path)[1])
    expected = 255 * read_film(path, max_pixels=10**6).pixels.astype(np.float64)
    counts = np.ones(expected.shape, bool)
    if (mask := visible(ds, *expected.shape)) is not None:  # DCMTK reads shutters and draws none
        counts = mask
    if "padding, " in name:  # a window has no place for it
        counts = PADDED != 0
    assert expected[counts].std() > 20
    assert abs(found[counts].mean() - expected[counts].mean()) <= 1
    assert np.abs(found - expected)[counts].max() <= 2


def test_a_window_is_repeated_and_one_of_the_films_own_says_so(tmp_path: Path) -> None:
    said: dict[str, Any] = {}
    for name in ("window", "no window", "LINEAR_EXACT", "window that does not fit", "negative slope"):
        state, _ = state_of(write(FILMS[name](), tmp_path / "film.dcm"))
        (voi,) = state.SoftcopyVOILUTSequence
        said[name] = (
            float(voi.WindowCenter),
            float(voi.WindowWidth),
            voi.get("WindowCenterWidthExplanation"),
        )
    assert said["window"] == (1800, 2500, None)
    assert said["LINEAR_EXACT"] == (1800.5, 2501, None)
    assert said["negative slope"] == (2000, 3000, None)
    low, high = np.percentile(STORED, (0.5, 99.5))
    for name in ("no window", "window that does not fit"):
        assert said[name][:2] == pytest.approx(((low + high + 1) / 2, high - low + 1))
        assert said[name][2] == "Percentiles 0.5 to 99.5 of the film"


def test_padding_is_black_under_a_table(tmp_path: Path) -> None:
    path = write(FILMS["padding under a table"](), tmp_path / "film.dcm")
    found, _ = by_dcmtk(path, state_of(path)[1])
    assert found[:20].max() <= 1


def test_dcmtk_reads_the_shutter(tmp_path: Path) -> None:
    path = write(FILMS["shutter"](), tmp_path / "film.dcm")
    _, said = by_dcmtk(path, state_of(path)[1])
    assert "Rectangular shutter: LV=1 RV=100 UH=21 LH=128\n" in said
    assert "Shutter presentation value: 0x0\n" in said


@pytest.mark.parametrize(
    ("elements", "ratio"),
    [
        ({"PixelAspectRatio": ["2", "1"]}, "0.5"),
        ({"PixelSpacing": ["0.2", "0.4"]}, "2"),
        ({"ImagerPixelSpacing": ["0.3", "0.2"]}, "0.666667"),
        ({"PixelSpacing": ["0.143", "0.143"]}, "1"),
        ({"PixelAspectRatio": ["90", "1"]}, "1"),
    ],
)
def test_dcmtk_reads_the_shape_of_the_pixels(elements: dict[str, Any], ratio: str, tmp_path: Path) -> None:
    # DCMTK says width over height.
    path = write(film(pixels=STORED, **elements), tmp_path / "film.dcm")
    _, said = by_dcmtk(path, state_of(path)[1])
    assert f"presentation pixel aspect ratio: {ratio}\n" in said
