"""Feedback SR: what one reader says of a model's findings (TID 1500, PS3.16).

The observer is a person (TID 1003); each judged finding has a measurement group with the tracking identifier
that the model's own report gives it, so that both can be brought together. It is written for whoever asks for
it and is sent nowhere by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from pydicom.dataset import Dataset

from dicom_node.errors import EncodingFailed
from dicom_node.results import codes, uids
from dicom_node.results.encoding import composite
from dicom_node.results.encoding.part10 import put
from dicom_node.results.equipment import Equipment
from dicom_node.results.report import Algorithm, Code, Finding, Report
from dicom_node.results.sr import content_items, document
from dicom_node.results.sr.content_items import CONTAINS, HAS_CONCEPT_MOD, HAS_OBS_CONTEXT

SERIES_NUMBER: Final = 9910
SERIES_DESCRIPTION: Final = f"Reader feedback - {codes.RESEARCH_USE_ONLY}"

Verdict: TypeAlias = Literal["agree", "disagree", "unsure", "none"]

VERDICTS: Final[Mapping[str, Code]] = {
    "agree": codes.READER_AGREES,
    "disagree": codes.READER_DISAGREES,
    "unsure": codes.READER_UNSURE,
}


@dataclass(frozen=True, slots=True)
class Judgement:
    """Judgement of a reader on one finding: a verdict, a comment or both.

    The verdict ``none`` goes with a comment; it is no content item.
    """

    verdict: Verdict
    comment: str = ""


def write_feedback(
    report: Report,
    judgements: Mapping[str, Judgement],
    *,
    reader: str,
    judged: Dataset,
    equipment: Equipment,
) -> Dataset:
    """Write what one reader says.

    Parameters
    ----------
    report
        Report that was judged; `created` is the time of the reader's last answer.
    judgements
        By the key of the finding, at least one.
    reader
        Name of the person, PN.
    judged
        The model's report, to which the new one refers as its evidence.
    equipment
        Wrote it down.

    Raises
    ------
    EncodingFailed
        When nothing was judged, or a value cannot be written.
    """
    findings = [finding for finding in report.findings if finding.key in judgements]
    if report.algorithm is None or not findings:
        raise EncodingFailed("there is no finding that the reader said something of")
    ds = document.begin(
        report,
        equipment,
        kind=f"feedback of {reader}",
        sop_class="comprehensive3d",
        series_number=SERIES_NUMBER,
        series_description=SERIES_DESCRIPTION,
        predecessor=None,
    )
    put(ds, CurrentRequestedProcedureEvidenceSequence=document.source_evidence(report, [judged]))
    children = [
        *document.observation_context(report, document.person_observer(reader)),
        _measurements(report, report.algorithm, findings, judgements),
        document.evaluations([], codes.FEEDBACK_USE),
    ]
    ds.update(content_items.container(None, codes.IMAGING_MEASUREMENT_REPORT, children, template="1500"))
    return composite.finish_result(ds, report, kind="feedback", key=reader)


def _measurements(
    report: Report, algorithm: Algorithm, findings: list[Finding], judgements: Mapping[str, Judgement]
) -> Dataset:
    groups = [_group(report, algorithm, finding, judgements[finding.key]) for finding in findings]
    return content_items.container(CONTAINS, codes.IMAGING_MEASUREMENTS, groups)


def _group(report: Report, algorithm: Algorithm, finding: Finding, said: Judgement) -> Dataset:
    """TID 1501."""
    tracking = uids.tracking_uid(report.study_instance_uid, algorithm.name, finding.key)
    children = [
        content_items.text(HAS_OBS_CONTEXT, codes.TRACKING_IDENTIFIER, f"{algorithm.name}/{finding.key}"),
        content_items.uidref(HAS_OBS_CONTEXT, codes.TRACKING_UID, tracking),
        content_items.code(CONTAINS, codes.FINDING_CATEGORY, codes.finding_category(finding.code)),
        content_items.code(CONTAINS, codes.FINDING, finding.code),
    ]
    if finding.site is not None:
        children.append(content_items.code(HAS_CONCEPT_MOD, codes.FINDING_SITE, finding.site))
    children += [
        content_items.code(CONTAINS, codes.MODEL_ANSWER, codes.PRESENCES[finding.presence]),
    ]
    if said.verdict in VERDICTS:
        children.append(content_items.code(CONTAINS, codes.READER_VERDICT, VERDICTS[said.verdict]))
    if said.comment:
        children.append(content_items.text(CONTAINS, codes.COMMENT, said.comment))
    children += [
        content_items.image(CONTAINS, codes.SOURCE_OF_MEASUREMENT, item)
        for _, item in document.analysed_sources(report.sources)
    ]
    return document.measurement_group(document.observation_moment(report), children, "1501")
