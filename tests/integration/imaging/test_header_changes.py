"""Headers changed at random over four films: each film is drawn as DCMTK draws it, or refused with a reason.

``make fuzz`` tries 5,000 changes, a plain run of the tests a few hundred.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, note, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DigitalXRayImageStorageForPresentation,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from dicom_node.errors import NotAnalysable
from dicom_node.imaging import attributes, pixels
from dicom_node.imaging.grayscale import GreyTransform, grey_transform
from dicom_node.imaging.shutter import visible
from dicom_node.imaging.stored_values import stored_values
from dicom_node.imaging.voi import Rescale, VoiWindow, read_modality
from dicom_node.results import codes
from tests.support.factories import chest, film, put, write

pytestmark = pytest.mark.peer

EXAMPLES = int(os.environ.get("DICOM_NODE_FUZZ", "250"))

ROWS, COLUMNS = 96, 80
DRAWN = chest(ROWS, COLUMNS)
FILMS: dict[str, Callable[[], Dataset]] = {
    "CR, 12 bits": lambda: film(pixels=DRAWN, window=(2048, 4096)),
    "CR, MONOCHROME1, 10 bits, big endian": lambda: film(
        pixels=DRAWN, photometric="MONOCHROME1", bits=10, transfer_syntax=ExplicitVRBigEndian
    ),
    "DX, 14 bits, RLE": lambda: film(
        pixels=DRAWN,
        bits=14,
        modality="DX",
        sop_class=DigitalXRayImageStorageForPresentation,
        transfer_syntax=RLELossless,
        window=(8192, 12000),
    ),
    "SC, signed 16 bits, implicit VR": lambda: film(
        pixels=DRAWN, bits=16, signed=True, transfer_syntax=ImplicitVRLittleEndian
    ),
}

NUMBERS = st.one_of(
    st.sampled_from(["", "0", "1", "-1", "2048,5", "4096", "nan", "1e99", "x", "65535", "-600", "0.0001"]),
    st.floats(-20000, 70000, allow_nan=False).map(lambda value: f"{value:.6g}"),
)
WHOLE = st.sampled_from([0, 1, 2, 7, 8, 10, 11, 12, 13, 15, 16, 17, 32, 255, 4095, 65535])


def _several(numbers: st.SearchStrategy[str]) -> st.SearchStrategy[list[str]]:
    return st.lists(numbers, min_size=1, max_size=3)


def _lut(count: int, first: int, bits: int, shape: str) -> Dataset:
    top = (1 << min(bits, 16)) - 1
    curve = np.linspace(0, 1, max(count, 1))
    entries = {"straight": curve, "root": np.sqrt(curve), "falling": 1 - curve, "dim": curve / 3}[shape]
    item = Dataset()
    item["LUTDescriptor"] = DataElement("LUTDescriptor", "US", [count % 65536, first, bits])
    item["LUTData"] = DataElement("LUTData", "US", np.round(entries * top).astype(int).tolist())
    return item


LUTS = st.builds(
    _lut,
    st.sampled_from([256, 1024, 4096]),
    st.sampled_from([0, 100, 1000]),
    st.sampled_from([8, 10, 12, 16]),
    st.sampled_from(["straight", "root", "falling", "dim"]),
)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "WindowCenter": _several(NUMBERS),
    "WindowWidth": _several(NUMBERS),
    "VOILUTFunction": st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID", "sigmoid", "CURVE", ""]),
    "RescaleSlope": NUMBERS,
    "RescaleIntercept": NUMBERS,
    "RescaleType": st.sampled_from(["US", "HU", ""]),
    "PhotometricInterpretation": st.sampled_from(
        ["MONOCHROME1", "MONOCHROME2", "monochrome2", "RGB", "PALETTE COLOR", "", None]
    ),
    "PresentationLUTShape": st.sampled_from(["IDENTITY", "INVERSE", "inverse", "LIN OD", ""]),
    "BitsStored": WHOLE,
    "BitsAllocated": WHOLE,
    "HighBit": WHOLE,
    "PixelRepresentation": st.sampled_from([0, 1, 2]),
    "SamplesPerPixel": st.sampled_from([0, 1, 3]),
    "NumberOfFrames": st.sampled_from(["", "0", "1", "2", "x"]),
    "Rows": st.sampled_from([0, 1, ROWS - 1, ROWS, ROWS + 1, 60000]),
    "Columns": st.sampled_from([0, 1, COLUMNS - 1, COLUMNS, COLUMNS + 1, 60000]),
    "PixelPaddingValue": st.sampled_from([0, 1, 63, 4095, 65535]),
    "PixelPaddingRangeLimit": st.sampled_from([0, 10, 200, 65535]),
    "PixelAspectRatio": st.sampled_from([["1", "1"], ["2", "1"], ["0", "0"], ["1"]]),
    "PixelSpacing": st.sampled_from([["0.14", "0.14"], ["0.2", "0.1"], ["0", "0"], ["a", "b"]]),
    "PatientOrientation": st.sampled_from([["L", "F"], ["F", "R"], ["R", "H"], ["X"], ""]),
    "SpecificCharacterSet": st.sampled_from(["ISO_IR 192", "ISO_IR_192", "ISO 2022 IR 58", "none", ""]),
    "ShutterShape": st.sampled_from(["RECTANGULAR", "CIRCULAR", "POLYGONAL", ""]),
    "ShutterLeftVerticalEdge": st.sampled_from(["1", "10", "70", "-5", ""]),
    "ShutterRightVerticalEdge": st.sampled_from(["75", "80", "5", "x"]),
    "ShutterUpperHorizontalEdge": st.sampled_from(["1", "20"]),
    "ShutterLowerHorizontalEdge": st.sampled_from(["90", "96", "3"]),
    "CenterOfCircularShutter": st.sampled_from([["48", "40"], ["0"]]),
    "RadiusOfCircularShutter": st.sampled_from(["30", "200", "0"]),
    "VOILUTSequence": st.lists(LUTS, min_size=1, max_size=2).map(Sequence),
    "ModalityLUTSequence": st.lists(LUTS, min_size=1, max_size=1).map(Sequence),
    "LossyImageCompression": st.sampled_from(["00", "01", "02"]),
    "BurnedInAnnotation": st.sampled_from(["YES", "NO", "maybe"]),
}
CHANGES = st.dictionaries(st.sampled_from(sorted(VALUES)), st.none(), min_size=1, max_size=4).flatmap(
    lambda chosen: st.fixed_dictionaries({keyword: VALUES[keyword] for keyword in chosen})
)


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.sampled_from(sorted(FILMS)), CHANGES)
def test_a_changed_header_gives_the_greys_of_dcmtk_or_a_reason(
    tmp_path: Path, name: str, changes: dict[str, Any]
) -> None:
    note(f"{name}: {changes}")
    path = write(put(FILMS[name](), changes), tmp_path / "film.dcm")
    found = _read(path)
    if isinstance(found, NotAnalysable):
        assert found.reason in codes.REFUSALS
        assert len(str(found)) > len(found.reason)
        event(f"refused: {found.reason}")
        return
    assert found.min() >= 0
    assert found.max() <= 1
    transform, compared = _transform(path)
    expected = _by_dcmtk(_as_meant(path), transform)
    if expected is None or expected.shape != found.shape:
        event("DCMTK cannot draw it")
        return
    event("drawn")
    assert np.abs(255 * found[compared] - expected[compared]).max(initial=0) <= 2


def _read(path: Path) -> np.ndarray | NotAnalysable:
    try:
        return pixels.read_film(path, max_pixels=10**6).pixels
    except NotAnalysable as error:
        return error


def _transform(path: Path) -> tuple[GreyTransform, np.ndarray]:
    """Transform that was chosen, and the pixels that are neither padding nor behind a shutter."""
    with attributes.tolerance():
        ds = pixels.read_instance(path, pixels=True)
        cells = pixels.read_cells(path, max_pixels=10**6)
        stored = pixels.integer(ds, "BitsStored")
        cell = pixels.pixel_cell(ds, pixels.integer(ds, "BitsAllocated"), stored)
        seen = visible(ds, *cells.shape)
        transform = grey_transform(ds, cell, cells, inverted=pixels.is_inverted(ds), visible=seen)
        values = stored_values(cell, cells)[cells]
        first = next(iter(attributes.numbers(ds, "PixelPaddingValue")), np.nan)
        limit = next(iter(attributes.numbers(ds, "PixelPaddingRangeLimit")), first)
        low, high = sorted((first, first if np.isnan(limit) else limit))
        shown = ~((values >= low) & (values <= high))
    return transform, shown if seen is None else shown & seen


def _as_meant(path: Path) -> Path:
    """File without the liberties that DCMTK takes at their word: see docs/imaging.md."""
    with attributes.tolerance():
        ds = pixels.read_instance(path, pixels=True)
        stored = pixels.integer(ds, "BitsStored")
        for keyword in ("RescaleSlope", "RescaleIntercept"):
            if "," in attributes.text(ds, keyword):
                put(ds, {keyword: attributes.text(ds, keyword).replace(",", ".")})
        if read_modality(ds) == Rescale():  # absurd numbers are no rescale
            put(ds, {"RescaleSlope": None, "RescaleIntercept": None})
        cells = pixels.read_cells(path, max_pixels=10**6)
        signed = pixels.integer(ds, "PixelRepresentation", 0) == 1
        words = cells.view(f"i{cells.itemsize}") if signed else cells
        if words.min() >= -(1 << (stored - 1)) and words.max() < 1 << stored:
            # Pixels that keep to the bits at the bottom: a higher High Bit is an error of the header.
            put(ds, {"HighBit": stored - 1})
        return write(ds, path.with_name("meant.dcm"))


def _by_dcmtk(path: Path, transform: GreyTransform) -> np.ndarray | None:
    """Greys of the film as dcm2pnm draws it with the same VOI, 8 bits; None when it cannot."""
    if isinstance(transform.voi, VoiWindow):
        voi = ["+Ww", f"{transform.voi.center:.10f}", f"{transform.voi.width:.10f}"]
        voi.append("+Wfs" if transform.voi.function == "SIGMOID" else "+Wfl")
    else:
        voi = ["+Wl", str(transform.voi + 1)]
    picture = path.with_suffix(".pgm")
    picture.unlink(missing_ok=True)
    ended = subprocess.run(["dcm2pnm", "-O", *voi, path, picture], capture_output=True, check=False)
    if ended.returncode or not picture.exists():
        return None
    with Image.open(picture) as image:
        return np.asarray(image.convert("L"), np.float64)
