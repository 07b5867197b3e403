"""HTTP server of the reading room: uvicorn on a socket that the supervisor has opened."""

from __future__ import annotations

import signal
import socket
import sys
from typing import Final

import uvicorn
from fastapi import FastAPI

from dicom_node.config.settings import Settings
from dicom_node.runtime import readiness
from dicom_node.web.app import create_app

_STOP_SECONDS: Final = 2
_MAX_CONNECTIONS: Final = 256


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
    config = uvicorn.Config(
        create_app(settings),
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=_MAX_CONNECTIONS,
        timeout_keep_alive=10,
        timeout_graceful_shutdown=_STOP_SECONDS,
        ws="none",
    )
    # After its shutdown uvicorn raises the signal again: then this process ends with status 0.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    _Server(config).run([socket.socket(fileno=listen_fd)])
