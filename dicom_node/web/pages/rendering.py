"""Rendering of a page for the current user."""

from __future__ import annotations

from fastapi import Request
from fastapi.responses import HTMLResponse

from dicom_node.web.dependencies import WebContext
from dicom_node.web.request_auth import CurrentUser, csrf_token, session_cookie


def render_page(
    request: Request,
    context: WebContext,
    template: str,
    user: CurrentUser | None,
    status: int = 200,
    /,
    **values: object,
) -> HTMLResponse:
    """Render a template with the user and the CSRF token of their browser."""
    csrf = csrf_token(context, session_cookie(request))
    return context.page_renderer.render(
        template, status, user=user, csrf=csrf, path=request.url.path, **values
    )
