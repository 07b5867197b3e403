"""Content rules of each SOP class: parts of an object that must fit each other.

A validator of the standard looks at one element after the other. These checks look at what it cannot see:
a reference that the evidence does not list, a group without its tracking identifier, pixels that are more or
fewer than the matrix says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

from pydicom.dataset import Dataset
from pydicom.uid import (
    EncapsulatedPDFStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    KeyObjectSelectionDocumentStorage,
    ParametricMapStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from dicom_node.results import codes
from dicom_node.results.encoding.part10 import value_of
from dicom_node.results.sr import document

_BYTE: Final = 8


def broken_rules(ds: Dataset) -> Iterator[str]:
    """Rules that an object breaks, one sentence each; none for a class that results do not have."""
    check = CLASSES.get(str(ds.get("SOPClassUID")))
    if check is not None:
        yield from check(ds)


def descendants(item: Dataset) -> list[Dataset]:
    """All content items below one, depth first."""
    found = []
    for child in _content(item):
        found.append(child)
        found += descendants(child)
    return found


def _content(item: Dataset) -> Sequence[Dataset]:
    return value_of(item, "ContentSequence") or ()


def name_of(item: Dataset) -> str:
    """Code value of a content item's concept name; empty when it has none."""
    names = value_of(item, "ConceptNameCodeSequence") or ()
    return "".join([str(value_of(name, "CodeValue") or "") for name in names])


def _references(items: Iterable[Dataset]) -> Iterator[str]:
    for item in items:
        for instance in value_of(item, "ReferencedSOPSequence") or ():
            yield str(value_of(instance, "ReferencedSOPInstanceUID"))


def _evidence(ds: Dataset) -> set[str]:
    return {
        str(instance.get("ReferencedSOPInstanceUID"))
        for keyword in ("CurrentRequestedProcedureEvidenceSequence", "PertinentOtherEvidenceSequence")
        for study in ds.get(keyword, ())
        for series in study.get("ReferencedSeriesSequence", ())
        for instance in series.get("ReferencedSOPSequence", ())
    }


def _document(ds: Dataset, items: Iterable[Dataset]) -> Iterator[str]:
    """PS3.3 C.17.2: what a document refers to is its evidence; `items` are all of its content."""
    evidence = _evidence(ds)
    for uid in dict.fromkeys(_references(items)):
        if uid not in evidence:
            yield f"it refers to the instance {uid} that its evidence does not list"
    if str(ds.get("ValueType")) != "CONTAINER":
        yield "its root is no CONTAINER"


def _report(ds: Dataset) -> Iterator[str]:
    """TID 1500 and its measurement groups (TID 1410, 1501)."""
    items = descendants(ds)
    yield from _document(ds, items)
    if name_of(ds) != codes.IMAGING_MEASUREMENT_REPORT.value:
        return
    begins_with = set(map(name_of, _content(ds)))
    for required in (codes.LANGUAGE, codes.OBSERVER_TYPE, codes.PROCEDURE_REPORTED):
        if required.value not in begins_with:
            yield f"TID 1500 wants {required.meaning}"
    tracking: set[str] = set()
    for item in items:
        value_type = value_of(item, "ValueType")
        if value_type == "NUM":
            yield from _number(item)
        elif value_type == "CONTAINER" and name_of(item) == codes.MEASUREMENT_GROUP.value:
            yield from _group(item, tracking)


def _number(item: Dataset) -> Iterator[str]:
    for measured in value_of(item, "MeasuredValueSequence") or ():
        if not value_of(measured, "MeasurementUnitsCodeSequence"):
            yield f"the number {name_of(item)} has no unit"


def _group(group: Dataset, tracking: set[str]) -> Iterator[str]:
    named: dict[str, list[Dataset]] = {}
    for item in _content(group):
        named.setdefault(name_of(item), []).append(item)
    once = (codes.TRACKING_IDENTIFIER, codes.TRACKING_UID, codes.FINDING)
    for required in once:
        if len(named.get(required.value, ())) != 1:
            yield f"a measurement group does not have one {required.meaning}"
    for item in named.get(codes.TRACKING_UID.value, ()):
        uid = str(item.get("UID"))
        if uid in tracking:
            yield f"two measurement groups share the Tracking Unique Identifier {uid}"
        tracking.add(uid)
    regions = named.get(codes.IMAGE_REGION.value, [])
    if any(not child.get("ContentSequence") for child in regions if child.get("ValueType") == "SCOORD"):
        yield "an image region does not say which image it was selected from"
    templates = {str(item.get("TemplateIdentifier")) for item in group.get("ContentTemplateSequence", ())}
    if "1410" in templates and len(regions) != 1:
        yield f"a planar group (TID 1410) has {len(regions)} image regions, not one"


