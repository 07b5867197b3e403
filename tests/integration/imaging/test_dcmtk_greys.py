"""Films as DCMTK draws them: greys of ours within 2 of ``dcm2pnm``, for headers that tempt to other ones."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRBigEndian

from dicom_node.imaging.pixels import read_film
from tests.support.factories import chest, film, put, write

pytestmark = pytest.mark.peer

STORED = np.round(chest(128, 112) * 4095).astype(np.int64)
ENTRIES = np.round(np.sqrt(np.arange(4096) / 4095) * 4095).astype(np.int64)
DIM = np.round(np.linspace(0, 30000, 4096)).astype(np.int64)


def with_bits(words: np.ndarray, *, signed: bool = False, overlay: bool = False) -> Dataset:
    """Film of 12 bits in words of 16 that are as given."""
    ds = film(pixels=words, bits=16, window=(0, 4096) if signed else (2048, 4096))
    put(ds, {"BitsStored": 12, "HighBit": 11, "PixelRepresentation": int(signed)})
    if overlay:
        for element, vr, value in (
            (0x10, "US", 128),
            (0x11, "US", 112),
            (0x40, "CS", "G"),
            (0x50, "SS", [1, 1]),
        ):
            ds.add(DataElement(0x60000000 | element, vr, value))
        ds.add(DataElement(0x60000100, "US", 16))
        ds.add(DataElement(0x60000102, "US", 15))
    return ds


def with_lut(entries: np.ndarray, bits: int, **options: object) -> Dataset:
    """Film with a VOI LUT."""
    item = Dataset()
    item["LUTDescriptor"] = DataElement("LUTDescriptor", "US", [4096, 0, bits])
    order = ">u2" if options.get("transfer_syntax") == ExplicitVRBigEndian else "<u2"
    item["LUTData"] = DataElement("LUTData", "OW", entries.astype(order).tobytes())
    return film(pixels=STORED, VOILUTSequence=Sequence([item]), **options)  # type: ignore[arg-type]


WINDOW, LUT = ("+Wi", "1"), ("+Wl", "1")
STRAY = (np.arange(STORED.size).reshape(STORED.shape) % 160 == 0) << 15
HALF = np.where(np.arange(128)[:, None] % 2, (STORED - 2048) & 0xFFF, (STORED - 2048) & 0xFFFF)

FILMS: dict[str, tuple[Callable[[], Dataset], tuple[str, ...]]] = {
    "plain": (lambda: film(pixels=STORED, window=(1800, 2500)), WINDOW),
    "MONOCHROME1": (lambda: film(pixels=STORED, photometric="MONOCHROME1", window=(1800, 2500)), WINDOW),
    "SIGMOID": (lambda: film(pixels=STORED, window=(1800, 2500), voi_function="SIGMOID"), (*WINDOW, "+Wfs")),
    "rescaled": (
        lambda: film(pixels=STORED, RescaleSlope="-1", RescaleIntercept="4095", window=(2000, 3000)),
        WINDOW,
    ),
    "stray bit 15": (lambda: with_bits(STORED | STRAY), WINDOW),
    "embedded overlay": (lambda: with_bits(STORED | ((STORED % 7 == 0) << 15), overlay=True), WINDOW),
    "signs extended in part": (lambda: with_bits(HALF, signed=True), WINDOW),
    "VOI LUT": (lambda: with_lut(ENTRIES, 12), LUT),
    "VOI LUT, big endian": (lambda: with_lut(ENTRIES, 12, transfer_syntax=ExplicitVRBigEndian), LUT),
    "VOI LUT, dim by intent": (lambda: with_lut(DIM, 16), LUT),
}  # fmt: skip


def by_dcmtk(path: Path, *options: str) -> np.ndarray:
    """Greys of a film as dcm2pnm draws it, 8 bits."""
    picture = path.with_suffix(".pgm")
    subprocess.run(["dcm2pnm", "-O", *options, path, picture], check=True, capture_output=True)
    with Image.open(picture) as image:
        return np.asarray(image, np.float64)


@pytest.mark.parametrize("name", FILMS)
def test_greys_are_those_of_dcmtk(name: str, tmp_path: Path) -> None:
    make, options = FILMS[name]
    path = write(make(), tmp_path / "film.dcm")
    expected = by_dcmtk(path, *options)
    found = 255 * read_film(path, max_pixels=10**6).pixels.astype(np.float64)
    assert np.abs(found - expected).max() <= 2


def test_a_public_film_whose_signs_are_extended_in_part(tmp_path: Path) -> None:
    # mlut_18 has no window: DCMTK stretches it from its least value to its greatest, we between percentiles.
    source = Path(get_testdata_file("mlut_18.dcm", download=False))
    path = tmp_path / "film.dcm"
    path.write_bytes(source.read_bytes())
    expected = by_dcmtk(path, "+Wm")
    found = read_film(path, max_pixels=10**7).pixels.astype(np.float64)
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.99
