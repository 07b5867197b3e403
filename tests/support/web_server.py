"""HTTP server of an ASGI application in a thread."""

from __future__ import annotations

import contextlib
import http.client
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import uvicorn

from dicom_node.dimse.transport import bind
from tests.support.peers import until


@contextlib.contextmanager
def served(app: Any, port: int = 0) -> Iterator[str]:
    """Serve an application until the end of the block; yields its address without a final slash."""
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False))
    listening = bind("127.0.0.1", port)
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    try:
        until(lambda: server.started, 20, "uvicorn listening")
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        if context := getattr(app.state, "context", None):
            context.event_stream.stop()
        server.should_exit = True
        thread.join(20)
        listening.close()


def timed(address: str) -> tuple[int, float]:
    """Status of an answer over a new connection, and the seconds until all of it was there."""
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    began = time.monotonic()
    with contextlib.closing(connection):
        connection.request("GET", parts.path)
        answer = connection.getresponse()
        answer.read()
    return answer.status, time.monotonic() - began
