"""HTTP server of the reading room: uvicorn on a socket that the supervisor has opened."""

from __future__ import annotations

import signal
import socket
import sys
from functools import partial
from typing import Final

import uvicorn
from fastapi import FastAPI

from dicom_node.config.settings import Settings
from dicom_node.config.web import WebSettings
from dicom_node.runtime import readiness
from dicom_node.web.app import create_app
from dicom_node.web.connections import KEEP_ALIVE_SECONDS, ConnectionLimits, LimitedProtocol

_STOP_SECONDS: Final = 2
_HEADER_BYTES: Final = 32 * 1024
"""Largest request line with its headers."""


class _Server(uvicorn.Server):
    """Server that reports when it is ready, and that ends the event streams before it waits for requests."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            readiness.notify_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        app = self.config.app
        if isinstance(app, FastAPI):
            app.state.context.event_stream.stop()
        await super().shutdown(sockets)


def run_web(settings: Settings, listen_fd: int) -> None:
    """Serve the reading room until SIGTERM or SIGINT: the body of a child process.

    Parameters
    ----------
    settings
        Settings of the node.
    listen_fd
        Descriptor of a listening socket, from :func:`dicom_node.dimse.transport.bind`.
    """
    config = server_config(create_app(settings), settings.web)
    # After its shutdown uvicorn raises the signal again: then this process ends with status 0.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    _Server(config).run([socket.socket(fileno=listen_fd)])


def server_config(app: FastAPI, settings: WebSettings) -> uvicorn.Config:
    """Return how uvicorn serves the page: with limits, and without a word of its own."""
    limits = ConnectionLimits(
        most=settings.connections,
        most_per_address=settings.connections_per_address,
        proxies=settings.trusted_proxies,
        request_seconds=settings.request_seconds,
    )
    return uvicorn.Config(
        app,
        http=partial(LimitedProtocol, limits=limits),  # type: ignore[arg-type]
        h11_max_incomplete_event_size=_HEADER_BYTES,
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,  # dicom_node.web.auth.proxies reads them
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_STOP_SECONDS,
        ws="none",
    )
