"""Content items of structured reports (PS3.3 C.17.3)."""

from __future__ import annotations

from pydicom.dataset import Dataset

from dicom_node.results import codes
from dicom_node.results.report import Code


def children(item: Dataset, name: Code) -> list[Dataset]:
    """Content items directly below an item that have this concept name."""
    found = []
    for content in item.get("ContentSequence", ()):
        concept = content.get("ConceptNameCodeSequence")
        if concept and (concept[0].CodeValue, concept[0].CodingSchemeDesignator) == (name.value, name.scheme):
            found.append(content)
    return found


def child(item: Dataset, *path: Code) -> Dataset:
    """Content item at the end of a path of concept names, each of which occurs once."""
    for name in path:
        (item,) = children(item, name)
    return item


def value_of(item: Dataset) -> str:
    """Code value of a CODE item."""
    return str(item.ConceptCodeSequence[0].CodeValue)


def measurement_groups(ds: Dataset) -> list[Dataset]:
    """Measurement groups of a findings report (TID 1500)."""
    return children(child(ds, codes.IMAGING_MEASUREMENTS), codes.MEASUREMENT_GROUP)


def scores(sr: Dataset) -> dict[str, float]:
    """Certainty, or model score where there is none, of each finding; keys are tracking identifiers.

    Empty for a report of a refusal, which has no measurements.
    """
    found: dict[str, float] = {}
    for measurements in children(sr, codes.IMAGING_MEASUREMENTS):
        for group in children(measurements, codes.MEASUREMENT_GROUP):
            key = str(child(group, codes.TRACKING_IDENTIFIER).TextValue)
            for name in (codes.CERTAINTY, codes.MODEL_SCORE):
                for item in children(group, name):
                    found.setdefault(key, float(item.MeasuredValueSequence[0].NumericValue))
    return found


def text_of(item: Dataset) -> str:
    """Text values and code values of an item and of everything below it, one a line."""
    lines = [str(item.get("TextValue", ""))]
    lines += [str(code.CodeValue) for code in item.get("ConceptCodeSequence", ())]
    lines += [text_of(content) for content in item.get("ContentSequence", ())]
    return "\n".join(line for line in lines if line)
