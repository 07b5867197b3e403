"""Results, as a new index takes them in: what each object says of its study, revision and model.

The UID of a result's series is made of study, revision, kind and model
(:func:`dicom_node.results.uids.series_uid`), so it tells which of them a result belongs to.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Final, get_args

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from dicom_node import MODEL_NAME
from dicom_node.config.sections import ResultKind
from dicom_node.errors import BadInstance
from dicom_node.imaging import attributes
from dicom_node.results import codes, content_rules, uids
from dicom_node.results.report import Presence
from dicom_node.results.sr.parser import parse_findings, parse_refusal
from dicom_node.store.analysis_records import AnalysisRecord, FindingRecord, ImageRecord
from dicom_node.store.files import Spool, damage
from dicom_node.store.recorded_results import REJECTION_NOTE

KINDS: Final = (*get_args(ResultKind), REJECTION_NOTE)
_MOST_REVISIONS: Final = 200
_FAILURES: Final = frozenset({"files_lost", "model_failed", "result_failed", "set_aside"})
"""Refusals of a study that could not be analysed, though it holds films that could have been."""


@dataclass(frozen=True, slots=True)
class ResultFile:
    """Result of the node.

    Attributes
    ----------
    created
        Time at which its revision of the study was complete; that of its making for a rejection note. In
        seconds since the epoch.
    written_at
        Time of the file's last change, in seconds since the epoch.
    model
        Name of the model that a report names; empty for any other object.
    replaces
        SOP Instance UIDs of the reports that it takes the place of.
    refers_to
        SOP Instance UIDs of all instances that its content names.
    compared_with
        Study Instance UIDs of the priors that a report compares with.
    damage
        What is wrong with it, as a clause; empty when its content is that of its name.
    """

    name: str
    size: int
    digest: str
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    created: float
    written_at: float
    model: str
    replaces: frozenset[str]
    refers_to: frozenset[str]
    compared_with: frozenset[str]
    damage: str


@dataclass(frozen=True, slots=True)
class Conclusion:
    """Statements of a report about its study.

    Attributes
    ----------
    refusal
        Reason why it was not analysed, as one sentence; empty when it was.
    failed
        Whether the analysis failed, and did not only leave the study out.
    """

    refusal: str
    failed: bool
    record: AnalysisRecord


def read_result(spool: Spool, name: str) -> ResultFile:
    """Read a file of the results.

    Raises
    ------
    BadInstance
        When it is no result that says to which study it belongs; the text is a clause.
    """
    path = spool.path(name)
    digest = Path(name).stem
    wrong = damage(path, digest)
    try:
        status = path.stat()
        with attributes.tolerance():
            ds = dcmread(path, stop_before_pixels=True)
            found = ResultFile(
                name=name,
                size=status.st_size,
                digest=digest,
                study_instance_uid=attributes.text(ds, "StudyInstanceUID"),
                series_instance_uid=attributes.text(ds, "SeriesInstanceUID"),
                sop_instance_uid=attributes.text(ds, "SOPInstanceUID"),
                sop_class_uid=attributes.text(ds, "SOPClassUID"),
                created=_created(ds),
                written_at=status.st_mtime,
                model=next(iter(_said(ds, codes.ALGORITHM_NAME.value)), ""),
                replaces=frozenset(_referenced(ds, "PredecessorDocumentsSequence")),
                refers_to=frozenset(_referenced(ds, "CurrentRequestedProcedureEvidenceSequence")),
                compared_with=frozenset(
                    attributes.text(study, "StudyInstanceUID")
                    for study in attributes.items(ds, "PertinentOtherEvidenceSequence")
                ),
                damage=wrong,
            )
    except (InvalidDicomError, OSError, *attributes.MALFORMED) as error:
        raise BadInstance(wrong or f"it cannot be read: {' '.join(str(error).split())}") from error
    if attributes.text(ds, "ManufacturerModelName") != MODEL_NAME or not (
        found.study_instance_uid and found.series_instance_uid and found.sop_instance_uid
    ):
        raise BadInstance(wrong or "it is no result of a node")
    return found


def place_of(entry: ResultFile, models: Iterable[str]) -> tuple[int, str, str] | None:
    """Return revision, kind and model of a result; None when its series says none of them.

    Parameters
    ----------
    models
        Names of the models that the reports of its study name.
    """
    names = ("", *dict.fromkeys(name for name in models if name))
    for revision in range(1, _MOST_REVISIONS + 1):
        for kind in KINDS:
            for model in names:
                uid = uids.series_uid(entry.study_instance_uid, revision, kind, model)
                if uid == entry.series_instance_uid:
                    return revision, kind, model
    return None


def conclusion_of(report: Dataset, films: Collection[str]) -> Conclusion:
    """Return what a report of findings says.

    Parameters
    ----------
    films
        SOP Instance UIDs of the received instances of the study.
    """
    key = parse_refusal(report)
    refusal = ""
    if key is not None or _said(report, codes.REASON_NOT_ANALYSED.value):
        sentences = _said(report, codes.EXPLANATION.value)
        refusal = sentences[0] if sentences else codes.REFUSALS[key].sentence if key else "not analysed"
    return Conclusion(refusal, key in _FAILURES, _record(report, key or "", films))


def _record(report: Dataset, refusal: str, films: Collection[str]) -> AnalysisRecord:
    names = _said(report, codes.ALGORITHM_NAME.value)
    versions = _said(report, codes.ALGORITHM_VERSION.value)
    parameters = _said(report, codes.ALGORITHM_PARAMETERS.value)
    findings = parse_findings(report)
    normality = Presence.UNDETERMINED
    for item in content_rules.descendants(report):
        if content_rules.name_of(item) == codes.NORMALITY.value:
            value = "".join(str(code.get("CodeValue")) for code in item.get("ConceptCodeSequence", ()))
            normality = next((p for p, code in codes.NORMALITIES.items() if code.value == value), normality)
    left_out = {
        uid: text
        for item in content_rules.descendants(report)
        if content_rules.name_of(item) == codes.IMAGE_NOT_ANALYSED.value
        for text in [str(item.get("TextValue") or "")]
        for uid in _named(item)
    }
    return AnalysisRecord(
        model=names[0] if names else "",
        model_version=versions[0] if versions else "",
        parameters=tuple(text for text in dict.fromkeys(parameters) if not text.startswith("threshold=")),
        normality=normality.value,
        findings=tuple(
            FindingRecord(
                key=each.key,
                name=each.finding.meaning if each.finding else each.key,
                certainty=each.certainty,
                score=each.score if each.score is not None else each.certainty or 0.0,
                threshold=each.threshold or 0.0,
                presence=each.presence.value,
                low=None if each.interval is None else each.interval[0],
                high=None if each.interval is None else each.interval[1],
            )
            for each in findings
        ),
        images=tuple(
            ImageRecord(uid, "", (refusal or "no_film") if uid in left_out else "", left_out.get(uid, ""))
            for uid in dict.fromkeys(_referenced(report, "CurrentRequestedProcedureEvidenceSequence"))
            if uid in films
        ),
    )


def _created(ds: Dataset) -> float:
    """Time at which a result was made, from Instance Creation Date and Time (PS3.3 C.12.1.1)."""
    text = attributes.text(ds, "InstanceCreationDate") + attributes.text(ds, "InstanceCreationTime")
    offset = attributes.text(ds, "TimezoneOffsetFromUTC")
    moment = datetime.strptime(text, "%Y%m%d%H%M%S.%f")  # noqa: DTZ007 - the zone stands beside it
    if not offset:
        return moment.timestamp()  # of this computer, see results.encoding.header.local_time
    minutes = int(offset[1:3]) * 60 + int(offset[3:5])
    zone = timezone(timedelta(minutes=-minutes if offset[0] == "-" else minutes))
    return moment.replace(tzinfo=zone).timestamp()


def _said(ds: Dataset, name: str) -> list[str]:
    """Texts of the content items of a name, in the order of the document; of a code its meaning."""
    return [
        str(
            item.get("TextValue")
            or "".join(str(c.get("CodeMeaning")) for c in item.get("ConceptCodeSequence", ()))
        )
        for item in content_rules.descendants(ds)
        if content_rules.name_of(item) == name
    ]


def _named(item: Dataset) -> Iterable[str]:
    for child in content_rules.descendants(item):
        for reference in attributes.items(child, "ReferencedSOPSequence"):
            yield attributes.text(reference, "ReferencedSOPInstanceUID")


def _referenced(ds: Dataset, sequence: str) -> Iterable[str]:
    for study in attributes.items(ds, sequence):
        for series in attributes.items(study, "ReferencedSeriesSequence"):
            for item in attributes.items(series, "ReferencedSOPSequence"):
                yield attributes.text(item, "ReferencedSOPInstanceUID")
