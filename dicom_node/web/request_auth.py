"""Authentication of a request: the user behind a session cookie or bearer token, and the CSRF check.

Where no login is asked for, the page listens on the loopback only, and every user is the admin ``local``,
unless the request came through a proxy.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Final

from fastapi import Depends, HTTPException, Request

from dicom_node.web.auth.accounts import Role
from dicom_node.web.auth.proxies import is_forwarded
from dicom_node.web.auth.security_middleware import cookie_name
from dicom_node.web.dependencies import Context, WebContext, get_context

_LOG = logging.getLogger(__name__)

CSRF_HEADER: Final = "X-CSRF-Token"
CSRF_FIELD: Final = "csrf"
LOCAL_USER: Final = "local"
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_FORM = "application/x-www-form-urlencoded"


class LoginRequired(Exception):
    """Error of a request without a valid session or token."""


@dataclass(frozen=True, slots=True)
class CurrentUser:
    """User who sent a request.

    Attributes
    ----------
    address
        IP address of the reader, as far as trusted proxies name it.
    """

    name: str
    role: Role
    address: str

    @property
    def admin(self) -> bool:
        """True for an admin, who may do everything."""
        return self.role is Role.ADMIN


def held_cookie(request: Request) -> str:
    """Return the value of the browser's cookie; empty when it has none."""
    return request.cookies.get(cookie_name(get_context(request).settings.web), "")


def session_cookie(request: Request) -> str:
    """Return the value of the browser's cookie; a browser without one gets a new one with the response."""
    held = held_cookie(request)
    if 0 < len(held) < 256:  # a value made here has 43 characters
        return held
    if (new := getattr(request.state, "cookie", "")) == "":
        request.state.cookie = new = secrets.token_urlsafe(32)
    return str(new)


def csrf_token(context: WebContext, cookie: str) -> str:
    """Return the token that a browser must send with every change; other sites cannot know it."""
    return hmac.new(context.key, b"csrf:" + cookie.encode(), hashlib.sha256).hexdigest()


def client_address(request: Request) -> str:
    """Return the IP address of the reader, as far as trusted proxies name it."""
    return request.client.host if request.client else ""


def is_shared(request: Request) -> bool:
    """Return whether many readers share the address: it is that of a proxy which names nobody behind it."""
    return bool(getattr(request.state, "shared", False))


def current_user(request: Request, context: Context) -> CurrentUser | None:
    """Return the user of a request; None when they have to log in first."""
    address = client_address(request)
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.casefold() == "bearer":
        account = context.accounts.find_by_token(token, "token")
    elif not context.settings.login_needed and not is_forwarded(request):
        return CurrentUser(LOCAL_USER, Role.ADMIN, address)
    else:
        if not context.settings.login_needed:
            _warn_of_proxy()
        account = context.accounts.find_by_token(held_cookie(request), "login")
    return None if account is None else CurrentUser(account.name, account.role, address)


@cache
def _warn_of_proxy() -> None:
    """Say it once, for strangers could fill the log with it."""
    _LOG.warning("a request came through a proxy, so it needs a login; set web.https or web.login")


def require_reader(user: Annotated[CurrentUser | None, Depends(current_user)]) -> CurrentUser:
    """Return the user, of any role.

    Raises
    ------
    LoginRequired
        When nobody is logged in.
    """
    if user is None:
        raise LoginRequired
    return user


Reader = Annotated[CurrentUser, Depends(require_reader)]


def require_admin(user: Reader) -> CurrentUser:
    """Return the user, who is an admin.

    Raises
    ------
    HTTPException
        403 for any other role.
    """
    if not user.admin:
        raise HTTPException(403)
    return user


Admin = Annotated[CurrentUser, Depends(require_admin)]


async def check_csrf(request: Request, context: Context) -> None:
    """Refuse a change that another site has made a browser send (cross-site request forgery).

    A request with a bearer token comes from a script and not from a browser. Every other request must send
    the token of this site's pages, in a header or in a field of a form.

    Raises
    ------
    HTTPException
        403 when the token is missing or wrong.
    LoginRequired
        When it is, because the session of the page has ended.
    """
    authorization = request.headers.get("Authorization", "").casefold()
    if request.method in _SAFE_METHODS or authorization.startswith("bearer "):
        return
    shown = request.headers.get(CSRF_HEADER, "")
    if not shown and request.headers.get("Content-Type", "").startswith(_FORM):
        shown = str((await request.form()).get(CSRF_FIELD, ""))
    held = held_cookie(request)
    cross_site = request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none")
    if cross_site or not held or not hmac.compare_digest(shown.encode(), csrf_token(context, held).encode()):
        logs_in = request.url.path.startswith("/login")
        if not logs_in and current_user(request, context) is None:
            raise LoginRequired
        raise HTTPException(403)


async def form_fields(request: Request) -> Mapping[str, str]:
    """Return the text fields of a form."""
    return {key: value for key, value in (await request.form()).items() if isinstance(value, str)}


Form = Annotated[Mapping[str, str], Depends(form_fields)]