def _selection(ds: Dataset) -> Iterator[str]:
    """TID 2010: it selects something, and its evidence is what it selects."""
    items = descendants(ds)
    yield from _document(ds, items)
    selected = set(_references(items))
    if not selected:
        yield "it selects nothing"
    rejects = name_of(ds) in {codes.REJECTED_FOR_QUALITY.value, codes.REJECTED_FOR_SAFETY.value}
    if rejects and _evidence(ds) != selected:
        yield "its evidence lists instances that it does not reject"


def _picture(ds: Dataset) -> Iterator[str]:
    frames = int(ds.get("NumberOfFrames") or 1)
    expected = frames * ds.Rows * ds.Columns * ds.SamplesPerPixel * (ds.BitsAllocated // _BYTE)
    if "PixelData" not in ds:
        yield "Pixel Data is missing"
    elif not ds.file_meta.TransferSyntaxUID.is_compressed and len(ds.PixelData) != expected + expected % 2:
        yield f"Pixel Data is {len(ds.PixelData)} bytes, not {expected}"


def _capture(ds: Dataset) -> Iterator[str]:
    yield from _picture(ds)
    if not ds.get("SourceImageSequence"):
        yield "it names no source image"


def _frames(ds: Dataset) -> Iterator[str]:
    yield from _picture(ds)
    groups = ds.get("PerFrameFunctionalGroupsSequence", ())
    if len(groups) != int(ds.get("NumberOfFrames") or 1):
        yield f"it has functional groups for {len(groups)} frames, not {ds.get('NumberOfFrames')}"
    for number, group in enumerate(groups, 1):
        sources = [
            source
            for derivation in group.get("DerivationImageSequence", ())
            for source in derivation.get("SourceImageSequence", ())
        ]
        if not sources:
            yield f"frame {number} names no source image"


def _segmentation(ds: Dataset) -> Iterator[str]:
    yield from _frames(ds)
    segments = [segment.get("SegmentNumber") for segment in ds.get("SegmentSequence", ())]
    if segments != list(range(1, len(segments) + 1)):
        yield "its segments are not numbered from 1 without gaps"
    # What all frames have in common stands in the shared groups: a single segment, for one.
    for group in (
        *ds.get("SharedFunctionalGroupsSequence", ()),
        *ds.get("PerFrameFunctionalGroupsSequence", ()),
    ):
        for item in group.get("SegmentIdentificationSequence", ()):
            if item.get("ReferencedSegmentNumber") not in segments:
                yield f"a frame belongs to segment {item.get('ReferencedSegmentNumber')}, which is not there"


def _presentation(ds: Dataset) -> Iterator[str]:
    images = {
        str(image.get("ReferencedSOPInstanceUID"))
        for series in ds.get("ReferencedSeriesSequence", ())
        for image in series.get("ReferencedImageSequence", ())
    }
    if not images:
        yield "it is of no image"
    layers = {str(layer.get("GraphicLayer")) for layer in ds.get("GraphicLayerSequence", ())}
    for annotation in ds.get("GraphicAnnotationSequence", ()):
        if str(annotation.get("GraphicLayer")) not in layers:
            yield f"it draws on the layer {annotation.get('GraphicLayer')}, which is not there"
        for drawn in annotation.get("GraphicObjectSequence", ()):
            if len(drawn.get("GraphicData", ())) != 2 * int(drawn.get("NumberOfGraphicPoints") or 0):
                yield "a graphic has more or fewer points than it says"


def _pdf(ds: Dataset) -> Iterator[str]:
    content = bytes(ds.get("EncapsulatedDocument") or b"")
    length = int(ds.get("EncapsulatedDocumentLength") or len(content))
    if not content.startswith(b"%PDF-"):
        yield "Encapsulated Document is no PDF"
    if len(content) != length + length % 2:
        yield f"Encapsulated Document is {len(content)} bytes, not {length}"


CLASSES: Final[Mapping[str, Callable[[Dataset], Iterator[str]]]] = {
    **dict.fromkeys(map(str, document.SOP_CLASSES.values()), _report),
    SecondaryCaptureImageStorage: _capture,
    SegmentationStorage: _segmentation,
    ParametricMapStorage: _frames,
    GrayscaleSoftcopyPresentationStateStorage: _presentation,
    KeyObjectSelectionDocumentStorage: _selection,
    EncapsulatedPDFStorage: _pdf,
}
"""Every class that results have, and what is checked of it."""
