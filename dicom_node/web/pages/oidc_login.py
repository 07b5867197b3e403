"""Login and logout through an identity provider (OpenID Connect)."""

from __future__ import annotations

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import RedirectResponse

from dicom_node.web.auth.accounts import Account, InvalidName
from dicom_node.web.auth.oidc_client import CALLBACK_PATH, LoginFailed, OidcClient, OidcIdentity
from dicom_node.web.dependencies import Context, WebContext
from dicom_node.web.pages.login import OIDC_LOGOUT_PATH, local_path
from dicom_node.web.pages.rendering import render_page
from dicom_node.web.request_auth import client_address, is_shared, session_cookie

_LOGOUT_INCOMPLETE = (
    "You are logged out here. The identity provider could not be reached: you may still be logged in there."
)


def routes(provider: OidcClient) -> APIRouter:
    """Return the routes of login and logout through a provider."""
    router = APIRouter(include_in_schema=False)

    @router.get("/login/oidc")
    def start_login(request: Request, context: Context) -> Response:
        """Send a browser to the provider."""
        cookie, target = session_cookie(request), local_path(request.query_params.get("next", "/"))
        _check_throttle(request, context, f"oidc {cookie}")
        try:
            return RedirectResponse(provider.authorization_url(cookie, target), 303)
        except LoginFailed as error:
            return _failed(request, context, error, target)

    @router.get(CALLBACK_PATH)
    def finish_login(request: Request, context: Context) -> Response:
        """Start the session of a user whom the provider has identified, or show why not."""
        cookie, answer, target = session_cookie(request), dict(request.query_params), "/"
        _check_throttle(request, context, f"oidc back {cookie}")
        try:
            state = answer.get("state", "")
            target = local_path(provider.read_target(cookie, state))
            account = _sign_in(context, provider.identify(state, answer))
        except LoginFailed as error:
            return _failed(request, context, error, target)
        context.access_log.record(account.name, client_address(request), "login", always=True)
        # A new session for each login, so that nobody can have planted its cookie before (session fixation).
        seconds = context.settings.web.session_hours * 3600
        request.state.cookie = context.accounts.begin_session(account, seconds)
        return RedirectResponse(target, 303)

    @router.get(OIDC_LOGOUT_PATH)
    def finish_logout(request: Request, context: Context) -> Response:
        """Send a browser whose session has ended here to the provider's logout.

        By a page that redirects by itself: Chromium applies the policy ``form-action`` to redirects after a
        form, and no provider is listed there.
        """
        _check_throttle(request, context, f"oidc out {session_cookie(request)}")
        try:
            address = provider.logout_url()
        except LoginFailed:
            return render_page(request, context, "login.html", None, failed=_LOGOUT_INCOMPLETE, target="/")
        if address is None:
            return RedirectResponse("/login", 303)
        return render_page(request, context, "logout.html", None, address=address)

    return router


def _check_throttle(request: Request, context: WebContext, name: str) -> None:
    if not context.login_throttle.allowed(client_address(request), name, shared=is_shared(request)):
        raise HTTPException(429)


def _failed(request: Request, context: WebContext, error: LoginFailed, target: str) -> Response:
    """Record a failed login, and show the login form with the reason."""
    context.access_log.record("(oidc)", client_address(request), "login refused", always=True)
    return render_page(request, context, "login.html", None, error.status, failed=str(error), target=target)


def _sign_in(context: WebContext, user: OidcIdentity) -> Account:
    """Return the account of a user whom the provider has identified.

    Raises
    ------
    LoginFailed
        When the user has no role here, or their name is not valid or belongs to another account.
    """
    if user.role is None:
        context.accounts.revoke_oidc(user.subject)
        raise LoginFailed("The identity provider gives you no role in this reading room.", 403)
    try:
        return context.accounts.sign_in_oidc(user.subject, user.name, user.role)
    except InvalidName as error:
        raise LoginFailed(f"You cannot log in: {error}.", 403) from None
