"""Feedback report: one reader's opinions on a study as a DICOM structured report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from fastapi import HTTPException
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_node.config.installation import this_installation
from dicom_node.imaging.pixels import read_header
from dicom_node.results.encoding.part10 import encoded
from dicom_node.results.report import Algorithm, Finding, Presence, Report, Source
from dicom_node.results.sr.feedback import Judgement, write_feedback
from dicom_node.results.sr.parser import parse_findings as answers_of
from dicom_node.store.analysis_records import StoredAnalysisRecord
from dicom_node.store.recorded_results import RecordedResults
from dicom_node.web.dependencies import WebContext
from dicom_node.web.feedback import Opinion
from dicom_node.web.read_models.study import StudyView


def write_feedback_report(context: WebContext, view: StudyView, reader: str) -> bytes | None:
    """Encode one reader's opinions on the latest analysis of a study as a DICOM file.

    Returns
    -------
    bytes or None
        None when the reader has given no opinion, or the findings report was withdrawn.
    """
    reading = view.reading
    if reading is None:
        return None
    opinions = _opinions_of(context.feedback.for_reading(reading.id), reader)
    judged = _read_findings_report(context, view, reading)
    if judged is None or not opinions:
        return None
    ds = write_feedback(
        _report(context, view, reading, judged, max(opinion.at for opinion in opinions.values())),
        {key: Judgement(opinion.verdict.value, opinion.comment) for key, opinion in opinions.items()},
        reader=reader,
        judged=judged,
        equipment=this_installation(context.settings),
    )
    return encoded(ds)


def _opinions_of(opinions: Mapping[str, Sequence[Opinion]], name: str) -> dict[str, Opinion]:
    """Opinions of one reader, by finding."""
    return {key: each for key, found in opinions.items() for each in found if each.reader == name}


def _read_findings_report(
    context: WebContext, view: StudyView, reading: StoredAnalysisRecord
) -> Dataset | None:
    """Read the findings report of an analysis as it was sent; None when it was withdrawn."""
    recorded = RecordedResults(context.engine).for_study(view.study_instance_uid)
    for entry in () if recorded is None else recorded.results:
        if entry.kind == "sr" and entry.revision == reading.revision:
            if (purged := entry.purged) is not None:
                raise HTTPException(410, f"The report to comment on was {purged}.")
            return dcmread(context.data_dir.results.path(entry.file))
    return None


def _report(
    context: WebContext, view: StudyView, reading: StoredAnalysisRecord, judged: Dataset, spoken_at: float
) -> Report:
    """Rebuild the report: stored answers, codes from the findings report, images from the spool.

    Parameters
    ----------
    spoken_at
        Time of the last opinion, in seconds since the epoch.
    """
    codes = {answer.key: answer for answer in answers_of(judged)}
    verdicts = {image.sop_instance_uid: image for image in reading.record.images}
    sources = []
    for image in view.images:
        verdict = verdicts.get(image.sop_instance_uid)
        if verdict is not None:
            if (purged := image.purged) is not None:
                raise HTTPException(410, f"A film that the report must name was {purged}.")
            sources.append(
                Source(
                    read_header(context.data_dir.spool.path(image.file)),
                    analysed=not verdict.reason,
                    exclusion=verdict.exclusion,
                    reason=verdict.reason,
                    view=verdict.view if verdict.view in {"frontal", "lateral"} else "",
                )
            )
    findings = tuple(
        Finding(
            key=entry.key,
            name=entry.name,
            code=code,
            site=codes[entry.key].site,
            certainty=entry.certainty,
            score=entry.score,
            threshold=entry.threshold,
            presence=Presence(entry.presence),
        )
        for entry in reading.record.findings
        if entry.key in codes and (code := codes[entry.key].finding) is not None
    )
    return Report(
        study_instance_uid=view.study_instance_uid,
        revision=reading.revision,
        created=datetime.fromtimestamp(spoken_at, UTC),
        sources=tuple(sources),
        algorithm=Algorithm(reading.record.model, reading.record.model_version, reading.record.parameters),
        findings=findings,
    )
