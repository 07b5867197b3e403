"""Every transfer syntax that is decoded, against pictures that another program wrote or read."""

from __future__ import annotations

import base64
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    HTJ2K,
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from dicom_node.imaging.pixels import read_cells, read_film
from dicom_node.imaging.transfer_syntaxes import ENCAPSULATED, NATIVE, TRANSFER_SYNTAXES
from tests.support.factories import film, put, write

pytestmark = pytest.mark.peer

# A 64 x 64 ramp of 12 bits, (37 row + 11 column) mod 4096, encoded losslessly by OpenJPH 0.26.3.
HTJ2K_RAMP = base64.b64decode(
    "/0//UQApQAAAAABAAAAAQAAAAAAAAAAAAAAAQAAAAEAAAAAAAAAAAAABDwEB/1AACAACAAAACv9SAAwAAgABAAUEBEAB/1wAEyCI"
    "kJCQkJCQkJCQkJCQiIiI/2QAFwABT3BlbkpQSCBWZXIgMC4yNi4zLv+QAAoAAAAAAR8AAf+TwAArAP9/bfXb/EnyAoG0AMAAE0AA"
    "E4CQkAGCdABIReoAo1QAwAAVMAAFWEgkEvmqcQJ1AKKKEiXqwEIB7LYAwAAV0AAFpqIoiqIoiufKenpwgngAUKGgoKCgoKD+/Yxg"
    "e/Yxgey6AMAAFrwAAXRAEEIIIYQQQgghhPn/Cnp6enp6enACfQCkJBKJRCKRSCQSiUQikf7/eGCEB79iEB79iEB79iEB7LMBwAAu"
    "lgABd4BERERERERERERERERERERE/r/8p6enp6enp6enp6enp6enwnUBSARBEARBEARBEARBEARBEARBEARBEARB/v9/2wBCB79h"
    "CB79hCB79hCB79hCB79hCB79hCB79hCB7LMC/9k="
)

ENCODERS = {
    JPEGLossless: ("dcmcjpeg", "+el", "+ua"),
    JPEGLosslessSV1: ("dcmcjpeg", "+e1", "+ua"),
    JPEGLSLossless: ("dcmcjpls", "+el", "+ua"),
    RLELossless: ("dcmcrle", "+ua"),
    ImplicitVRLittleEndian: ("dcmconv", "+ti"),
    ExplicitVRBigEndian: ("dcmconv", "+tb"),
    ExplicitVRLittleEndian: ("dcmconv", "+te"),
}
"""Lossless syntaxes that DCMTK writes."""

LOSSY = {
    JPEGBaseline8Bit: (8, ("dcmcjpeg", "+eb", "+ua")),
    JPEGExtended12Bit: (12, ("dcmcjpeg", "+ee", "+ua")),
    JPEGLSNearLossless: (12, ("dcmcjpls", "+en", "+md", "2", "+ua")),
}
DECODERS = {
    JPEGBaseline8Bit: "dcmdjpeg",
    JPEGExtended12Bit: "dcmdjpeg",
    JPEGLSNearLossless: "dcmdjpls",
    JPEGLSLossless: "dcmdjpls",
    RLELossless: "dcmdrle",
}


def dcmtk(*command: str | Path) -> None:
    assert shutil.which(str(command[0])), f"{command[0]} is missing: install DCMTK"
    subprocess.run(list(map(str, command)), check=True, capture_output=True)


def grey(source: Path | Dataset) -> np.ndarray:
    return read_film(source, max_pixels=10**7).pixels


def source(bits: int, *, signed: bool = False, photometric: str = "MONOCHROME2") -> Dataset:
    return film(bits=bits, rows=121, columns=99, signed=signed, photometric=photometric, seed=3)


@pytest.mark.parametrize("syntax", list(ENCODERS), ids=lambda uid: UID(uid).name)
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 15, 16])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_what_dcmtk_wrote_without_loss_is_read_bit_for_bit(
    tmp_path: Path, syntax: str, bits: int, photometric: str
) -> None:
    ds = source(bits, photometric=photometric)
    target = tmp_path / "encoded.dcm"
    dcmtk(*ENCODERS[syntax], write(ds, tmp_path / "plain.dcm"), target)
    assert dcmread(target).file_meta.TransferSyntaxUID == syntax
    assert np.array_equal(grey(target), grey(ds))


@pytest.mark.parametrize("syntax", [RLELossless, ExplicitVRBigEndian, ImplicitVRLittleEndian, JPEGLossless])
def test_signed_values_survive_too(tmp_path: Path, syntax: str) -> None:
    ds = source(12, signed=True)
    target = tmp_path / "encoded.dcm"
    dcmtk(*ENCODERS[syntax], write(ds, tmp_path / "plain.dcm"), target)
    assert np.array_equal(grey(target), grey(ds))


