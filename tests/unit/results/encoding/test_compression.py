"""Pictures are compressed once, decompressed to the last bit, and say what they lost."""

from __future__ import annotations

import io
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit

from dicom_node.results.encoding.compression import TRANSFER_SYNTAXES, Compression, decompressed, put_picture
from dicom_node.results.encoding.part10 import encoded
from dicom_node.results.image.secondary_capture import write_sc
from dicom_node.results.validation import check_result
from tests.support.factories import film
from tests.support.reports import EQUIPMENT, report_of

COMPRESSIONS: tuple[Compression, ...] = get_args(Compression)


def smooth(rows: int, columns: int) -> np.ndarray:
    """Film without noise, as drawn: shape (rows, columns), in [0, 1]."""
    row, column = np.mgrid[0 : 1 : rows * 1j, 0 : 1 : columns * 1j]
    return (0.5 + 0.5 * np.sin(6 * row) * np.cos(5 * column)).astype(np.float32)


def capture(compression: Compression, **elements: object) -> Dataset:
    """Secondary Capture of the default size."""
    report = report_of(film(rows=1200, columns=1000, **elements))
    finding = report.findings[0]
    (saliency,) = finding.saliency
    ds = write_sc(report, finding, saliency, smooth(1200, 1000), equipment=EQUIPMENT, compression=compression)
    check_result(ds)
    return ds


def written(ds: Dataset, folder: Path) -> Path:
    path = folder / f"{ds.SOPInstanceUID}.dcm"
    path.write_bytes(encoded(ds))
    return path


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_every_compression_is_read_by_pydicom_and_decompressed_to_the_same_pixels(
    tmp_path: Path, compression: Compression
) -> None:
    path = written(capture(compression), tmp_path)
    read = dcmread(path)
    assert read.file_meta.TransferSyntaxUID == TRANSFER_SYNTAXES[compression]
    plain = decompressed(path) if compression != "none" else read
    assert plain.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert plain.PhotometricInterpretation == "RGB"
    assert plain.SOPInstanceUID == read.SOPInstanceUID
    pixels = read.pixel_array
    if compression != "jpeg":
        assert np.array_equal(pixels, plain.pixel_array)
    else:  # decoders differ in how they fill in the colour between two pixels
        shown = np.asarray(Image.open(io.BytesIO(_frame(read))).convert("RGB"))
        assert np.abs(shown.astype(int) - plain.pixel_array.astype(int)).mean() <= 0.5


def _frame(ds: Dataset) -> bytes:
    from pydicom.encaps import get_frame

    return get_frame(ds.PixelData, 0, number_of_frames=1)


def test_the_lossless_ones_hold_the_drawn_pixels(tmp_path: Path) -> None:
    plain = capture("none").pixel_array
    for compression in ("jpeg-ls", "rle"):
        assert np.array_equal(dcmread(written(capture(compression), tmp_path)).pixel_array, plain)


def test_the_picture_of_the_default_size_is_small_and_close_to_what_was_drawn(tmp_path: Path) -> None:
    ds = capture("jpeg")
    path = written(ds, tmp_path)
    assert ds.Rows <= 1024
    assert path.stat().st_size < 500_000
    difference = np.abs(decompressed(path).pixel_array.astype(int) - capture("none").pixel_array.astype(int))
    assert difference.mean() < 2


def test_a_lossy_picture_says_so_with_its_ratio() -> None:
    ds = capture("jpeg")
    assert ds.LossyImageCompression == "01"
    assert ds.LossyImageCompressionMethod == "ISO_10918_1"
    assert float(ds.LossyImageCompressionRatio) > 5
    assert ds.PhotometricInterpretation == "YBR_FULL_422"


@pytest.mark.parametrize("compression", ["jpeg-ls", "rle", "none"])
def test_a_lossless_picture_claims_no_loss(compression: Compression) -> None:
    ds = capture(compression)
    assert ds.get("LossyImageCompression") in (None, "00")
    assert "LossyImageCompressionRatio" not in ds
    assert ds.PhotometricInterpretation == "RGB"


def test_the_loss_of_the_film_comes_before_that_of_the_picture() -> None:
    ds = capture(
        "jpeg",
        LossyImageCompression="01",
        LossyImageCompressionMethod="ISO_15444_1",
        LossyImageCompressionRatio="12.5",
    )
    assert list(ds.LossyImageCompressionMethod) == ["ISO_15444_1", "ISO_10918_1"]
    first, second = map(float, ds.LossyImageCompressionRatio)
    assert first == 12.5
    assert second > 5


def test_a_film_that_does_not_state_its_ratio_leaves_one_pair_of_values() -> None:
    ds = capture("jpeg", LossyImageCompression="01", LossyImageCompressionMethod="ISO_15444_1")
    assert ds.LossyImageCompressionMethod == "ISO_10918_1"


def test_the_same_picture_has_the_same_bytes() -> None:
    assert encoded(capture("jpeg")) == encoded(capture("jpeg"))


def test_only_jpeg_is_announced_by_its_transfer_syntax() -> None:
    ds = Dataset()
    assert put_picture(ds, np.zeros((8, 8, 3), np.uint8), "jpeg") == JPEGBaseline8Bit
    assert put_picture(ds, np.zeros((8, 8, 3), np.uint8), "none") == ExplicitVRLittleEndian
