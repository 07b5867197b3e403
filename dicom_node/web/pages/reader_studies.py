"""Pages of reader studies: list, a new one, results for admins, and the page on which a reader reads."""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping
from typing import Final

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from dicom_node.store.case_boxes import CaseBoxes
from dicom_node.store.case_readings import COMMENT_LENGTH, Answer, CaseReadings, Turn
from dicom_node.store.reader_studies import Design, InvalidReaderStudy, ReaderStudies, ReaderStudy
from dicom_node.web.api.parameters import LARGEST_NUMBER, SearchIn
from dicom_node.web.api.reader_study_routes import (
    ReaderStudyNumber,
    reader_study_or_404,
    shown_progress,
    withholds_results,
)
from dicom_node.web.blinding import hidden_studies
from dicom_node.web.dependencies import Context, WebContext
from dicom_node.web.pages.rendering import render_page
from dicom_node.web.read_models.study import read_study
from dicom_node.web.read_models.worklist import read_finding_names
from dicom_node.web.reader_studies.results import MODEL, compute_results
from dicom_node.web.reader_studies.study_list import StudyList, parse_study_list, worklist_studies
from dicom_node.web.request_auth import LOCAL_USER, Admin, CurrentUser, Form, Reader, check_csrf

router = APIRouter(include_in_schema=False, dependencies=[Depends(check_csrf)])

DESIGNS: Final[Mapping[Design, str]] = {
    Design.UNAIDED: "unaided: without the model",
    Design.AIDED: "aided: with the model",
    Design.SEQUENTIAL: "sequential: each study without the model, and at once again with it",
    Design.CROSSOVER: "crossover: all studies without the model, and then all again with it",
}
_SEARCH: Final = ("q", "state", "finding", "tag", "read", "low", "high", "since", "until", "sort")
"""Fields of the worklist's filter."""
_LONGEST_SECONDS: Final = 7 * 86400.0


@router.api_route("/reader-studies", methods=["GET", "HEAD"])
def show_reader_studies(request: Request, context: Context, user: Reader) -> HTMLResponse:
    """Show the reader studies: all to an admin, else those of the user."""
    found = ReaderStudies(context.engine).all(None if user.admin else user.name)
    progress = {each.id: shown_progress(context, user, each) for each in found}
    return render_page(request, context, "reader_studies.html", user, studies=found, progress=progress)


@router.api_route("/reader-studies/new", methods=["GET", "HEAD"])
def show_new(request: Request, context: Context, user: Admin) -> HTMLResponse:
    """Show the form of a new reader study, whose studies are given as CSV."""
    return _form_page(request, context, user, {}, from_list=False)


@router.post("/reader-studies/new")
def show_new_of_list(request: Request, context: Context, user: Admin, form: Form) -> HTMLResponse:
    """Show the form of a new reader study of the studies of the worklist's present filter."""
    return _form_page(request, context, user, form, from_list=True)


@router.post("/reader-studies")
def make_reader_study(request: Request, context: Context, user: Admin, form: Form) -> Response:
    """Make a reader study, or show the form again with the reason why it cannot be made."""
    from_list = "from_list" in form
    try:
        key = _make(context, user, form, from_list=from_list)
    except InvalidReaderStudy as error:
        failed = f"{str(error)[:1].upper()}{str(error)[1:]}."
        return _form_page(request, context, user, form, from_list=from_list, failed=failed)
    context.access_log.record(user.name, user.address, "reader study made", always=True)
    return RedirectResponse(f"/reader-studies/{key}", 303)


@router.api_route("/reader-studies/{reader_study_id}", methods=["GET", "HEAD"])
def show_reader_study(
    request: Request, context: Context, user: Reader, reader_study_id: ReaderStudyNumber
) -> HTMLResponse:
    """Show one reader study: progress, and its results to an admin."""
    found = reader_study_or_404(context, user, reader_study_id)
    withheld = withholds_results(context, user, found)
    results = compute_results(context.engine, found) if user.admin and not withheld else None
    if results is not None:
        context.access_log.record(user.name, user.address, "reader study export")
    return render_page(
        request,
        context,
        "reader_study.html",
        user,
        found=found,
        design=DESIGNS[found.design],
        progress=shown_progress(context, user, found),
        results=results,
        withheld=withheld,
        model=MODEL,
    )


