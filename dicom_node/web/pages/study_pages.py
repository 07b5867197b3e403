"""Pages of studies: worklist, one study, its similar cases, similar studies of the node."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from dicom_node.config.served_models import ModelRole
from dicom_node.web.api.feedback_routes import OpinionIn, record_opinion
from dicom_node.web.api.parameters import ModelPosition, StudyNumber, WorklistParameters, study_or_404
from dicom_node.web.api.reference_films import Rank, case_film_names, similar_cases
from dicom_node.web.api.similar_studies import Limit, search_similar_studies
from dicom_node.web.api.study_routes import SearchIn
from dicom_node.web.blinding import Hidden
from dicom_node.web.dependencies import Context, WebContext
from dicom_node.web.feedback import Opinion, Verdict
from dicom_node.web.pages.rendering import render_page
from dicom_node.web.read_models import worklist
from dicom_node.web.read_models.study import StudyView, read_study
from dicom_node.web.request_auth import CurrentUser, Form, Reader, check_csrf

router = APIRouter(include_in_schema=False, dependencies=[Depends(check_csrf)])


@router.api_route("/", methods=["GET", "HEAD"])
def show_worklist(
    request: Request, context: Context, user: Reader, query: WorklistParameters
) -> HTMLResponse:
    """Show the worklist."""
    return _worklist_page(request, context, user, query)


@router.post("/")
def search_worklist(
    request: Request, context: Context, user: Reader, hidden: Hidden, form: Form
) -> HTMLResponse:
    """Show the results of a search; its words come in the body, and never stand in the address."""
    asked = {key: value for key, value in form.items() if key in SearchIn.model_fields and value}
    try:
        query = SearchIn.model_validate(asked).query(hidden)
    except ValueError:
        raise HTTPException(400) from None
    response = _worklist_page(request, context, user, query)
    response.headers["HX-Replace-Url"] = _address(query, after=query.after, before=query.before)
    return response


def _worklist_page(
    request: Request, context: WebContext, user: CurrentUser, query: worklist.WorklistQuery
) -> HTMLResponse:
    context.access_log.record(user.name, user.address, "worklist")
    return render_page(
        request,
        context,
        "worklist.html",
        user,
        worklist=worklist.read_worklist(context.engine, query),
        findings=worklist.read_finding_names(context.engine),
        sorts=list(worklist.Sort),
        address=_address,
    )


def _address(query: worklist.WorklistQuery, **changes: str) -> str:
    """Return the address of the worklist with some values changed, without the words of a search.

    It leads to the first page of the list unless `changes` names another one.
    """
    values = {
        "state": query.state or "",
        "finding": query.finding,
        "sort": "" if query.sort is worklist.Sort.CHANGED else query.sort,
        **changes,
    }
    words = urlencode({key: value for key, value in values.items() if value})
    return f"/?{words}" if words else "/"


@router.api_route("/studies/{study_id}", methods=["GET", "HEAD"])
def show_study(
    request: Request, context: Context, user: Reader, study_id: StudyNumber, model: ModelPosition = 0
) -> HTMLResponse:
    """Show one study with the answers of one model."""
    view = study_or_404(context, study_id, model, user)
    context.access_log.record(user.name, user.address, "study", study_id)
    opinions = _opinions(context, view)
    return render_page(
        request,
        context,
        "study.html",
        user,
        study=view,
        model=model,
        models=[each for each in view.models if user.admin or each.role == ModelRole.PRIMARY],
        opinions=opinions,
        has_feedback=any(each.reader == user.name for found in opinions.values() for each in found),
        case_films=case_film_names(context, view),
        has_films=context.settings.retrieval.films is not None,
        own_studies=context.settings.retrieval.own_studies,
    )


def _opinions(context: WebContext, view: StudyView) -> Mapping[str, list[Opinion]]:
    return {} if view.reading is None else context.feedback.for_reading(view.reading.id)


@router.post("/studies/{study_id}/feedback")
def give_feedback(context: Context, user: Reader, study_id: StudyNumber, form: Form) -> Response:
    """Record a reader's opinion on a finding, and show the study again."""
    try:
        said = OpinionIn(verdict=Verdict(form.get("verdict", "")), comment=form.get("comment", ""))
    except ValueError:
        raise HTTPException(400) from None
    model = form.get("model", "0")
    if not (model.isascii() and model.isdecimal()):
        raise HTTPException(400)
    record_opinion(context, user, study_id, form.get("key", ""), said, int(model))
    return RedirectResponse(f"/studies/{study_id}{f'?model={int(model)}' if int(model) else ''}", 303)


@router.api_route("/studies/{study_id}/similar/{rank}", methods=["GET", "HEAD"])
def show_case(
    request: Request, context: Context, user: Reader, study_id: StudyNumber, rank: Rank
) -> HTMLResponse:
    """Show one similar case of a study."""
    view = study_or_404(context, study_id)
    reading, cases = view.reading, similar_cases(view)
    if reading is None or reading.record.similar is None or rank > len(cases):
        raise HTTPException(404)
    context.access_log.record(user.name, user.address, "similar case", study_id)
    return render_page(
        request,
        context,
        "case.html",
        user,
        study=view,
        case=cases[rank - 1],
        rank=rank,
        total=len(cases),
        index=reading.record.similar.index,
        present={entry.name for entry in reading.record.findings if entry.presence == "present"},
        films=case_film_names(context, view)[rank - 1],
        has_films=context.settings.retrieval.films is not None,
    )


@router.get("/studies/{study_id}/own-studies")
def show_similar_studies(
    request: Request, context: Context, user: Reader, hidden: Hidden, study_id: StudyNumber, k: Limit = 10
) -> HTMLResponse:
    """Show the studies of this node that are most similar to a study."""
    cases = search_similar_studies(context, user, study_id, k, hidden)
    found = [(case, read_study(context.engine, case.study_id)) for case in cases]
    study = study_or_404(context, study_id)
    return render_page(request, context, "similar_studies.html", user, study=study, found=found)
