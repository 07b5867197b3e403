"""Selection of films: a header's silence excludes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    BasicTextSRStorage,
    Comprehensive3DSRStorage,
    CTImageStorage,
    DigitalMammographyXRayImageStorageForPresentation,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    EncapsulatedPDFStorage,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
)

from dicom_node.imaging import attributes
from dicom_node.imaging.pixels import read_header
from dicom_node.imaging.radiographs import ANALYSED_SOP_CLASSES
from dicom_node.imaging.selection import Eligibility, select
from dicom_node.results.codes import REFUSALS
from dicom_node.results.image.secondary_capture import write_sc
from dicom_node.results.sr.findings import write_sr
from tests.support.factories import chest, film, header, openi_film, openi_headers, put, uid
from tests.support.reports import EQUIPMENT, report_of

MULTI_FRAME = MultiFrameGrayscaleByteSecondaryCaptureImageStorage


def head(**elements: object) -> Dataset:
    return header(film(rows=64, columns=64, **elements))


def reasons(*headers: Dataset) -> list[str]:
    verdicts = select(headers)
    for verdict in verdicts:
        assert bool(verdict.reason) == bool(verdict.text)
        assert verdict.reason in {"", *REFUSALS}
        assert verdict.analysable == (not verdict.reason)
    return [verdict.reason for verdict in verdicts]


@pytest.mark.parametrize("sop_class", sorted(ANALYSED_SOP_CLASSES), ids=lambda uid: uid.name)
def test_films_are_analysed(sop_class: str) -> None:
    assert reasons(head(sop_class=sop_class)) == [""]


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("view", ["PA", "AP", "LL", "LATERAL", None])
@pytest.mark.parametrize(
    "body_part", ["CHEST", "PORTABLE CHEST", "NON GRID CHEST", "THORAX", "LUNG", "", None]
)
def test_polarity_view_and_a_missing_body_part_exclude_nothing(
    photometric: str, view: str | None, body_part: str | None
) -> None:
    assert reasons(head(photometric=photometric, view=view, body_part=body_part)) == [""]


@pytest.mark.parametrize(
    ("elements", "reason"),
    [
        ({"sop_class": CTImageStorage}, "sop_class"),
        ({"sop_class": BasicTextSRStorage}, "sop_class"),
        ({"sop_class": Comprehensive3DSRStorage}, "sop_class"),
        ({"sop_class": EncapsulatedPDFStorage}, "sop_class"),
        ({"sop_class": DigitalMammographyXRayImageStorageForPresentation}, "sop_class"),
        ({"sop_class": MultiFrameTrueColorSecondaryCaptureImageStorage}, "sop_class"),
        ({"sop_class": "1.2.3.4"}, "sop_class"),
        ({"SOPClassUID": None}, "sop_class"),
        ({"SOPInstanceUID": None}, "identifiers"),
        ({"SeriesInstanceUID": ""}, "identifiers"),
        ({"StudyInstanceUID": None}, "identifiers"),
        ({"sop_class": SecondaryCaptureImageStorage, "modality": "CT"}, "modality"),
        ({"sop_class": SecondaryCaptureImageStorage, "modality": "US"}, "modality"),
        ({"sop_class": SecondaryCaptureImageStorage, "PhotometricInterpretation": "RGB"}, "not_grayscale"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "not_grayscale"),
        ({"sop_class": MULTI_FRAME, "NumberOfFrames": "3"}, "multi_frame"),
        ({"body_part": "HAND"}, "body_part"),
        ({"body_part": "ABDOMEN"}, "body_part"),
        ({"body_part": "LSPINE"}, "body_part"),
        ({"body_part": None, "SeriesDescription": "Left knee, lateral"}, "body_part"),
        ({"body_part": None, "ProtocolName": "SKULL AP"}, "body_part"),
        ({"body_part": None, "StudyDescription": "XR PELVIS"}, "body_part"),
    ],
)  # fmt: skip
def test_what_is_positively_no_chest_film_is_excluded(elements: dict[str, object], reason: str) -> None:
    assert reasons(head(**elements)) == [reason]


@pytest.mark.parametrize(
    "elements",
    [
        {"body_part": "CHEST", "StudyDescription": "Chest and abdomen"},
        {"body_part": "ABDOMEN", "SeriesDescription": "Chest PA"},
        {"body_part": None, "SeriesDescription": "AP", "StudyDescription": "XR CHEST, LEFT HAND"},
        {"body_part": "UNKNOWN"},
        {"body_part": "T-D3000"},
        {"body_part": None, "StudyDescription": "Hernia"},
        {"body_part": None, "StudyDescription": "handheld, shiplap, footage"},
        {"body_part": None, "SeriesDescription": None, "StudyDescription": None},
        {"NumberOfFrames": "1"},
        {"modality": ""},
        {"modality": None},
        {"PhotometricInterpretation": None},
    ],
)
def test_what_may_be_a_chest_film_is_analysed(elements: dict[str, object]) -> None:
    assert reasons(head(**elements)) == [""]


def test_image_type_excludes_nothing() -> None:
    # A third of the Open-i films call themselves derived and secondary.
    image_type = ["DERIVED", "SECONDARY", "", "CSA RESAMPLED"]
    assert reasons(head(ImageType=image_type)) == [""]
    assert reasons(head(sop_class=SecondaryCaptureImageStorage, ImageType=image_type[:2])) == [""]


def test_a_raw_film_is_analysed_only_without_a_processed_one() -> None:
    raw = head(sop_class=DigitalXRayImageStorageForProcessing, modality="DX", instance=1)
    processed = head(sop_class=DigitalXRayImageStorageForPresentation, modality="DX", instance=2)
    assert reasons(raw) == [""]
    assert reasons(raw, processed) == ["for_processing", ""]
    assert reasons(processed, raw) == ["", "for_processing"]


def test_of_two_instances_with_one_uid_the_first_is_analysed() -> None:
    assert reasons(head(seed=1), head(seed=2), head(instance=2)) == ["", "duplicate", ""]


def test_a_damaged_copy_takes_no_whole_film_with_it() -> None:
    damaged = put(head(), {"SOPClassUID": ["1.2.840.100", "8.5.1.4.1.1.1"]})
    assert reasons(damaged, head()) == ["sop_class", ""]
    assert reasons(head(), damaged) == ["", "sop_class"]


def test_a_capture_of_an_image_of_the_study_is_a_copy() -> None:
    original = head(instance=1)
    item = put(Dataset(), {"ReferencedSOPInstanceUID": uid("instance", 1, 1, 1)})
    copy = head(instance=2, sop_class=SecondaryCaptureImageStorage, SourceImageSequence=[item])
    assert reasons(original, copy) == ["", "derived"]
    assert reasons(copy) == [""]
    processed = head(instance=3, SourceImageSequence=[item])
    assert reasons(original, processed) == ["", ""]


def test_our_own_results_never_come_round_again() -> None:
    ds = film(rows=96, columns=80)
    report = report_of(ds)
    finding = report.findings[0]
    capture = write_sc(report, finding, finding.saliency[0], chest(96, 80), equipment=EQUIPMENT)
    results = (write_sr(report, equipment=EQUIPMENT), capture)
    assert reasons(header(ds), *(header(result) for result in results)) == ["", "own_result", "own_result"]
    # Another node, a PACS that rewrote the equipment but left the contribution, a grey one.
    put(capture, {"ManufacturerModelName": "PACS", "PhotometricInterpretation": "MONOCHROME2"})
    assert reasons(header(capture)) == ["own_result"]


@pytest.mark.parametrize(
    ("elements", "text"),
    [
        ({"modality": "CT"}, "modality CT is no radiography"),
        ({"modality": "DOE^JANE"}, "a modality that is not defined is no radiography"),
        ({"modality": "\x1b[2J"}, "a modality that is not defined is no radiography"),
        ({"SOPClassUID": "DOE^JANE"}, "an unknown SOP class is no radiograph"),
        ({"sop_class": CTImageStorage}, "CT Image Storage is no radiograph"),
        (
            {"PhotometricInterpretation": "DOE^JANE"},
            "the picture is of unknown photometric interpretation, not grayscale",
        ),
        ({"PhotometricInterpretation": "RGB"}, "the picture is RGB, not grayscale"),
        (
            {"body_part": None, "StudyDescription": "DOE JANE, hand"},
            "the header names another body part: hand",
        ),
    ],
)
def test_a_reason_repeats_only_what_the_standard_or_the_node_defines(
    elements: dict[str, object], text: str
) -> None:
    made = header(film(rows=64, columns=64))
    renamed = {"modality": "Modality", "sop_class": "SOPClassUID", "body_part": "BodyPartExamined"}
    with attributes.tolerance():
        for key, value in elements.items():
            setattr(made, renamed.get(key, key), value)
        assert select([made])[0].text == text


def test_the_order_of_the_verdicts_is_that_of_the_headers() -> None:
    headers = [head(instance=1), head(instance=2, body_part="HAND"), head(instance=3)]
    assert [verdict.analysable for verdict in select(headers)] == [True, False, True]
    assert [verdict.analysable for verdict in select(headers[::-1])] == [True, False, True]
    assert select([]) == ()


def test_a_header_of_nothing_but_bad_values_gets_a_verdict() -> None:
    assert reasons(Dataset()) == ["sop_class"]
    bad = put(head(), {"SOPClassUID": "not a uid", "Modality": "?" * 40, "NumberOfFrames": "many"})
    assert reasons(bad) == ["sop_class"]
    assert reasons(head(NumberOfFrames="many")) == [""]


def test_a_verdict_without_reason_is_analysable() -> None:
    assert Eligibility().analysable
    assert not Eligibility("blank", "the picture is blank").analysable


@pytest.mark.films
def test_every_real_film_is_analysed(films_root: Path) -> None:
    for path in sorted((films_root / "dicom").glob("*.dcm")):
        assert reasons(read_header(path)) == [""], path.name


@pytest.mark.films
def test_no_original_header_of_open_i_is_excluded(films_root: Path) -> None:
    facts = ("Body Part Examined", "Modality", "SOP Class UID", "Image Type", "Photometric Interpretation")
    kinds = {tuple(row[fact] for fact in facts): row for row in openi_headers(films_root).values()}
    assert len(kinds) >= 15
    for kind, row in kinds.items():
        ds = openi_film(row, (chest(64, 64) * 255).astype("u1"), longer_side=64)
        assert reasons(header(ds)) == [""], kind