@router.post("/reader-studies/{reader_study_id}/close")
def close_reader_study(context: Context, user: Admin, reader_study_id: ReaderStudyNumber) -> Response:
    """Close a reader study, and show it again."""
    found = reader_study_or_404(context, user, reader_study_id)
    ReaderStudies(context.engine).close(found.id)
    context.access_log.record(user.name, user.address, "reader study closed", always=True)
    return RedirectResponse(f"/reader-studies/{found.id}", 303)


@router.api_route("/reader-studies/{reader_study_id}/read", methods=["GET", "HEAD"])
def show_case(
    request: Request, context: Context, user: Reader, reader_study_id: ReaderStudyNumber
) -> Response:
    """Show the next case of a reader; from then on the time counts."""
    found = _own(context, user, reader_study_id)
    return _case_page(request, context, user, found)


@router.post("/reader-studies/{reader_study_id}/read")
def answer_case(
    request: Request, context: Context, user: Reader, reader_study_id: ReaderStudyNumber, form: Form
) -> Response:
    """Store a reader's answers to a case, and show the next one."""
    found = _own(context, user, reader_study_id)
    readings = CaseReadings(context.engine)
    if (turn := readings.next_turn(found, user.name)) is None:
        return RedirectResponse(f"/reader-studies/{found.id}", 303)
    try:
        readings.answer(
            found,
            _whole_number(form.get("reading", ""), "the number of the reading"),
            user.name,
            _answers(found, form),
            comment=form.get("comment", "").replace("\0", " "),
            visible_seconds=_seconds(form.get("visible_seconds", "")),
        )
    except InvalidReaderStudy as error:
        failed = f"{str(error)[:1].upper()}{str(error)[1:]}."
        return _case_page(request, context, user, found, form=form, failed=failed)
    context.access_log.record(user.name, user.address, "reader study answer", turn.case.study_id, always=True)
    return RedirectResponse(f"/reader-studies/{found.id}/read", 303)


def _own(context: WebContext, user: CurrentUser, reader_study_id: int) -> ReaderStudy:
    """Return a reader study that the user reads in; 404 when there is none."""
    found = reader_study_or_404(context, user, reader_study_id)
    if user.name not in found.readers:
        raise HTTPException(404)
    return found


def _case_page(
    request: Request,
    context: WebContext,
    user: CurrentUser,
    found: ReaderStudy,
    *,
    form: Mapping[str, str] | None = None,
    failed: str = "",
) -> Response:
    readings = CaseReadings(context.engine)
    turn = None if found.closed_at is not None else readings.next_turn(found, user.name)
    if turn is None:
        return RedirectResponse(f"/reader-studies/{found.id}", 303)
    if request.method == "HEAD":
        return Response()
    reading = readings.display(turn, user.name)
    context.access_log.record(user.name, user.address, "reader study case", turn.case.study_id)
    return render_page(
        request,
        context,
        "reader_case.html",
        user,
        422 if failed else 200,
        found=found,
        turn=turn,
        reading=reading,
        boxes=_boxes(context, found, turn, reading.id),
        model=_model_answers(context, user, found, turn),
        given={} if form is None or form.get("reading") != str(reading.id) else form,
        failed=failed,
        comment_length=COMMENT_LENGTH,
    )


def _boxes(
    context: WebContext, found: ReaderStudy, turn: Turn, reading_id: int
) -> Mapping[str, Mapping[str, int]]:
    """Return the boxes of a case reading as the viewer takes them, by the key of the finding."""
    if not found.boxes or (view := read_study(context.engine, turn.case.study_id)) is None:
        return {}
    boxes = CaseBoxes(context.engine).all(found).get(reading_id, {})
    return {
        key: {
            "image": image.id,
            **{edge: getattr(box, edge) for edge in ("left", "top", "right", "bottom")},
        }
        for key, box in boxes.items()
        if (image := view.image(box.sop_instance_uid)) is not None
    }


