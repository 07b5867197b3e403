"""Readers whom an identity provider vouches for: the addresses of their login and logout."""

from __future__ import annotations

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import RedirectResponse

from dicom_node.web.auth.accounts import Account, NameTaken
from dicom_node.web.auth.oidc_client import BACK, LoginFailed, Provider, Vouched
from dicom_node.web.dependencies import Room, RoomOf
from dicom_node.web.pages.routes import PROVIDER_LOGOUT, own_path, page
from dicom_node.web.request_auth import address_of, cookie_of

_STILL_THERE = (
    "You are logged out here, but may still be logged in at the identity provider: it could not be asked."
)


def _account(room: Room, who: Vouched) -> Account:
    """Return the account of somebody who came back.

    Raises
    ------
    LoginFailed
        When they have no role, or are called as somebody else is.
    """
    if who.role is None:
        room.accounts.disown(who.subject)
        raise LoginFailed("The identity provider gives you no role in this reading room.", 403)
    try:
        return room.accounts.vouched(who.subject, who.name, who.role)
    except NameTaken as error:
        raise LoginFailed(f"You cannot come in: {error}.", 403) from None


def routes(provider: Provider) -> APIRouter:
    """Return the addresses of login and logout through a provider."""
    router = APIRouter(include_in_schema=False)

    def failed(request: Request, room: Room, error: LoginFailed, target: str = "/") -> Response:
        room.accesses.record("(oidc)", address_of(request), "login refused", repeats=True)
        return page(request, room, "login.html", None, error.status, failed=str(error), target=target)

    @router.get("/login/oidc")
    def go(request: Request, room: RoomOf) -> Response:
        """Send a browser to the provider."""
        cookie, target = cookie_of(request), own_path(request.query_params.get("next", "/"))
        if not room.tries.allowed(address_of(request), f"oidc {cookie}"):
            raise HTTPException(429)
        try:
            return RedirectResponse(provider.begin(cookie, target), 303)
        except LoginFailed as error:
            return failed(request, room, error, target)

    @router.get(BACK)
    def back(request: Request, room: RoomOf) -> Response:
        """Begin the session of somebody whom the provider vouches for, or say why not."""
        cookie, answer, target = cookie_of(request), dict(request.query_params), "/"
        if not room.tries.allowed(address_of(request), f"oidc back {cookie}"):
            raise HTTPException(429)
        try:
            state = answer.get("state", "")
            target = own_path(provider.target(cookie, state))
            account = _account(room, provider.finish(state, answer))
        except LoginFailed as error:
            return failed(request, room, error, target)
        room.accesses.record(account.name, address_of(request), "login", repeats=True)
        # A session that began before the login ends with it: nobody can have planted this one.
        request.state.cookie = room.accounts.begin(account, room.settings.web.session_hours * 3600)
        return RedirectResponse(target, 303)

    @router.get(PROVIDER_LOGOUT)
    def out(request: Request, room: RoomOf) -> Response:
        """Send a browser whose session has ended here on to the provider's logout.

        By a page that goes on by itself: Chromium holds redirections after a form to ``form-action``, where
        no provider stands.
        """
        if not room.tries.allowed(address_of(request), f"oidc out {cookie_of(request)}"):
            raise HTTPException(429)
        try:
            address = provider.end_session()
        except LoginFailed:
            return page(request, room, "login.html", None, failed=_STILL_THERE, target="/")
        if address is None:
            return RedirectResponse("/login", 303)
        return page(request, room, "logout.html", None, address=address)

    return router
