"""Security middleware: response headers, limits of requests and bodies, names of this host.

It is plain ASGI and does not buffer, so that the event stream works.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, MutableMapping
from http import HTTPStatus
from typing import Any, Final

from fastapi import HTTPException
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dicom_node.config.addresses import is_loopback, network_of
from dicom_node.config.web import WebSettings

SECURITY_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
    "X-Intended-Use": "RESEARCH USE ONLY",
}
"""Headers of every response, unless the response sets them itself."""

UPLOAD_PATHS: Final = frozenset({"/api/v1/instances", "/api/v1/trials"})
"""Paths that accept whole files."""
HEALTH_PATHS: Final = frozenset({"/healthz", "/readyz"})
"""Paths for those who watch the node: they have no limit of requests, and answer to any host name."""
MAX_BODY_BYTES: Final = 64 * 1024
"""Largest body of all other routes and of every form, in bytes."""
_FORMS: Final = ("application/x-www-form-urlencoded", "multipart/")


class SecurityMiddleware:
    """ASGI middleware that adds the headers, and refuses too many or too large requests.

    Parameters
    ----------
    app
        Application behind it.
    settings
        Settings of the page. A route sets the value of its cookie in ``request.state.cookie``.
    """

    def __init__(self, app: ASGIApp, settings: WebSettings) -> None:
        self._app = app
        self._settings = settings
        self._limiter = FixedWindowRateLimiter(MemoryStorage())
        self._limit = RateLimitItemPerMinute(settings.requests_per_minute)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state: MutableMapping[str, Any] = scope.setdefault("state", {})

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
                if self._settings.https:
                    headers["Strict-Transport-Security"] = "max-age=31536000"
                if (held := state.get("cookie")) is not None:
                    headers.append("Set-Cookie", self._cookie_header(held))
            await send(message)

        refused = self._refusal(scope)
        if refused is not None:
            await refused(scope, receive, send_with_headers)
            return
        await self._app(scope, _limited(receive, self._largest_body(scope)), send_with_headers)

    def _refusal(self, scope: Scope) -> PlainTextResponse | None:
        """Return the answer to a request that is refused before anything of its body is read."""
        headers = Headers(scope=scope)
        if scope["path"] not in HEALTH_PATHS and not self._limiter.hit(self._limit, *_sender(scope, headers)):
            status = HTTPStatus.TOO_MANY_REQUESTS
            return PlainTextResponse("too many requests; wait a minute\n", status, {"Retry-After": "60"})
        if headers.get("content-encoding", "identity").casefold() != "identity":
            status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
            return PlainTextResponse("send the body as it is, without Content-Encoding\n", status)
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length[:20]) > self._largest_body(scope):
            status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
            return PlainTextResponse("the request is too large\n", status, {"Connection": "close"})
        return None

    def _largest_body(self, scope: Scope) -> int:
        kind = Headers(scope=scope).get("content-type", "").strip().casefold()
        whole_file = scope["path"] in UPLOAD_PATHS and not kind.startswith(_FORMS)
        return self._settings.upload_bytes if whole_file else MAX_BODY_BYTES

    def _cookie_header(self, value: str) -> str:
        secure = "; Secure" if self._settings.https else ""
        return f"{cookie_name(self._settings)}={value}; Path=/; HttpOnly; SameSite=Lax{secure}"


def cookie_name(settings: WebSettings) -> str:
    """Return the name of the session cookie; with https only this very host can set one of that name."""
    return "__Host-reading_room" if settings.https else "reading_room"


def _sender(scope: Scope, headers: Headers) -> tuple[str, str]:
    """Return what requests are counted by: the address, and the credentials where many share the address."""
    address = scope["client"][0] if scope.get("client") else ""
    if not scope.get("state", {}).get("shared"):
        return network_of(address), ""
    shown = f"{headers.get('authorization', '')} {headers.get('cookie', '')}"
    return address, hashlib.sha256(shown.encode()).hexdigest()


def _limited(receive: Receive, limit: int) -> Receive:
    """Raise HTTP error 413 as soon as more than `limit` bytes of the body have arrived."""
    got = 0

    async def limited() -> Message:
        nonlocal got
        message = await receive()
        got += len(message.get("body", b""))
        if got > limit:
            raise HTTPException(413)
        return message

    return limited


class AllowedHosts:
    """ASGI middleware that answers only to some host names; to those who watch the node, by any.

    It is against DNS rebinding: another site could let its own name point at this host, and read the pages.

    Parameters
    ----------
    app
        Application behind it.
    names
        Host names.
    """

    def __init__(self, app: ASGIApp, names: list[str]) -> None:
        self._app = app
        self._checked = TrustedHostMiddleware(app, allowed_hosts=names, www_redirect=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        watched = scope["type"] == "http" and scope["path"] in HEALTH_PATHS
        await (self._app if watched else self._checked)(scope, receive, send)


def allowed_hosts(host: str) -> list[str] | None:
    """Return the host names that requests may use; None, meaning any, unless `host` is the loopback."""
    return ["localhost", "127.0.0.1", "::1", "[::1]", host] if is_loopback(host) else None
