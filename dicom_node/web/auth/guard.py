"""What stands between the network and the pages: headers, limits, the names of this host.

Plain ASGI, so that streams pass as they are.
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

HEADERS: Mapping[str, str] = {
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
"""Sent with every answer, unless it says otherwise itself."""

UPLOADS: Final = frozenset({"/api/v1/instances", "/api/v1/trials"})
"""Where whole files may be sent."""
MOST_BYTES: Final = 64 * 1024
"""Of any other request."""


class Guard:
    """Sends the headers with every answer, and refuses too many or too large requests.

    Parameters
    ----------
    app
        That answers.
    settings
        Of the page.
    cookie
        Name of the cookie that a page may have set aside in the request's state.
    """

    def __init__(self, app: ASGIApp, settings: WebSettings, cookie: str) -> None:
        self._app = app
        self._settings = settings
        self._cookie = cookie
        self._limiter = FixedWindowRateLimiter(MemoryStorage())
        self._limit = RateLimitItemPerMinute(settings.requests_per_minute)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state: MutableMapping[str, Any] = scope.setdefault("state", {})

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if self._settings.https:
                    headers["Strict-Transport-Security"] = "max-age=31536000"
                if (held := state.get("cookie")) is not None:
                    headers.append("Set-Cookie", self._set(held))
            await send(message)

        address = scope["client"][0] if scope.get("client") else ""
        if not self._limiter.hit(self._limit, address):
            status = HTTPStatus.TOO_MANY_REQUESTS
            refusal = PlainTextResponse("too many requests; wait a minute\n", status, {"Retry-After": "60"})
            await refusal(scope, receive, sending)
            return
        most = self._settings.upload_bytes if scope["path"] in UPLOADS else MOST_BYTES
        await self._app(scope, _limited(receive, most), sending)

    def _set(self, value: str) -> str:
        secure = "; Secure" if self._settings.https else ""
        return f"{self._cookie}={value}; Path=/; HttpOnly; SameSite=Lax{secure}"


def _limited(receive: Receive, most: int) -> Receive:
    """Refuse a body beyond so many bytes while it comes."""
    got = 0

    async def limited() -> Message:
        nonlocal got
        message = await receive()
        got += len(message.get("body", b""))
        if got > most:
            raise HTTPException(413)
        return message

    return limited


def own_names(host: str) -> list[str] | None:
    """Return the names that a request may call a server on `host`; None when other machines may name it."""
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    return ["localhost", "127.0.0.1", "::1", "[::1]", host] if loopback else None
