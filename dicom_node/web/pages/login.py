"""Login and logout with name and password."""

from __future__ import annotations

import secrets
from typing import Annotated, Final

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from fastapi.responses import RedirectResponse

from dicom_node.web.dependencies import Context
from dicom_node.web.pages.rendering import render_page
from dicom_node.web.request_auth import (
    CurrentUser,
    Form,
    Reader,
    check_csrf,
    client_address,
    current_user,
    held_cookie,
    is_shared,
)

OIDC_LOGOUT_PATH: Final = "/login/oidc/out"
"""Path where the logout of an identity provider's user continues; :mod:`dicom_node.web.pages.oidc_login`."""

router = APIRouter(include_in_schema=False, dependencies=[Depends(check_csrf)])


@router.api_route("/login", methods=["GET", "HEAD"])
def show_login(
    request: Request, context: Context, user: Annotated[CurrentUser | None, Depends(current_user)]
) -> Response:
    """Show the login form."""
    if user is not None:
        return RedirectResponse("/", 303)
    target = local_path(request.query_params.get("next", "/"))
    return render_page(request, context, "login.html", None, failed=False, target=target)


@router.post("/login")
def log_in(request: Request, context: Context, form: Form) -> Response:
    """Start a session, or show the form again when name and password do not match."""
    name, target, address = form.get("name", ""), form.get("next", "/"), client_address(request)
    if not context.login_throttle.allowed(address, name, shared=is_shared(request)):
        raise HTTPException(429)
    if (account := context.accounts.authenticate(name, form.get("password", ""))) is None:
        context.access_log.record(name[:64], address, "login refused", always=True)
        failed = "Wrong name or password."
        return render_page(
            request, context, "login.html", None, 401, failed=failed, target=local_path(target)
        )
    context.access_log.record(account.name, address, "login", always=True)
    # A new session for each login, so that nobody can have planted its cookie before (session fixation).
    request.state.cookie = context.accounts.begin_session(account, context.settings.web.session_hours * 3600)
    return RedirectResponse(local_path(target), 303)


@router.post("/logout")
def log_out(request: Request, context: Context, user: Reader) -> Response:
    """End a session; that of an identity provider's user continues to the provider's logout."""
    from_provider = context.accounts.end_session(held_cookie(request))
    context.access_log.record(user.name, user.address, "logout", always=True)
    request.state.cookie = secrets.token_urlsafe(32)
    oidc = context.settings.oidc
    return RedirectResponse(
        OIDC_LOGOUT_PATH if from_provider and oidc.issuer and oidc.logout else "/login", 303
    )


def local_path(target: str) -> str:
    """Return the path to go to after a login; ``/`` when the target is on another host."""
    return target if target.startswith("/") and not target.startswith(("//", "/\\")) else "/"
