"""Security middleware: response headers, limits of requests and bodies, names of this host.

It is plain ASGI and does not buffer, so that the event stream works.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, MutableMapping
from http import HTTPStatus
from typing import Any, Final

from fastapi import HTTPException
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter
from starlette.datastructures import MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dicom_node.config.sections import WebSettings

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
MAX_BODY_BYTES: Final = 64 * 1024
"""Largest body of all other routes, in bytes."""


class SecurityMiddleware:
    """ASGI middleware that adds the headers, and refuses too many or too large requests.

    Parameters
    ----------
    app
        Application behind it.
    settings
        Settings of the page.
    cookie
        Name of the cookie; a route sets its value in ``request.state.cookie``.
    """

    def __init__(self, app: ASGIApp, settings: WebSettings, cookie: str) -> None:
        self._app = app
        self._settings = settings
        self._cookie = cookie
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

        address = scope["client"][0] if scope.get("client") else ""
        if not self._limiter.hit(self._limit, address):
            status = HTTPStatus.TOO_MANY_REQUESTS
            response = PlainTextResponse("too many requests; wait a minute\n", status, {"Retry-After": "60"})
            await response(scope, receive, send_with_headers)
            return
        limit = self._settings.upload_bytes if scope["path"] in UPLOAD_PATHS else MAX_BODY_BYTES
        await self._app(scope, _limited(receive, limit), send_with_headers)

    def _cookie_header(self, value: str) -> str:
        secure = "; Secure" if self._settings.https else ""
        return f"{self._cookie}={value}; Path=/; HttpOnly; SameSite=Lax{secure}"


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


def allowed_hosts(host: str) -> list[str] | None:
    """Return the host names that requests may use; None, meaning any, unless `host` is the loopback."""
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    return ["localhost", "127.0.0.1", "::1", "[::1]", host] if loopback else None
