"""What a reader said of a study, as a structured report that can be taken away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Query
from fastapi.responses import Response
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_node.config.installation import this_installation
from dicom_node.imaging.pixels import read_header
from dicom_node.results.encoding.part10 import encoded
from dicom_node.results.report import Algorithm, Finding, Presence, Report, Source
from dicom_node.results.sr.feedback import Judgement, write_feedback
from dicom_node.results.sr.parser import answers as answers_of
from dicom_node.store.analysis_records import StoredReading
from dicom_node.store.recorded_results import Results
from dicom_node.web.api.schemas import PREFIX, StudyNumber, answers, study_or_404
from dicom_node.web.dependencies import Room, RoomOf
from dicom_node.web.feedback import Opinion
from dicom_node.web.read_models.study import StudyView
from dicom_node.web.request_auth import Reader, reader

router = APIRouter(dependencies=[Depends(reader)])

_DICOM = {"content": {"application/dicom": {"schema": {"type": "string", "format": "binary"}}}}


@router.get(
    f"{PREFIX}/studies/{{study_id}}/feedback.dcm",
    response_class=Response,
    responses={200: {"description": "a structured report", **_DICOM}, **answers(404)},
)
def feedback_report(
    room: RoomOf,
    who: Reader,
    study_id: StudyNumber,
    by: Annotated[str, Query(max_length=64, description="whose feedback; yours when absent")] = "",
) -> Response:
    """Return what one reader said of the latest reading as a DICOM SR with that person as observer."""
    view = study_or_404(room, study_id)
    name = by or who.name
    reading = view.reading
    said = {} if reading is None else _said(room.feedback.of(reading.id), name)
    judged = None if reading is None else _judged(room, view, reading)
    if reading is None or judged is None or not said:
        raise HTTPException(404)
    room.accesses.record(who.name, who.address, "feedback export", study_id)
    ds = write_feedback(
        _report(room, view, reading, judged, max(opinion.at for opinion in said.values())),
        {key: Judgement(opinion.verdict.value, opinion.comment) for key, opinion in said.items()},
        reader=name,
        judged=judged,
        equipment=this_installation(room.settings),
    )
    headers = {"Content-Disposition": 'attachment; filename="feedback-research-use-only.dcm"'}
    return Response(encoded(ds), media_type="application/dicom", headers=headers)


def _said(opinions: Mapping[str, Sequence[Opinion]], name: str) -> dict[str, Opinion]:
    """The opinions of one reader, by finding."""
    return {key: each for key, found in opinions.items() for each in found if each.reader == name}


def _judged(room: Room, view: StudyView, reading: StoredReading) -> Dataset | None:
    """The findings report of a reading, as it was sent; None when it was withdrawn."""
    recorded = Results(room.engine).of_study(view.study_instance_uid)
    for entry in () if recorded is None else recorded.results:
        if entry.kind == "sr" and entry.revision == reading.revision:
            return dcmread(room.data_dir.results.path(entry.file))
    return None


def _report(room: Room, view: StudyView, reading: StoredReading, judged: Dataset, spoken_at: float) -> Report:
    """What was judged: answers from the reading, their codes from its report, images from the spool."""
    codes = {answer.key: answer for answer in answers_of(judged)}
    verdicts = {image.sop_instance_uid: image for image in reading.kept.images}
    sources = []
    for image in view.images:
        verdict = verdicts.get(image.sop_instance_uid)
        if verdict is not None:
            sources.append(
                Source(
                    read_header(room.data_dir.spool.path(image.file)),
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
        for entry in reading.kept.findings
        if entry.key in codes and (code := codes[entry.key].finding) is not None
    )
    return Report(
        study_instance_uid=view.study_instance_uid,
        revision=reading.revision,
        created=datetime.fromtimestamp(spoken_at, UTC),
        sources=tuple(sources),
        algorithm=Algorithm(reading.kept.model, reading.kept.model_version, reading.kept.parameters),
        findings=findings,
    )
