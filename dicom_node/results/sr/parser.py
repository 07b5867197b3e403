"""Parser of this node's findings SR (TID 1500, 1501 and 1410)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset

from dicom_node.imaging import attributes
from dicom_node.results import codes
from dicom_node.results.report import Code, Presence

_PRESENCES = {(code.value, code.scheme): presence for presence, code in codes.PRESENCES.items()}
_THRESHOLD = "threshold="


@dataclass(frozen=True, slots=True)
class ParsedFinding:
    """One measurement group.

    Attributes
    ----------
    key
        Key of the label: the part after the model's name in the tracking identifier.
    certainty
        Calibrated probability in [0, 1]; None when the group holds a score alone.
    score
        The model's own number; None when the group holds a certainty alone.
    threshold
        On the scale of the one that is there; None when it is not said.
    presence
        UNDETERMINED when it is not said.
    finding, site
        Codes of the finding and its site; None when they are absent.
    interval
        Limits of the 95 % interval around the certainty; None when they are absent.
    """

    key: str
    certainty: float | None
    score: float | None
    threshold: float | None
    presence: Presence
    finding: Code | None = None
    site: Code | None = None
    interval: tuple[float, float] | None = None


def current_report(reports: Sequence[Dataset]) -> Dataset | None:
    """The report of a study that no other one takes the place of (PS3.3 C.17.2); None when there is none."""
    replaced = {
        attributes.text(item, "ReferencedSOPInstanceUID")
        for report in reports
        for document in attributes.items(report, "PredecessorDocumentsSequence")
        for series in attributes.items(document, "ReferencedSeriesSequence")
        for item in attributes.items(series, "ReferencedSOPSequence")
    }
    return next((report for report in reports if report.SOPInstanceUID not in replaced), None)


def parse_findings(sr: Dataset) -> tuple[ParsedFinding, ...]:
    """Answers of a findings SR, in its order; none for a refusal."""
    return tuple(_answer(group) for group in _descendants(sr) if _named(group, codes.MEASUREMENT_GROUP))


def parse_refusal(sr: Dataset) -> str | None:
    """Key into :data:`codes.REFUSALS` of why a study was not analysed; None when it was."""
    by_code = {(entry.code.value, entry.code.scheme): key for key, entry in codes.REFUSALS.items()}
    for item in _descendants(sr):
        if _named(item, codes.REASON_NOT_ANALYSED):
            return by_code.get(_coded(item))
    return None


def excluded_images(sr: Dataset) -> int:
    """Number of images of the study that no model read."""
    return sum(_named(item, codes.IMAGE_NOT_ANALYSED) for item in _descendants(sr))


def _answer(group: Dataset) -> ParsedFinding:
    certainty = score = threshold = interval = None
    key, presence = "", Presence.UNDETERMINED
    said: dict[str, Code | None] = {}
    for item in attributes.items(group, "ContentSequence"):
        if _named(item, codes.TRACKING_IDENTIFIER):
            key = attributes.text(item, "TextValue").rpartition("/")[2]
        elif _named(item, codes.PRESENCE):
            presence = _PRESENCES.get(_coded(item), Presence.UNDETERMINED)
        elif _named(item, codes.FINDING):
            said["finding"] = _code(item)
        elif _named(item, codes.FINDING_SITE):
            said["site"] = _code(item)
        elif _named(item, codes.CERTAINTY):
            certainty, threshold = _number(item) / 100, _threshold(item)
            interval = _interval(item, certainty)
        elif _named(item, codes.MODEL_SCORE):
            score, threshold = _number(item), _threshold(item)
    return ParsedFinding(key, certainty, score, threshold, presence, interval=interval, **said)


def _threshold(item: Dataset) -> float | None:
    for child in attributes.items(item, "ContentSequence"):
        text = attributes.text(child, "TextValue")
        if _named(child, codes.ALGORITHM_PARAMETERS) and text.startswith(_THRESHOLD):
            return float(text.removeprefix(_THRESHOLD))
    return None


def _interval(item: Dataset, certainty: float) -> tuple[float, float] | None:
    spans = {
        name: _number(child) / 100
        for child in attributes.items(item, "ContentSequence")
        for name in (codes.UNCERTAINTY_BELOW, codes.UNCERTAINTY_ABOVE)
        if _named(child, name)
    }
    if len(spans) < 2:
        return None
    return certainty - spans[codes.UNCERTAINTY_BELOW], certainty + spans[codes.UNCERTAINTY_ABOVE]


def _number(item: Dataset) -> float:
    (measured,) = attributes.items(item, "MeasuredValueSequence")
    return attributes.numbers(measured, "NumericValue")[0]


def _descendants(item: Dataset) -> Iterator[Dataset]:
    for child in attributes.items(item, "ContentSequence"):
        yield child
        yield from _descendants(child)


def _named(item: Dataset, name: Code) -> bool:
    return any(
        (attributes.text(code, "CodeValue"), attributes.text(code, "CodingSchemeDesignator"))
        == (name.value, name.scheme)
        for code in attributes.items(item, "ConceptNameCodeSequence")
    )


def _coded(item: Dataset) -> tuple[str, str]:
    found = _code(item)
    return ("", "") if found is None else (found.value, found.scheme)


def _code(item: Dataset) -> Code | None:
    for code in attributes.items(item, "ConceptCodeSequence"):
        return Code(
            *(attributes.text(code, name) for name in ("CodeValue", "CodingSchemeDesignator", "CodeMeaning"))
        )
    return None
