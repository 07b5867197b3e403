"""HTTP server of an ASGI application in a thread."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

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
