"""Pages of the whole node: model cards, film upload, cohort, access log, health, metrics."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Literal

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from dicom_node.web.api.parameters import CohortParameters
from dicom_node.web.api.upload_routes import try_example
from dicom_node.web.dependencies import Context
from dicom_node.web.media.drawn_films import drawn_film
from dicom_node.web.pages.rendering import render_page
from dicom_node.web.read_models import score_drift
from dicom_node.web.read_models.cohort import BINS, read_cohort
from dicom_node.web.read_models.health import prometheus_text, read_health
from dicom_node.web.read_models.model_cards import read_card
from dicom_node.web.read_models.shadows import read_shadows
from dicom_node.web.read_models.worklist_query import WorklistQuery, address
from dicom_node.web.request_auth import Admin, Reader, check_csrf, require_reader

router = APIRouter(include_in_schema=False, dependencies=[Depends(check_csrf)])


@router.api_route("/models/{name}", methods=["GET", "HEAD"])
def show_model(request: Request, context: Context, user: Reader, name: str) -> HTMLResponse:
    """Show a model card and the reliability of its certainties."""
    if (card := read_card(context.data_dir.cards, name)) is None:
        raise HTTPException(404)
    return render_page(request, context, "model.html", user, card=card)


@router.api_route("/try", methods=["GET", "HEAD"])
def show_try(request: Request, context: Context, user: Reader) -> HTMLResponse:
    """Show the form where readers try films, and admins upload files."""
    return render_page(request, context, "try.html", user, max_bytes=context.settings.web.upload_bytes)


@router.post("/try/example")
def try_example_on_page(context: Context, user: Reader) -> Response:
    """Try the drawn films, and show their study."""
    return RedirectResponse(f"/studies/{try_example(context, user).study}", 303)


@router.get("/try/example/{view}.png", dependencies=[Depends(require_reader)])
def show_example(view: Literal["PA", "LL"]) -> Response:
    """Return one of the drawn films."""
    headers = {"Cache-Control": "private, max-age=600"}
    return Response(drawn_film(view), media_type="image/png", headers=headers)


@router.api_route("/cohort", methods=["GET", "HEAD"])
def show_cohort(request: Request, context: Context, user: Reader, query: CohortParameters) -> HTMLResponse:
    """Show statistics over all analyses."""
    context.access_log.record(user.name, user.address, "cohort")
    cohort = read_cohort(context.engine, *query)
    return render_page(
        request,
        context,
        "cohort.html",
        user,
        cohort=cohort,
        bars=[_bar_address(cohort.finding, number) for number in range(BINS)],
        weeks=[_week_address(cohort.finding, each.name) for each in cohort.weeks],
        shadows=read_shadows(context.engine, query[1]) if user.admin else [],
        drift=context.drift_task.latest,
        recent_days=score_drift.RECENT_DAYS,
        reference_days=score_drift.REFERENCE_DAYS,
        least=score_drift.LEAST_ANALYSES,
        level=score_drift.LEVEL,
    )


def _bar_address(key: str, number: int) -> str:
    """Return the address of the studies behind one bar of the histogram."""
    return address(WorklistQuery(finding=key, low=number / BINS, high=(number + 1) / BINS))


def _week_address(key: str, monday: str) -> str:
    """Return the address of the studies that were analysed in one week, whatever the score of the finding."""
    until = date.fromisoformat(monday) + timedelta(days=7)
    return address(WorklistQuery(finding=key, low=0, high=1, since=monday, until=until.isoformat()))


@router.api_route("/access", methods=["GET", "HEAD"])
def show_access(request: Request, context: Context, user: Admin) -> HTMLResponse:
    """Show the access log to an admin."""
    return render_page(request, context, "access.html", user, accesses=context.access_log.latest())


@router.api_route("/health", methods=["GET", "HEAD"])
def show_health(request: Request, context: Context, user: Reader) -> HTMLResponse:
    """Show the health of the node: destinations, queue, disk space, audit, versions."""
    return render_page(
        request,
        context,
        "health.html",
        user,
        health=read_health(context.engine, context.settings, context.data_dir),
        audit=context.audit_task.latest,
        audit_trail_trouble=context.audit_trail.trouble,
    )


@router.api_route("/metrics", methods=["GET", "HEAD"], dependencies=[Depends(require_reader)])
def show_metrics(context: Context) -> Response:
    """Return the health of the node as Prometheus metrics."""
    return Response(
        prometheus_text(read_health(context.engine, context.settings, context.data_dir)),
        media_type="text/plain; version=0.0.4; charset=utf-8",
    )
