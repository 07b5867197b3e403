"""The Secondary Capture: the right picture, the right words, and no patient in it."""

from __future__ import annotations

import dataclasses
import io
from typing import Any

import numpy as np
import pytest
from PIL import ImageDraw
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_node.errors import EncodingFailed
from dicom_node.imaging import attributes
from dicom_node.imaging.pixels import read_film
from dicom_node.results.encoding.compression import Compression
from dicom_node.results.encoding.part10 import encoded
from dicom_node.results.image import secondary_capture
from dicom_node.results.image.secondary_capture import strongest, write_overview, write_sc
from dicom_node.results.report import Report
from dicom_node.results.sr.findings import write_sr
from dicom_node.results.validation import check_result
from tests.support.factories import chest, film, put, write
from tests.support.reports import EFFUSION, EQUIPMENT, finding, report_of, saliency_of
from tests.support.source_headers import SOURCES


def captured(
    report: Report, *, which: int = 0, columns: int = 1024, compression: Compression = "none"
) -> Dataset:
    one = report.findings[which]
    (saliency,) = one.saliency
    source = next(item for item in report.sources if item.sop_instance_uid == saliency.sop_instance_uid)
    rng = np.random.default_rng(0)
    pixels = rng.random((source.header.Rows, source.header.Columns), np.float32)
    ds = write_sc(
        report, one, saliency, pixels, equipment=EQUIPMENT, columns=columns, compression=compression
    )
    check_result(ds)
    return ds


def picture(ds: Dataset) -> np.ndarray:
    return dcmread(io.BytesIO(encoded(ds))).pixel_array


def test_it_is_an_rgb_picture_of_two_panels() -> None:
    ds = captured(report_of(film(rows=900, columns=700)))
    assert (ds.PhotometricInterpretation, ds.SamplesPerPixel, ds.PlanarConfiguration) == ("RGB", 3, 0)
    assert (ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation) == (8, 8, 7, 0)
    assert picture(ds).shape == (ds.Rows, ds.Columns, 3)
    assert ds.Rows > 900
    assert ds.Columns > 1400


@pytest.mark.parametrize("size", [(3000, 2400), (2400, 3000), (600, 480), (100, 80)])
@pytest.mark.parametrize("columns", [512, 1024, 2048])
def test_a_panel_is_never_larger_than_was_asked_for(size: tuple[int, int], columns: int) -> None:
    ds = captured(report_of(film(rows=size[0], columns=size[1])), columns=columns)
    assert ds.Columns < 2.35 * columns
    assert ds.Rows < 1.15 * columns


