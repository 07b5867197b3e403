"""HTTP server of one folder: with or without byte ranges, and with connections that break."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class FileServer:
    """Behaviour of the server, and the requests that it got.

    Attributes
    ----------
    cuts
        Number of bytes after which each of the next answers breaks off.
    refusals
        Error statuses of the next answers.
    moved
        New paths by the old ones, to which the server redirects.
    asked
        Path and Range header of each request.
    """

    folder: Path
    url: str = ""
    ranges: bool = True
    lengths: bool = True
    content_type: str = "application/octet-stream"
    cuts: list[int] = field(default_factory=list)
    refusals: list[int] = field(default_factory=list)
    moved: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[FileServer]:
    """Serve a folder until the end of the block."""
    web = FileServer(folder)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range", "")
            web.asked.append((self.path, asked))
            if self.path in web.moved:
                self.send_response(302)
                self.send_header("Location", web.moved[self.path])
                self.end_headers()
                return
            path = web.folder / self.path.lstrip("/")
            if web.refusals:
                self.send_error(web.refusals.pop(0))
                return
            if not path.is_file():
                self.send_error(404)
                return
            whole = path.read_bytes()
            start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and web.ranges else 0
            if start >= len(whole) > 0:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(whole)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206 if asked and web.ranges else 200)
            if asked and web.ranges:
                self.send_header("Content-Range", f"bytes {start}-{len(whole) - 1}/{len(whole)}")
            if web.lengths:
                self.send_header("Content-Length", str(len(whole) - start))
            self.send_header("Content-Type", web.content_type)
            self.end_headers()
            cut = web.cuts.pop(0) if web.cuts else len(whole)
            with contextlib.suppress(ConnectionError):  # who reads the headers alone hangs up
                self.wfile.write(whole[start : start + cut])

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the class names it
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    web.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield web
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
