"""REST API of boxes: rectangles that readers of a reader study draw around what they find."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Depends, HTTPException, Path
from pydantic import BaseModel, ConfigDict, Field

from dicom_node.errors import NodeError
from dicom_node.store.case_boxes import Box, CaseBoxes
from dicom_node.store.case_readings import CaseReadings
from dicom_node.store.reader_studies import Case, InvalidReaderStudy, ReaderStudies, ReaderStudy
from dicom_node.web.api.note_routes import sentence
from dicom_node.web.api.parameters import LARGEST_NUMBER, image_or_404
from dicom_node.web.api.reader_study_routes import ReaderStudyNumber, reader_study_or_404
from dicom_node.web.api.schemas import PREFIX, error_responses
from dicom_node.web.dependencies import Context, WebContext
from dicom_node.web.request_auth import CurrentUser, Reader, check_csrf, require_reader

router = APIRouter(prefix=PREFIX, dependencies=[Depends(require_reader), Depends(check_csrf)])

ReadingNumber = Annotated[int, Path(ge=1, le=LARGEST_NUMBER, description="number of your case reading")]
FindingKey = Annotated[str, Path(min_length=1, max_length=64, description="key of the finding")]
_PLACE: Final = "/reader-studies/{reader_study_id}/readings/{reading}/boxes/{finding}"

Edge = Annotated[int, Field(ge=0, le=LARGEST_NUMBER)]


class BoxIn(BaseModel):
    """Box on a film of the study, in pixels of the film as it is stored, counted from 0.

    Attributes
    ----------
    image
        Number of the film in this node.
    left, right
        First column, and the column after the last one.
    top, bottom
        First row, and the row after the last one.
    """

    model_config = ConfigDict(extra="forbid")

    image: Annotated[int, Field(ge=1, le=LARGEST_NUMBER)]
    left: Edge
    top: Edge
    right: Edge
    bottom: Edge


@router.put(_PLACE, status_code=204, responses=error_responses(404, 410, 413, 415, 422))
def put_box(
    context: Context,
    user: Reader,
    reader_study_id: ReaderStudyNumber,
    reading: ReadingNumber,
    finding: FindingKey,
    said: BoxIn,
) -> None:
    """Keep your box around a finding of a case that you read, in the place of an earlier one.

    It goes with the answer: a box around what you answer as absent is removed.
    """
    found, case = _own_case(context, user, reader_study_id, reading)
    image = image_or_404(context, case.study_id, said.image)
    try:
        rows, columns = context.film_decoder.decode(context.data_dir.spool.path(image.file)).values.shape
        if said.right > columns or said.bottom > rows:
            raise InvalidReaderStudy(f"the film has {columns} columns and {rows} rows")
        box = Box(image.sop_instance_uid, said.left, said.top, said.right, said.bottom)
        CaseBoxes(context.engine).put(found, reading, user.name, finding, box)
    except NodeError as error:
        raise HTTPException(422, sentence(error)) from None
    context.access_log.record(user.name, user.address, "reader study box", case.study_id, always=True)


@router.delete(_PLACE, status_code=204, responses=error_responses(404, 422))
def remove_box(
    context: Context,
    user: Reader,
    reader_study_id: ReaderStudyNumber,
    reading: ReadingNumber,
    finding: FindingKey,
) -> None:
    """Remove your box around a finding of a case that you read, if there is one."""
    found, case = _own_case(context, user, reader_study_id, reading)
    try:
        CaseBoxes(context.engine).remove(found, reading, user.name, finding)
    except NodeError as error:
        raise HTTPException(422, sentence(error)) from None
    context.access_log.record(user.name, user.address, "reader study box", case.study_id, always=True)


def _own_case(
    context: WebContext, user: CurrentUser, reader_study_id: int, reading: int
) -> tuple[ReaderStudy, Case]:
    """Return a reader study and the case of one of the user's readings in it; 404 when there is none."""
    found = reader_study_or_404(context, user, reader_study_id)
    mine = {each.id: each.case_id for each in CaseReadings(context.engine).readings(found, user.name)}
    for case in ReaderStudies(context.engine).cases(found):
        if case.id == mine.get(reading):
            return found, case
    raise HTTPException(404)
