"""Pages of studies: worklist, one study, its similar cases, similar studies of the node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from dicom_node.config.served_models import ModelRole
from dicom_node.web.api.feedback_routes import OpinionIn, record_opinion
from dicom_node.web.api.note_routes import NoteIn, NoteNumber, change_tag, remove_note, write_note
from dicom_node.web.api.outgoing_files import reports_may_leave
from dicom_node.web.api.parameters import (
    ModelPosition,
    SearchIn,
    StudyNumber,
    WorklistParameters,
    study_or_404,
)
from dicom_node.web.api.reference_films import Rank, case_film_names, similar_cases
from dicom_node.web.api.similar_studies import Limit, search_similar_studies
from dicom_node.web.blinding import Hidden
from dicom_node.web.dependencies import Context, WebContext
from dicom_node.web.feedback import Opinion, Verdict
from dicom_node.web.pages.rendering import render_page
from dicom_node.web.read_models import worklist
from dicom_node.web.read_models.study import StudyView, read_study
from dicom_node.web.read_models.worklist_query import Read, Sort, WorklistQuery, address
from dicom_node.web.request_auth import CurrentUser, Form, Reader, check_csrf

router = APIRouter(include_in_schema=False, dependencies=[Depends(check_csrf)])

READ_WORDS: Final[Mapping[Read, str]] = {
    Read.UNREAD: "unread by anybody",
    Read.UNREAD_BY_ME: "unread by me",
    Read.MINE: "read by me",
}


@router.api_route("/", methods=["GET", "HEAD"])
def show_worklist(
    request: Request, context: Context, user: Reader, query: WorklistParameters
) -> HTMLResponse:
    """Show the worklist."""
    return worklist_page(request, context, user, query)


@router.post("/")
def search_worklist(
    request: Request, context: Context, user: Reader, hidden: Hidden, form: Form
) -> HTMLResponse:
    """Show the results of a search; its words come in the body, and never stand in the address."""
    return worklist_page(request, context, user, query_of_form(form, hidden, user.name))


def query_of_form(form: Mapping[str, str], hidden: frozenset[int], reader: str) -> WorklistQuery:
    """Return the query of the worklist that the fields of a form are.

    Raises
    ------
    HTTPException
        400 when they are not valid.
    """
    asked = {key: value for key, value in form.items() if key in SearchIn.model_fields and value}
    try:
        return SearchIn.model_validate(asked).query(hidden, reader)
    except ValueError:
        raise HTTPException(400) from None


def worklist_page(
    request: Request, context: WebContext, user: CurrentUser, query: WorklistQuery, done: str = ""
) -> HTMLResponse:
    """Show the worklist, and what was done to its studies."""
    context.access_log.record(user.name, user.address, "worklist")
    response = render_page(
        request,
        context,
        "worklist.html",
        user,
        worklist=worklist.read_worklist(context.engine, query),
        findings=worklist.read_finding_names(context.engine),
        tags=context.notes.all_tags(),
        filters=context.saved_filters.of(user.name),
        named=context.settings.web.patient == "name",
        sorts=list(Sort),
        reads=READ_WORDS,
        address=address,
        done=done,
        page_host=request.url.hostname or "",
    )
    if request.method == "POST":
        response.headers["HX-Replace-Url"] = address(query, after=query.after, before=query.before)
    return response


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
        tags=context.notes.tags_of(study_id),
        notes=context.notes.notes_of(study_id),
        all_tags=context.notes.all_tags(),
        has_feedback=reports_may_leave(context.settings)
        and any(each.reader == user.name for found in opinions.values() for each in found),
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


@router.post("/studies/{study_id}/tags")
def tag_on_page(context: Context, user: Reader, study_id: StudyNumber, form: Form) -> Response:
    """Give a tag to a study or take it back, and show the study again."""
    given = "remove" not in form
    change_tag(context, user, study_id, form.get("tag" if given else "remove", ""), given=given)
    return RedirectResponse(f"/studies/{study_id}", 303)


@router.post("/studies/{study_id}/notes")
def note_on_page(context: Context, user: Reader, study_id: StudyNumber, form: Form) -> Response:
    """Write a note on a study, and show it again."""
    try:
        said = NoteIn(text=form.get("text", ""))
    except ValueError:
        raise HTTPException(400) from None
    write_note(context, user, study_id, said)
    return RedirectResponse(f"/studies/{study_id}", 303)


@router.post("/studies/{study_id}/notes/{note}/remove")
def take_note_back_on_page(
    context: Context, user: Reader, study_id: StudyNumber, note: NoteNumber
) -> Response:
    """Take a note back, and show the study again."""
    remove_note(context, user, study_id, note)
    return RedirectResponse(f"/studies/{study_id}", 303)


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
