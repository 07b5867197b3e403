"""REST API of feedback: opinions of readers on findings, as JSON, CSV, FHIR and DICOM SR."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Query
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from dicom_node.web.api.feedback_report import write_feedback_report
from dicom_node.web.api.outgoing_files import outgoing_report
from dicom_node.web.api.parameters import FindingKey, ModelPosition, StudyNumber, study_or_404
from dicom_node.web.api.schemas import PREFIX, error_responses
from dicom_node.web.dependencies import Context, WebContext
from dicom_node.web.feedback import COMMENT_LENGTH, Opinion, Verdict
from dicom_node.web.fhir import MEDIA_TYPE, ReadReport, write_bundle
from dicom_node.web.read_models.model_cards import read_finding_codes
from dicom_node.web.request_auth import CurrentUser, Reader, check_csrf, require_reader

router = APIRouter(prefix=PREFIX, dependencies=[Depends(require_reader), Depends(check_csrf)])

_DICOM = {"content": {"application/dicom": {"schema": {"type": "string", "format": "binary"}}}}


class OpinionIn(BaseModel):
    """Opinion of the reader on one finding."""

    model_config = ConfigDict(extra="forbid")

    verdict: Verdict
    comment: str = Field("", max_length=COMMENT_LENGTH)


@router.get("/studies/{study_id}/feedback", responses=error_responses(404))
def feedback(
    context: Context, user: Reader, study_id: StudyNumber, model: ModelPosition = 0
) -> Mapping[str, list[Opinion]]:
    """List the opinions of all readers on the latest analysis, by finding."""
    reading = study_or_404(context, study_id, model, user).reading
    return {} if reading is None else context.feedback.for_reading(reading.id)


@router.put("/studies/{study_id}/feedback/{key}", responses=error_responses(404, 413, 415))
def give_feedback(
    context: Context,
    user: Reader,
    study_id: StudyNumber,
    key: FindingKey,
    said: OpinionIn,
    model: ModelPosition = 0,
) -> Opinion:
    """Record your opinion on a finding; it replaces your earlier one."""
    return record_opinion(context, user, study_id, key, said, model)


def record_opinion(
    context: WebContext, user: CurrentUser, study_id: int, key: str, said: OpinionIn, model: int = 0
) -> Opinion:
    """Record the opinion of a reader on a finding of the latest analysis of a study by one model.

    Raises
    ------
    HTTPException
        404 when there is no such finding.
    """
    reading = study_or_404(context, study_id, model, user).reading
    if reading is None or key not in {entry.key for entry in reading.record.findings}:
        raise HTTPException(404)
    context.access_log.record(user.name, user.address, "feedback", study_id, always=True)
    comment = said.comment.replace("\0", " ")
    return context.feedback.record(reading.id, key, user.name, said.verdict, comment)


@router.get(
    "/feedback.csv",
    response_class=Response,
    responses={200: {"description": "all feedback", "content": {"text/csv": {}}}, **error_responses()},
)
def feedback_csv(context: Context, user: Reader) -> Response:
    """Return all opinions as CSV, each with the finding that it is about."""
    context.access_log.record(user.name, user.address, "feedback export")
    headers = {"Content-Disposition": 'attachment; filename="feedback-research-use-only.csv"'}
    return Response(
        "".join(context.feedback.csv_lines(shadows=user.admin)), media_type="text/csv", headers=headers
    )


@router.get(
    "/feedback.fhir.json",
    response_class=Response,
    responses={200: {"description": "a FHIR R4 Bundle", "content": {MEDIA_TYPE: {}}}, **error_responses()},
)
def feedback_fhir(context: Context, user: Reader) -> Response:
    """Return all opinions as a FHIR R4 Bundle: a DiagnosticReport for each reader and analysis."""
    context.access_log.record(user.name, user.address, "feedback export")
    reports = context.feedback.reports(read_finding_codes(context.data_dir.cards), shadows=user.admin)
    return fhir_file(reports, "feedback")


def fhir_file(reports: Iterable[ReadReport], what: str) -> Response:
    """Return reports as a file with a FHIR Bundle."""
    name = f"{what}-research-use-only.fhir.json"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    content = json.dumps(write_bundle(reports, title=what, written_at=time.time()), ensure_ascii=False)
    return Response(content, media_type=MEDIA_TYPE, headers=headers)


@router.get(
    "/studies/{study_id}/feedback.dcm",
    response_class=Response,
    responses={200: {"description": "a structured report", **_DICOM}, **error_responses(403, 404)},
)
def feedback_report(
    context: Context,
    user: Reader,
    study_id: StudyNumber,
    by: Annotated[str, Query(max_length=64, description="name of the reader; yours when absent")] = "",
) -> Response:
    """Return one reader's opinions on the latest analysis as a DICOM SR, with that person as observer."""
    view = study_or_404(context, study_id)
    if (content := write_feedback_report(context, view, by or user.name)) is None:
        raise HTTPException(404)
    report = outgoing_report(context, content)
    context.access_log.record(user.name, user.address, "feedback export", study_id)
    headers = {"Content-Disposition": 'attachment; filename="feedback-research-use-only.dcm"'}
    return Response(report, media_type="application/dicom", headers=headers)
