"""Content rules: a broken one is noticed, in every class of result."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_node.results import codes, content_rules
from dicom_node.results.document.key_objects import write_rejection
from dicom_node.results.encoding.part10 import encoded, put
from dicom_node.results.result_set import write_results
from tests.support.factories import chest, film
from tests.support.reports import CREATED, EQUIPMENT, SIMILAR, report_of

KINDS = ("sr", "sc", "similar", "pdf", "ko", "seg", "pr", "pm")


@functools.cache
def _files() -> dict[str, bytes]:
    report = report_of(film(rows=96, columns=80), similar=SIMILAR)
    pixels = {report.sources[0].sop_instance_uid: chest(96, 80)}
    written = dict(
        write_results(report, pixels, equipment=EQUIPMENT, objects=KINDS, columns=64, compression="none")
    )
    written["rejection"] = write_rejection(
        list(written.values()),
        title=codes.REJECTED_FOR_QUALITY,
        reason="Why.",
        created=CREATED,
        revision=1,
        equipment=EQUIPMENT,
    )
    return {kind: encoded(ds) for kind, ds in written.items()}


def _measurements(ds: Dataset) -> list[Dataset]:
    return [item for item in content_rules.descendants(ds) if content_rules.name_of(item) == "125007"]


def _without(item: Dataset, name: str) -> None:
    item.ContentSequence = [child for child in item.ContentSequence if content_rules.name_of(child) != name]


def _number(ds: Dataset) -> Dataset:
    return next(item for item in content_rules.descendants(ds) if item.ValueType == "NUM")


def _region(ds: Dataset) -> Dataset:
    return next(item for item in content_rules.descendants(ds) if item.ValueType == "SCOORD")


def _unlisted(ds: Dataset) -> None:
    ds.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence.pop()


MISTAKES: dict[tuple[str, str], Callable[[Dataset], object]] = {
    ("sr", "its root is no CONTAINER"): lambda ds: put(ds, ValueType="TEXT"),
    ("sr", "TID 1500 wants Observer Type"): lambda ds: _without(ds, "121005"),
    ("sr", "does not have one Tracking Identifier"): lambda ds: _without(_measurements(ds)[1], "112039"),
    ("sr", "does not have one Finding"): lambda ds: _without(_measurements(ds)[1], "121071"),
    ("sr", "share the Tracking Unique Identifier"): lambda ds: put(
        _measurements(ds)[1].ContentSequence[1], UID=_measurements(ds)[0].ContentSequence[1].UID
    ),
    ("sr", "has no unit"): lambda ds: put(
        _number(ds).MeasuredValueSequence[0], MeasurementUnitsCodeSequence=[]
    ),
    ("sr", "which image it was selected from"): lambda ds: put(_region(ds), ContentSequence=[]),
    ("sr", "has 0 image regions"): lambda ds: _without(_measurements(ds)[0], "111030"),
    ("sr", "evidence does not list"): _unlisted,
    ("similar", "does not have one Tracking Unique"): lambda ds: _without(_measurements(ds)[0], "112040"),
    ("ko", "evidence does not list"): _unlisted,
    ("ko", "it selects nothing"): lambda ds: put(
        ds, ContentSequence=[item for item in ds.ContentSequence if "ReferencedSOPSequence" not in item]
    ),
    ("rejection", "that it does not reject"): lambda ds: ds.ContentSequence.pop(),
    ("sc", "Pixel Data is"): lambda ds: put(ds, Rows=ds.Rows + 2),
    ("sc", "Pixel Data is missing"): lambda ds: ds.__delitem__("PixelData"),
    ("sc", "it names no source image"): lambda ds: put(ds, SourceImageSequence=[]),
    ("seg", "Pixel Data is"): lambda ds: put(ds, Columns=ds.Columns + 2),
    ("seg", "frame 1 names no source image"): lambda ds: put(
        ds.PerFrameFunctionalGroupsSequence[0], DerivationImageSequence=[]
    ),
    ("seg", "belongs to segment 2"): lambda ds: put(
        ds.SharedFunctionalGroupsSequence[0].SegmentIdentificationSequence[0], ReferencedSegmentNumber=2
    ),
    ("seg", "not numbered from 1"): lambda ds: put(ds.SegmentSequence[0], SegmentNumber=3),
    ("pm", "functional groups for 0 frames"): lambda ds: put(ds, PerFrameFunctionalGroupsSequence=[]),
    ("pm", "Pixel Data is"): lambda ds: put(ds, BitsAllocated=8),
    ("pr", "it is of no image"): lambda ds: put(ds, ReferencedSeriesSequence=[]),
    ("pr", "which is not there"): lambda ds: put(ds.GraphicLayerSequence[0], GraphicLayer="OTHER"),
    ("pr", "more or fewer points"): lambda ds: put(
        ds.GraphicAnnotationSequence[0].GraphicObjectSequence[0], NumberOfGraphicPoints=4
    ),
    ("pdf", "is no PDF"): lambda ds: put(ds, EncapsulatedDocument=b"PK\x03\x04"),
    ("pdf", "bytes, not"): lambda ds: put(ds, EncapsulatedDocumentLength=100),
}


def read(kind: str) -> Dataset:
    return dcmread(io.BytesIO(_files()[kind]))


@pytest.mark.parametrize("kind", [*KINDS, "rejection"])
def test_what_is_written_fits(kind: str) -> None:
    assert list(content_rules.broken_rules(read(kind))) == []


@pytest.mark.parametrize(("kind", "words"), MISTAKES)
def test_what_does_not_fit_is_named(kind: str, words: str) -> None:
    ds = read(kind)
    MISTAKES[kind, words](ds)
    assert any(words in mistake for mistake in content_rules.broken_rules(ds)), list(
        content_rules.broken_rules(ds)
    )


def test_of_another_class_nothing_is_said() -> None:
    assert list(content_rules.broken_rules(film())) == []
