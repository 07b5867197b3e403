"""Page of tokens: a user makes, lists and revokes what their scripts log in with."""

from __future__ import annotations

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from dicom_node.web.api.token_routes import TokenIn, make_token, revoke_token, tokens
from dicom_node.web.dependencies import Context, WebContext
from dicom_node.web.pages.rendering import render_page
from dicom_node.web.request_auth import CurrentUser, Form, Reader, check_csrf

router = APIRouter(include_in_schema=False, dependencies=[Depends(check_csrf)])


@router.api_route("/tokens", methods=["GET", "HEAD"])
def show_tokens(request: Request, context: Context, user: Reader) -> HTMLResponse:
    """Show the tokens of a user; to an admin those of all accounts."""
    return _page(request, context, user)


@router.post("/tokens")
def make(request: Request, context: Context, user: Reader, form: Form) -> Response:
    """Make a token, and show it once."""
    if request.headers.get("Authorization"):
        raise HTTPException(403)
    try:
        said = TokenIn.model_validate({key: form[key] for key in ("name", "days") if form.get(key)})
    except ValueError:
        raise HTTPException(400) from None
    try:
        return _page(request, context, user, made=make_token(context, user, said))
    except HTTPException as error:
        return _page(request, context, user, failed=error.detail, status=error.status_code)


@router.post("/tokens/revoke")
def revoke(context: Context, user: Reader, form: Form) -> Response:
    """End a token at once."""
    revoke_token(context, user, form.get("account", ""), form.get("name", ""))
    return RedirectResponse("/tokens", 303)


def _page(
    request: Request,
    context: WebContext,
    user: CurrentUser,
    *,
    made: str = "",
    failed: str = "",
    status: int = 200,
) -> HTMLResponse:
    return render_page(
        request,
        context,
        "tokens.html",
        user,
        status,
        tokens=tokens(context, user),
        days=context.settings.web.token_days,
        made=made,
        failed=failed,
    )
