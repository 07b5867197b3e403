"""Administration on the study page: withdraw or reproduce its results, read refused films, pin it."""

from __future__ import annotations

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from dicom_node.web.api.admin_routes import RetractIn, pin_study, replay_study, withdraw_study
from dicom_node.web.api.parameters import StudyNumber, study_or_404
from dicom_node.web.api.study_routes import retry_study
from dicom_node.web.dependencies import Context
from dicom_node.web.pages.rendering import render_page
from dicom_node.web.request_auth import Admin, Form, check_csrf, require_reader

router = APIRouter(include_in_schema=False, dependencies=[Depends(require_reader), Depends(check_csrf)])


@router.post("/studies/{study_id}/retract")
def retract_on_page(context: Context, user: Admin, study_id: StudyNumber, form: Form) -> Response:
    """Withdraw the results of a study, and show the study again."""
    try:
        said = RetractIn(reason=form.get("reason", ""), quality="quality" in form)
    except ValueError:
        raise HTTPException(400) from None
    withdraw_study(context, user, study_id, said)
    return RedirectResponse(f"/studies/{study_id}", 303)


@router.post("/studies/{study_id}/read-anyway")
def read_anyway_on_page(context: Context, user: Admin, study_id: StudyNumber) -> Response:
    """Analyse a study again with the films that the gate refused, and show it."""
    retry_study(context, user, study_id, override_gate=True)
    return RedirectResponse(f"/studies/{study_id}", 303)


@router.post("/studies/{study_id}/pin")
def pin_on_page(context: Context, user: Admin, study_id: StudyNumber) -> Response:
    """Pin a study, and show it again."""
    pin_study(context, user, study_id, pinned=True)
    return RedirectResponse(f"/studies/{study_id}", 303)


@router.post("/studies/{study_id}/unpin")
def unpin_on_page(context: Context, user: Admin, study_id: StudyNumber) -> Response:
    """Unpin a study, and show it again."""
    pin_study(context, user, study_id, pinned=False)
    return RedirectResponse(f"/studies/{study_id}", 303)


@router.post("/studies/{study_id}/replay")
def replay_on_page(request: Request, context: Context, user: Admin, study_id: StudyNumber) -> HTMLResponse:
    """Reproduce the results of a study, and show the comparison."""
    view = study_or_404(context, study_id)
    results = replay_study(context, user, study_id)
    return render_page(request, context, "replay.html", user, study=view, results=results)