@pytest.mark.parametrize(
    ("ratio", "elements"),
    [
        (2, {"PixelAspectRatio": ["2", "1"]}),
        (0.5, {"PixelSpacing": ["0.2", "0.4"]}),
        (1.5, {"ImagerPixelSpacing": ["0.3", "0.2"]}),
        (2, {"NominalScannedPixelSpacing": ["0.2", "0.1"]}),
    ],
)
@pytest.mark.parametrize("columns", [512, 1024])
def test_a_circle_is_round_whatever_the_shape_of_the_film_s_pixels(
    ratio: float, elements: dict[str, Any], columns: int
) -> None:
    source = film(rows=300, columns=400, **elements)
    y, x = np.mgrid[:300, :400]
    circle = (((y - 150) * ratio) ** 2 + (x - 200) ** 2 <= 70**2).astype(np.float32)
    report = report_of(source)
    (saliency,) = report.findings[0].saliency
    ds = write_sc(report, report.findings[0], saliency, circle, equipment=EQUIPMENT, columns=columns)
    shown = picture(ds)
    rows, edge = shown.shape[0], shown.shape[0] // 8
    bright = (shown.min(axis=2) > 127)[edge : rows - edge, : shown.shape[1] * 2 // 5]
    down, across = np.count_nonzero(bright.any(axis=1)), np.count_nonzero(bright.any(axis=0))
    assert across > 90
    assert down / across == pytest.approx(1, abs=0.02)
    assert "PixelAspectRatio" not in ds
    assert "PixelSpacing" not in ds


def test_it_is_written_as_what_it_is() -> None:
    ds = captured(report_of(film(rows=96, columns=80)))
    assert ds.SOPClassUID == "1.2.840.10008.5.1.4.1.1.7"
    assert (ds.Modality, ds.SeriesNumber, ds.ConversionType) == ("OT", 9902, "WSD")
    assert list(ds.ImageType) == ["DERIVED", "SECONDARY"]
    assert ds.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
    assert (ds.BurnedInAnnotation, ds.RecognizableVisualFeatures) == ("NO", "NO")
    assert ds.BodyPartExamined == "CHEST"
    assert "RESEARCH USE ONLY" in ds.SeriesDescription
    assert "RESEARCH USE ONLY" in ds.DerivationDescription
    assert "LossyImageCompression" not in ds
    assert "PixelSpacing" not in ds


def test_it_names_its_source_its_method_and_its_maker() -> None:
    source = film(rows=96, columns=80)
    ds = captured(report_of(source))
    (item,) = ds.SourceImageSequence
    assert item.ReferencedSOPInstanceUID == source.SOPInstanceUID
    assert item.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
    assert ds.DerivationCodeSequence[0].CodeValue == "130403"
    (contribution,) = ds.ContributingEquipmentSequence
    assert contribution.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"
    assert contribution.ManufacturerModelName == ds.ManufacturerModelName == "dicom-node"
    assert contribution.ContributionDescription == "Computed with the model openi-findings 1.0.0"


def test_another_method_is_not_called_grad_cam() -> None:
    source = film(rows=96, columns=80)
    saliency = dataclasses.replace(saliency_of(source), method="Occlusion")
    ds = captured(report_of(source, findings=[finding(saliency=[saliency])]))
    assert "DerivationCodeSequence" not in ds
    assert "Occlusion" in ds.DerivationDescription


def test_it_shares_the_series_with_the_other_maps_and_not_with_the_report() -> None:
    source = film(rows=96, columns=80)
    findings = [
        finding(saliency=[saliency_of(source)]),
        finding("effusion", "Effusion", code=EFFUSION, saliency=[saliency_of(source, column=0.7)]),
    ]
    report = report_of(source, findings=findings)
    one, other = captured(report), captured(report, which=1)
    assert one.SeriesInstanceUID == other.SeriesInstanceUID
    assert one.SOPInstanceUID != other.SOPInstanceUID
    assert (one.InstanceNumber, other.InstanceNumber) == (1, 2)
    assert one.SeriesInstanceUID != write_sr(report, equipment=EQUIPMENT).SeriesInstanceUID


def test_a_repeat_is_byte_identical() -> None:
    source = film(rows=96, columns=80)
    assert encoded(captured(report_of(source))) == encoded(captured(report_of(source)))


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every text that is drawn into a picture."""
    texts: list[str] = []
    draw_text = ImageDraw.ImageDraw.text

    def spy(pen: ImageDraw.ImageDraw, place: tuple[float, float], text: str, **how: object) -> None:
        texts.append(text)
        draw_text(pen, place, text, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", spy)
    return texts


def test_nothing_of_the_patient_is_drawn(drawn: list[str]) -> None:
    captured(report_of(film(rows=96, columns=80, patient_name="Sentinel^Name", patient_id="SENTINEL-ID")))
    assert {"high", "low"} < set(drawn)
    caption, banner = (text for text in drawn if text not in ("high", "low"))
    assert banner == "RESEARCH USE ONLY · Cardiomegaly · openi-findings 1.0.0 · certainty 81 %"
    assert "Not for clinical use" in caption
    for secret in ("Sentinel", "SENTINEL", "20240229", "ACC-1", "2024"):
        assert secret not in "".join(drawn)


def test_a_score_is_not_called_a_certainty(drawn: list[str]) -> None:
    source = film(rows=96, columns=80)
    captured(
        report_of(source, findings=[finding(certainty=None, score=0.314, saliency=[saliency_of(source)])])
    )
    assert "RESEARCH USE ONLY · Cardiomegaly · openi-findings 1.0.0 · score 0.31, not calibrated" in drawn


def test_what_does_not_belong_together_is_refused() -> None:
    source, other = film(rows=96, columns=80), film(rows=96, columns=80, instance=2)
    report = report_of(source)
    pixels = np.zeros((96, 80), np.float32)
    with pytest.raises(EncodingFailed, match="does not belong"):
        write_sc(report, report.findings[0], saliency_of(other), pixels, equipment=EQUIPMENT)


@pytest.mark.parametrize(
    ("orientation", "expected"),
    [(["L", "F"], ["L", "F"]), (["a", "fr"], ["A", "FR"]), (["L", "?"], ""), ("", ""), ("L", ""), (None, "")],
)
def test_orientation_is_the_film_s_or_empty(orientation: object, expected: object) -> None:
    ds = captured(report_of(put(film(rows=96, columns=80), {"PatientOrientation": orientation})))
    found = ds.PatientOrientation
    assert (list(found) if expected else found or "") == expected


@pytest.mark.parametrize("name", SOURCES)
def test_any_source_leads_to_a_picture_that_reads_back(name, tmp_path) -> None:
    read = read_film(write(SOURCES[name](), tmp_path / "film.dcm"), max_pixels=10**6)
    ds = captured(report_of(read.header))
    again = dcmread(io.BytesIO(encoded(ds)))
    assert again.pixel_array.shape == (ds.Rows, ds.Columns, 3)
    assert attributes.whole_text(again, "PatientName") == attributes.whole_text(read.header, "PatientName")
    lossy = name.startswith("lossy")
    assert again.get("LossyImageCompression") == ("01" if lossy else None)


def many(count: int, *sources: Dataset) -> Report:
    """Report of findings that are the more certain the later they stand, over the films in turn."""
    films = sources or (film(rows=1200, columns=1000),)
    findings = [
        finding(
            f"finding_{number}",
            f"Finding {number}",
            certainty=0.5 + number / 100,
            saliency=[saliency_of(films[number % len(films)], row=0.2 + number / 20)],
        )
        for number in range(count)
    ]
    return report_of(*films, findings=findings)


def overview(report: Report, *, columns: int = 928, compression: Compression = "jpeg") -> Dataset:
    pixels = {
        source.sop_instance_uid: np.array(chest(*source.shape), np.float32) for source in report.sources
    }
    ds = write_overview(report, pixels, equipment=EQUIPMENT, columns=columns, compression=compression)
    check_result(ds)
    return ds


def test_an_overview_is_a_secondary_capture_like_the_others() -> None:
    report = many(3)
    pixels = np.array(chest(1200, 1000), np.float32)
    first = report.findings[0]
    one, all_ = write_sc(report, first, first.saliency[0], pixels, equipment=EQUIPMENT), overview(report)
    of_the_picture = {
        "SOPInstanceUID", "Rows", "Columns", "PixelData", "DerivationDescription",
        "LossyImageCompressionRatio",
    }  # fmt: skip
    assert {each.keyword for each in one} == {each.keyword for each in all_}
    for element in one:
        if element.keyword not in of_the_picture:
            assert element == all_[element.tag], element.keyword
    assert one.file_meta.TransferSyntaxUID == all_.file_meta.TransferSyntaxUID
    assert "RESEARCH USE ONLY" in all_.DerivationDescription


def test_an_overview_of_the_default_size_is_small() -> None:
    ds = overview(many(5))
    assert ds.Rows <= 1024
    assert len(encoded(ds)) < 500_000


def test_the_five_most_certain_findings_are_outlined(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(
        secondary_capture.overlay,
        "draw_outlined",
        lambda *given, **words: drawn.extend([*given, words]) or np.zeros((2, 2, 3), np.uint8),
    )
    ds = overview(many(7), compression="none")
    films, names, words = drawn
    assert [name for name, _ in names] == [f"Finding {number}" for number in (6, 5, 4, 3, 2)]
    assert names[0][1] == "certainty 56 %"
    assert [list(each.heat) for each in films] == [[1, 2, 3, 4, 5]]
    assert words["banner"] == (
        "RESEARCH USE ONLY · Overview · openi-findings 1.0.0 · 5 strongest of 7 findings with a heat map"
    )
    assert "Not for clinical use" in words["caption"]
    assert "Finding 6, Finding 5" in ds.DerivationDescription


def test_an_uncalibrated_finding_is_ranked_by_its_score_and_called_so() -> None:
    source = film(rows=96, columns=80)
    report = report_of(
        source,
        findings=[
            finding("a", "A", certainty=0.3, saliency=[saliency_of(source)]),
            finding("b", "B", certainty=None, score=0.7, saliency=[saliency_of(source)]),
            finding("c", "C", certainty=0.99),
        ],
    )
    assert [found.key for found, _ in strongest(report)] == ["b", "a"]


def test_an_overview_shows_each_film_that_a_finding_lies_on_and_names_it() -> None:
    one = film(rows=900, columns=700, LossyImageCompression="00")
    other = film(
        rows=800, columns=900, instance=2, view="LL", LossyImageCompression="01", BurnedInAnnotation="YES"
    )
    third = film(rows=800, columns=900, instance=3)
    report = many(4, one, other)
    report = dataclasses.replace(report, sources=(*report.sources, *report_of(third).sources))
    ds = overview(report, compression="none")
    named = {item.ReferencedSOPInstanceUID for item in ds.SourceImageSequence}
    assert named == {one.SOPInstanceUID, other.SOPInstanceUID}
    assert not ds.PatientOrientation
    assert (ds.BurnedInAnnotation, ds.LossyImageCompression) == ("YES", "01")
    assert ds.Columns > 700 + 900


def test_an_overview_is_repeated_to_the_byte() -> None:
    assert encoded(overview(many(3))) == encoded(overview(many(3)))
    assert overview(many(3)).SOPInstanceUID != overview(many(4)).SOPInstanceUID


def test_an_overview_of_what_does_not_belong_together_is_refused() -> None:
    source, other = film(rows=96, columns=80), film(rows=96, columns=80, instance=2)
    report = report_of(source, findings=[finding(saliency=[saliency_of(other)])])
    with pytest.raises(EncodingFailed, match="does not belong"):
        write_overview(report, {}, equipment=EQUIPMENT)
