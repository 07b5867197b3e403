"""Proxies before the page: whose word on the reader's address counts, and what shows that one is there."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Any, Final

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from dicom_node.config.addresses import is_within

_FORWARDED: Final = frozenset(
    {
        "forwarded", "via", "x-real-ip", "x-client-ip", "x-cluster-client-ip", "x-remote-ip", "x-remote-addr",
        "x-originating-ip", "x-original-host", "x-original-url", "x-original-forwarded-for", "x-host",
        "x-envoy-external-address", "x-proxyuser-ip", "true-client-ip", "cf-connecting-ip", "cf-ray",
        "fastly-client-ip", "x-amzn-trace-id", "x-azure-clientip",
    }
)  # fmt: skip
"""Headers that proxies add to a request, beside all that begin with ``X-Forwarded``."""


def is_forwarded(request: HTTPConnection) -> bool:
    """Return whether a request shows signs of a proxy: anybody may have sent it, and not from this machine.

    HTTP/1.0 is one: no browser speaks it, and some proxies do unless told otherwise.
    """
    named = any(name.startswith("x-forwarded") or name in _FORWARDED for name in request.headers)
    return named or request.scope.get("http_version") == "1.0"


class ReaderAddress:
    """ASGI middleware that finds the reader's own address behind trusted proxies.

    It is the first address of X-Forwarded-For, read from the right, that is no trusted proxy's. From anybody
    else the header says nothing.

    Parameters
    ----------
    app
        Application behind it.
    proxies
        Addresses and networks of trusted proxies.
    """

    def __init__(self, app: ASGIApp, proxies: Sequence[str]) -> None:
        self._app = app
        self._proxies = proxies
        self._forwarded = ProxyHeadersMiddleware(self._checked, [*proxies])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or not scope.get("client"):
            await self._app(scope, receive, send)
            return
        peer = (_plain(scope["client"][0]), *scope["client"][1:])
        scope = {**scope, "client": peer, "dicom_node.peer": peer}
        await self._forwarded(scope, receive, send)  # type: ignore[arg-type]

    async def _checked(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass a request on, with the address of the proxy where the header names no address at all."""
        address = _plain(scope["client"][0])
        try:
            ipaddress.ip_address(address)
        except ValueError:
            scope["client"] = scope["dicom_node.peer"]
        else:
            scope["client"] = (address, *scope["client"][1:])
        scope["state"] = {**scope.get("state", {}), "shared": is_within(scope["client"][0], self._proxies)}
        await self._app(scope, receive, send)


def _plain(address: str) -> str:
    """Return an IPv4 address that is written as IPv6 (``::ffff:192.0.2.7``) in its own form."""
    try:
        mapped = getattr(ipaddress.ip_address(address), "ipv4_mapped", None)
    except ValueError:
        return address
    return str(mapped or address)
