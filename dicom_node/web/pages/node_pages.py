"""Pages of the whole node: model cards, film upload, cohort, access log, health, metrics."""

from __future__ import annotations

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import HTMLResponse, Response

from dicom_node.web.api.parameters import CohortParameters
from dicom_node.web.dependencies import Context
from dicom_node.web.pages.rendering import render_page
from dicom_node.web.read_models.cohort import read_cohort
from dicom_node.web.read_models.health import prometheus_text, read_health
from dicom_node.web.read_models.model_cards import read_card
from dicom_node.web.read_models.shadows import read_shadows
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
    """Show the form where readers try a film, and admins upload files."""
    return render_page(request, context, "try.html", user, max_bytes=context.settings.web.upload_bytes)


@router.api_route("/cohort", methods=["GET", "HEAD"])
def show_cohort(request: Request, context: Context, user: Reader, query: CohortParameters) -> HTMLResponse:
    """Show statistics over all analyses."""
    context.access_log.record(user.name, user.address, "cohort")
    return render_page(
        request,
        context,
        "cohort.html",
        user,
        cohort=read_cohort(context.engine, *query),
        shadows=read_shadows(context.engine, query[1]) if user.admin else [],
    )


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