def _model_answers(
    context: WebContext, user: CurrentUser, found: ReaderStudy, turn: Turn
) -> list[object] | None:
    """Return the model's answers in an aided reading; None when they are hidden.

    They are also while the user reads the same study without them in another reader study.
    """
    if not turn.aided or turn.case.study_id in CaseReadings(context.engine).hidden_studies(user.name):
        return None
    answers = ReaderStudies(context.engine).model_answers([turn.case]).get(turn.case.id, {})
    return [answers[key] for key in found.findings if key in answers]


def _answers(found: ReaderStudy, form: Mapping[str, str]) -> dict[str, Answer]:
    answers = {}
    for key, name in found.findings.items():
        said = form.get(f"presence-{key}", "")
        if said not in ("absent", "present"):
            raise InvalidReaderStudy(f"{name}: choose absent or present")
        confidence = _whole_number(form.get(f"confidence-{key}", ""), f"{name}: the confidence")
        answers[key] = Answer(said == "present", confidence)
    return answers


def _whole_number(text: str, what: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text[:12]) <= LARGEST_NUMBER):
        raise InvalidReaderStudy(f"{what} must be a whole number")
    return int(text[:12])


def _seconds(text: str) -> float | None:
    """Return the visible time that a browser says; None when it says none, or what cannot be."""
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and 0 <= seconds <= _LONGEST_SECONDS else None


def _form_page(
    request: Request,
    context: WebContext,
    user: CurrentUser,
    form: Mapping[str, str],
    *,
    from_list: bool,
    failed: str = "",
) -> HTMLResponse:
    count = 0
    if from_list:
        try:
            count = len(_studies(context, user, form, from_list=True).cases)
        except InvalidReaderStudy as error:
            failed = failed or f"{str(error)[:1].upper()}{str(error)[1:]}."
    return render_page(
        request,
        context,
        "reader_study_new.html",
        user,
        422 if failed else 200,
        form=form,
        from_list=from_list,
        count=count,
        failed=failed,
        findings=read_finding_names(context.engine),
        readers=readers_of(context),
        designs=DESIGNS,
        search=_SEARCH,
    )


def readers_of(context: WebContext) -> list[str]:
    """Return the names of those who may be readers: the accounts, and ``local`` where nobody logs in."""
    local = [] if context.settings.login_needed else [LOCAL_USER]
    return local + [each.name for each in context.accounts.all()]


def _studies(
    context: WebContext, user: CurrentUser, form: Mapping[str, str], *, from_list: bool
) -> StudyList:
    if not from_list:
        return parse_study_list(form.get("csv", ""), read_finding_names(context.engine))
    asked = {name: form[name] for name in _SEARCH if form.get(name)}
    hidden = hidden_studies(context, user)
    try:
        return worklist_studies(context.engine, SearchIn.model_validate(asked).query(hidden, user.name))
    except ValueError:
        raise HTTPException(400) from None


def _make(context: WebContext, user: CurrentUser, form: Mapping[str, str], *, from_list: bool) -> int:
    try:
        design = Design(form.get("design", ""))
    except ValueError:
        raise InvalidReaderStudy("choose a design") from None
    studies = _studies(context, user, form, from_list=from_list)
    known = read_finding_names(context.engine)
    findings = {**studies.findings, **{key: known[key] for key in known if f"with-{key}" in form}}
    seed = form.get("seed", "").strip()
    return ReaderStudies(context.engine).add(
        form.get("name", ""),
        design,
        findings=findings,
        readers=[each for each in readers_of(context) if f"reader-{each}" in form],
        cases=studies.cases,
        seed=_whole_number(seed, "the seed") if seed else secrets.randbelow(LARGEST_NUMBER),
        made_by=user.name,
        boxes="boxes" in form,
    )
