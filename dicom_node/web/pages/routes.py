"""The pages."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Annotated, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from dicom_node.web.api.routes import CohortQuery, OpinionIn, SearchIn, WorklistQuery, say
from dicom_node.web.api.schemas import StudyNumber, study_or_404
from dicom_node.web.dependencies import Room, RoomOf
from dicom_node.web.feedback import Opinion, Verdict
from dicom_node.web.pages.reference_films import Rank, cases_of, films_of
from dicom_node.web.read_models import worklist
from dicom_node.web.read_models.cohort import read_cohort
from dicom_node.web.read_models.health import metrics, read_health
from dicom_node.web.read_models.model_cards import read_card
from dicom_node.web.read_models.study import StudyView
from dicom_node.web.request_auth import (
    COOKIE,
    Admin,
    Form,
    Reader,
    Visitor,
    address_of,
    change_token,
    cookie_of,
    find_visitor,
    reader,
    unforged,
)

PROVIDER_LOGOUT: Final = "/login/oidc/out"
"""Where the logout goes on when a provider is set; see :mod:`dicom_node.web.pages.oidc_login`."""

router = APIRouter(include_in_schema=False, dependencies=[Depends(unforged)])


def page(
    request: Request, room: Room, template: str, who: Visitor | None, status: int = 200, /, **values: object
) -> HTMLResponse:
    """Render a page for somebody, with the token that their changes need."""
    csrf = change_token(room, cookie_of(request))
    return room.pages.render(template, status, visitor=who, csrf=csrf, path=request.url.path, **values)


@router.api_route("/metrics", methods=["GET", "HEAD"], dependencies=[Depends(reader)])
def show_metrics(room: RoomOf) -> Response:
    """Give the node's health to Prometheus."""
    return Response(
        metrics(read_health(room.engine, room.settings, room.data_dir)),
        media_type="text/plain; version=0.0.4; charset=utf-8",
    )


@router.api_route("/", methods=["GET", "HEAD"])
def show_worklist(request: Request, room: RoomOf, who: Reader, query: WorklistQuery) -> HTMLResponse:
    """Show the worklist."""
    return _worklist(request, room, who, query)


@router.post("/")
def search_worklist(request: Request, room: RoomOf, who: Reader, form: Form) -> HTMLResponse:
    """Show what a search finds; its words come in the body, and stay out of the address."""
    asked = {key: value for key, value in form.items() if key in SearchIn.model_fields and value}
    try:
        query = SearchIn.model_validate(asked).query()
    except ValueError:
        raise HTTPException(400) from None
    found = _worklist(request, room, who, query)
    found.headers["HX-Replace-Url"] = _address(query, after=query.after, before=query.before)
    return found


def _worklist(request: Request, room: Room, who: Visitor, query: worklist.Query) -> HTMLResponse:
    room.accesses.record(who.name, who.address, "worklist")
    return page(
        request,
        room,
        "worklist.html",
        who,
        worklist=worklist.read_worklist(room.engine, query),
        findings=worklist.read_findings(room.engine),
        sorts=list(worklist.Sort),
        address=_address,
    )


@router.api_route("/studies/{study_id}", methods=["GET", "HEAD"])
def show_study(request: Request, room: RoomOf, who: Reader, study_id: StudyNumber) -> HTMLResponse:
    """Show one study."""
    view = study_or_404(room, study_id)
    room.accesses.record(who.name, who.address, "study", study_id)
    opinions = _opinions(room, view)
    return page(
        request,
        room,
        "study.html",
        who,
        study=view,
        opinions=opinions,
        has_spoken=any(each.reader == who.name for said in opinions.values() for each in said),
        case_films=films_of(room, view),
        has_films=room.settings.retrieval.films is not None,
        own_studies=room.settings.retrieval.own_studies,
    )


@router.api_route("/studies/{study_id}/similar/{rank}", methods=["GET", "HEAD"])
def show_case(request: Request, room: RoomOf, who: Reader, study_id: StudyNumber, rank: Rank) -> HTMLResponse:
    """Show one reference case that a study is like."""
    view = study_or_404(room, study_id)
    reading, cases = view.reading, cases_of(view)
    if reading is None or reading.kept.similar is None or rank > len(cases):
        raise HTTPException(404)
    room.accesses.record(who.name, who.address, "similar case", study_id)
    return page(
        request,
        room,
        "case.html",
        who,
        study=view,
        case=cases[rank - 1],
        rank=rank,
        total=len(cases),
        index=reading.kept.similar.index,
        present={entry.name for entry in reading.kept.findings if entry.presence == "present"},
        films=films_of(room, view)[rank - 1],
        has_films=room.settings.retrieval.films is not None,
    )


