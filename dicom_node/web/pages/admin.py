"""Administration on the study page: withdraw its results, make them again and compare."""

from __future__ import annotations

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from dicom_node.web.api.admin_routes import RetractIn, replay_study, withdraw_study
from dicom_node.web.api.schemas import StudyNumber, study_or_404
from dicom_node.web.dependencies import RoomOf
from dicom_node.web.pages.routes import page
from dicom_node.web.request_auth import Admin, Form, reader, unforged

router = APIRouter(include_in_schema=False, dependencies=[Depends(reader), Depends(unforged)])


@router.post("/studies/{study_id}/retract")
def retract_on_page(room: RoomOf, who: Admin, study_id: StudyNumber, form: Form) -> Response:
    """Withdraw what a form asks for, and show the study again."""
    try:
        said = RetractIn(reason=form.get("reason", ""), quality="quality" in form)
    except ValueError:
        raise HTTPException(400) from None
    withdraw_study(room, who, study_id, said)
    return RedirectResponse(f"/studies/{study_id}", 303)


@router.post("/studies/{study_id}/replay")
def replay_on_page(request: Request, room: RoomOf, who: Admin, study_id: StudyNumber) -> HTMLResponse:
    """Replay a study, and show what came of it."""
    view = study_or_404(room, study_id)
    return page(request, room, "replay.html", who, study=view, results=replay_study(room, who, study_id))
