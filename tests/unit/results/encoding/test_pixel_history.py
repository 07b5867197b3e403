"""Derived objects say what was done to their film's pixels before: letters burned in, detail lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from dicom_node.imaging.pixels import read_header
from dicom_node.results.encoding.part10 import with_file_meta
from dicom_node.results.encoding.pixel_history import burned_in_annotation, lossy_compression
from dicom_node.results.result_set import write_results
from tests.support.factories import chest, film, header, put, write
from tests.support.reports import EQUIPMENT, finding, report_of, saliency_of


def source(syntax: UID = ExplicitVRLittleEndian, **elements: object) -> Dataset:
    ds = with_file_meta(header(film(rows=96, columns=80)))
    ds.file_meta.TransferSyntaxUID = syntax
    return put(ds, elements)


@pytest.mark.parametrize(
    "syntax",
    [ExplicitVRLittleEndian, JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless, HTJ2KLossless, RLELossless],
)
def test_a_film_that_lost_nothing_says_nothing(syntax: UID) -> None:
    assert lossy_compression(source(syntax)) == {}
    assert lossy_compression(source(syntax, LossyImageCompression="00")) == {}


@pytest.mark.parametrize(
    ("syntax", "method"),
    [
        (JPEGBaseline8Bit, "ISO_10918_1"),
        (JPEGExtended12Bit, "ISO_10918_1"),
        (JPEGLSNearLossless, "ISO_14495_1"),
        (JPEG2000, "ISO_15444_1"),
        (HTJ2K, "ISO_15444_15"),
    ],
)
def test_a_lossy_transfer_syntax_is_enough(syntax: UID, method: str) -> None:
    assert lossy_compression(source(syntax)) == {
        "LossyImageCompression": "01",
        "LossyImageCompressionMethod": method,
    }


def test_a_reversible_jpeg_2000_that_says_so_is_believed_and_a_jpeg_baseline_is_not() -> None:
    assert lossy_compression(source(JPEG2000, LossyImageCompression="00")) == {}
    assert lossy_compression(source(JPEGBaseline8Bit, LossyImageCompression="00"))


def test_method_and_ratio_are_the_film_s_own_and_none_is_made_up() -> None:
    said = source(
        LossyImageCompression="01",
        LossyImageCompressionMethod="ISO_14495_1",
        LossyImageCompressionRatio="12.5",
    )
    assert lossy_compression(said) == {
        "LossyImageCompression": "01",
        "LossyImageCompressionMethod": "ISO_14495_1",
        "LossyImageCompressionRatio": "12.5",
    }
    assert lossy_compression(source(LossyImageCompression="01")) == {"LossyImageCompression": "01"}
    assert "LossyImageCompressionRatio" not in lossy_compression(
        source(LossyImageCompression="01", LossyImageCompressionRatio="0.1")
    )


def test_the_header_of_a_file_keeps_its_transfer_syntax(tmp_path: Path) -> None:
    path = write(
        film(bits=8, transfer_syntax=JPEGBaseline8Bit, LossyImageCompression=None), tmp_path / "a.dcm"
    )
    assert lossy_compression(read_header(path))["LossyImageCompression"] == "01"


@pytest.mark.parametrize(("stated", "written"), [("YES", "YES"), ("yes", "YES"), ("NO", "NO"), (None, "NO")])
def test_letters_in_the_film_are_letters_in_what_repeats_it(stated: str | None, written: str) -> None:
    ds = put(film(rows=96, columns=80), {"BurnedInAnnotation": stated})
    assert burned_in_annotation(ds) == written
    assert burned_in_annotation(film(), ds) == written
    report = report_of(ds, findings=(finding(saliency=[saliency_of(ds)]),))
    pixels = {report.sources[0].sop_instance_uid: chest(96, 80)}
    objects = dict(write_results(report, pixels, equipment=EQUIPMENT, objects=("sc", "pdf")))
    assert {objects[kind].BurnedInAnnotation for kind in ("sc", "pdf")} == {written}