@router.post("/studies/{study_id}/feedback")
def give_feedback(room: RoomOf, who: Reader, study_id: StudyNumber, form: Form) -> Response:
    """Keep what a reader says of a finding, and show the study again."""
    try:
        said = OpinionIn(verdict=Verdict(form.get("verdict", "")), comment=form.get("comment", ""))
    except ValueError:
        raise HTTPException(400) from None
    say(room, who, study_id, form.get("key", ""), said)
    return RedirectResponse(f"/studies/{study_id}", 303)


def _opinions(room: Room, view: StudyView) -> Mapping[str, list[Opinion]]:
    return {} if view.reading is None else room.feedback.of(view.reading.id)


@router.api_route("/models/{name}", methods=["GET", "HEAD"])
def show_model(request: Request, room: RoomOf, who: Reader, name: str) -> HTMLResponse:
    """Show a model card, and how scores become probabilities."""
    if (card := read_card(room.data_dir.cards, name)) is None:
        raise HTTPException(404)
    return page(request, room, "model.html", who, card=card)


@router.api_route("/try", methods=["GET", "HEAD"])
def show_try(request: Request, room: RoomOf, who: Reader) -> HTMLResponse:
    """Let a reader try a film, and an admin upload files."""
    return page(request, room, "try.html", who, most=room.settings.web.upload_bytes)


@router.api_route("/cohort", methods=["GET", "HEAD"])
def show_cohort(request: Request, room: RoomOf, who: Reader, query: CohortQuery) -> HTMLResponse:
    """Show all readings together."""
    room.accesses.record(who.name, who.address, "cohort")
    return page(request, room, "cohort.html", who, cohort=read_cohort(room.engine, *query))


@router.api_route("/access", methods=["GET", "HEAD"])
def show_access(request: Request, room: RoomOf, who: Admin) -> HTMLResponse:
    """Show an admin who looked at what."""
    return page(request, room, "access.html", who, accesses=room.accesses.latest())


@router.api_route("/health", methods=["GET", "HEAD"])
def show_health(request: Request, room: RoomOf, who: Reader) -> HTMLResponse:
    """Show whether the node can work: what waits, where, and with how much room."""
    return page(
        request,
        room,
        "health.html",
        who,
        health=read_health(room.engine, room.settings, room.data_dir),
        finished=room.audits.latest,
    )


@router.api_route("/login", methods=["GET", "HEAD"])
def show_login(
    request: Request, room: RoomOf, who: Annotated[Visitor | None, Depends(find_visitor)]
) -> Response:
    """Ask who a reader is."""
    if who is not None:
        return RedirectResponse("/", 303)
    return page(
        request,
        room,
        "login.html",
        None,
        failed=False,
        target=own_path(request.query_params.get("next", "/")),
    )


@router.post("/login")
def log_in(request: Request, room: RoomOf, form: Form) -> Response:
    """Begin a session, or say that name and password do not fit."""
    name, target, address = form.get("name", ""), form.get("next", "/"), address_of(request)
    if not room.tries.allowed(address, name):
        raise HTTPException(429)
    if (account := room.accounts.check(name, form.get("password", ""))) is None:
        room.accesses.record(name[:64], address, "login refused", repeats=True)
        failed = "Name and password do not fit."
        return page(request, room, "login.html", None, 401, failed=failed, target=own_path(target))
    room.accesses.record(account.name, address, "login", repeats=True)
    # A session that began before the login ends with it: nobody can have planted this one.
    request.state.cookie = room.accounts.begin(account, room.settings.web.session_hours * 3600)
    return RedirectResponse(own_path(target), 303)


@router.post("/logout")
def log_out(request: Request, room: RoomOf, who: Reader) -> Response:
    """End a session; one that a provider vouched for goes on to the provider's logout."""
    vouched = room.accounts.end(request.cookies.get(COOKIE, ""))
    room.accesses.record(who.name, who.address, "logout", repeats=True)
    request.state.cookie = secrets.token_urlsafe(32)
    oidc = room.settings.oidc
    return RedirectResponse(PROVIDER_LOGOUT if vouched and oidc.issuer and oidc.logout else "/login", 303)


def own_path(target: str) -> str:
    """Return where to go after the login: a path of this page only."""
    return target if target.startswith("/") and not target.startswith(("//", "/\\")) else "/"


def _address(query: worklist.Query, **changes: str) -> str:
    """Return the address of the worklist with other values, without the words of a search.

    A change of what is shown begins at the start.
    """
    values = {
        "state": query.state or "",
        "finding": query.finding,
        "sort": "" if query.sort is worklist.Sort.CHANGED else query.sort,
        **changes,
    }
    words = urlencode({key: value for key, value in values.items() if value})
    return f"/?{words}" if words else "/"