@pytest.mark.parametrize("syntax", list(LOSSY), ids=lambda uid: UID(uid).name)
def test_lossy_pixels_are_those_that_dcmtk_decodes(tmp_path: Path, syntax: str) -> None:
    bits, encoder = LOSSY[syntax]
    lossy, decoded = tmp_path / "lossy.dcm", tmp_path / "decoded.dcm"
    dcmtk(*encoder, write(source(bits), tmp_path / "plain.dcm"), lossy)
    dcmtk(DECODERS[syntax], lossy, decoded)
    assert dcmread(lossy).file_meta.TransferSyntaxUID == syntax
    # Two inverse cosine transforms may round apart by one grey (ISO/IEC 10918-2).
    tolerance = 0 if syntax == JPEGLSNearLossless else 1.01
    stored = dcmread(decoded).pixel_array.astype(np.int64)
    ours = np.round(
        grey(put(dcmread(lossy), {"WindowCenter": str(2 ** (bits - 1)), "WindowWidth": str(2**bits)}))
        * (2**bits - 1)
    )
    assert np.abs(ours - stored).max() <= tolerance


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless], ids=lambda uid: uid.name)
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_what_the_factory_encodes_dcmtk_reads(tmp_path: Path, syntax: str, bits: int) -> None:
    ds = film(bits=bits, rows=121, columns=99, transfer_syntax=syntax)
    decoded = tmp_path / "decoded.dcm"
    dcmtk(DECODERS[syntax], write(ds, tmp_path / "encoded.dcm"), decoded)
    assert np.array_equal(grey(decoded), grey(ds))


@pytest.mark.parametrize("bits", [8, 10, 12, 15, 16])
def test_jpeg_2000_is_what_pillow_decodes(bits: int, tmp_path: Path) -> None:
    plain = film(bits=bits, rows=121, columns=99)
    ds = film(bits=bits, rows=121, columns=99, transfer_syntax=JPEG2000Lossless)
    assert np.array_equal(grey(ds), grey(plain))
    # Another reader than the one that the node uses, on the same codestream.
    codestream = tmp_path / "film.j2k"
    data = bytes(ds.PixelData)
    codestream.write_bytes(data[data.index(b"\xff\x4f\xff\x51") : data.rindex(b"\xff\xd9") + 2])
    shift = 16 - bits if bits > 8 else 0  # Pillow moves the values to the top of 16 bits
    assert np.array_equal(np.asarray(Image.open(codestream)) >> shift, plain.pixel_array)


@pytest.mark.parametrize("syntax", [HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K], ids=lambda uid: uid.name)
def test_high_throughput_jpeg_2000_of_another_encoder_is_read_bit_for_bit(syntax: str) -> None:
    ramp = np.add.outer(37 * np.arange(64), 11 * np.arange(64)) % 4096
    ds = film(pixels=ramp, bits=12)
    expected = grey(ds)
    ds["PixelData"] = DataElement("PixelData", "OB", encapsulate([HTJ2K_RAMP]))
    ds.file_meta.TransferSyntaxUID = syntax
    assert np.array_equal(grey(ds), expected)


def test_no_syntax_is_left_without_a_test() -> None:
    tested = {*ENCODERS, *LOSSY, JPEG2000Lossless, HTJ2K, HTJ2KLossless, HTJ2KLosslessRPCL}
    lossy_twin = {UID("1.2.840.10008.1.2.4.91")}  # JPEG 2000: the same decoder and codestream
    assert tested | lossy_twin == frozenset(TRANSFER_SYNTAXES) == NATIVE | ENCAPSULATED


WINDOW = {"WindowCenter": "1500", "WindowWidth": "2000"}


@pytest.mark.parametrize(
    "elements",
    [
        WINDOW,
        WINDOW | {"PhotometricInterpretation": "MONOCHROME1"},
        WINDOW | {"RescaleSlope": "0.5", "RescaleIntercept": "-100", "WindowCenter": "500"},
        WINDOW | {"VOILUTFunction": "SIGMOID"},
    ],
    ids=["window", "MONOCHROME1", "rescale", "sigmoid"],
)
def test_a_film_is_shown_as_dcmtk_shows_it(tmp_path: Path, elements: dict[str, str]) -> None:
    ds = film(rows=121, columns=99, **elements)
    options = ["+Wi", "1", *(["+Wfs"] if "VOILUTFunction" in elements else [])]
    picture = tmp_path / "film.pgm"
    dcmtk("dcm2pnm", *options, write(ds, tmp_path / "film.dcm"), picture)
    shown = np.asarray(Image.open(picture)).astype(np.float64)
    assert np.abs(grey(ds) * 255 - shown).max() <= 1.5


@pytest.mark.parametrize("name", ["JPEG-lossy.dcm", "JPGExtended.dcm"])
def test_a_scan_header_that_ends_at_coefficient_0_is_read_as_dcmtk_reads_it(
    name: str, tmp_path: Path
) -> None:
    # The first of these public files has Se = 0 in its scan header, the second is its mended twin.
    source = Path(get_testdata_file(name, download=False))
    subprocess.run(["dcmdjpeg", source, tmp_path / "native.dcm"], check=True, capture_output=True)
    expected = dcmread(tmp_path / "native.dcm").pixel_array.astype(np.int64)
    found = read_cells(source, max_pixels=10**7).astype(np.int64)
    assert np.abs(found - expected).max() <= 2
