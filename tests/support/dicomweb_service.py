"""DICOMweb service with one fixed answer."""

from __future__ import annotations

import contextlib
import json
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.support.certificates import Identity

STORED = {"00081199": {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value": ["1.2.3"]}}]}}


class DicomwebService:
    """Fixed answer of a service, and the requests that it got.

    Attributes
    ----------
    status, kind
        Status and Content-Type of every answer.
    answer
        Body of every answer, sent as JSON; None: empty.
    raw
        Body in bytes, instead of `answer`.
    found
        Body of every answer to a GET, sent with status 200; None: as for any other request.
    refused, refused_with
        Bytes in the body of requests that are answered with this status.
    headers
        Further headers of every answer.
    requests
        Method, path, headers and body of each request.
    """

    def __init__(self) -> None:
        self.status = 200
        self.answer: object = STORED
        self.kind = "application/dicom+json"
        self.raw: bytes | None = None
        self.found: object = None
        self.refused: bytes | None = None
        self.refused_with = 500
        self.headers: dict[str, str] = {}
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        self.url = ""


@contextlib.contextmanager
def running_service(identity: Identity | None = None, ca: Path | None = None) -> Iterator[DicomwebService]:
    """Run a service until the end of the block; `identity`: over TLS; `ca`: ask for client certificates."""
    told = DicomwebService()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self._answer()

        def do_GET(self) -> None:
            self._answer()

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Transfer-Encoding") == "chunked":
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
            told.requests.append((self.command, self.path, dict(self.headers), body))
            content = b"" if told.answer is None else json.dumps(told.answer).encode()
            content = told.raw if told.raw is not None else content
            asked = self.command == "GET" and told.found is not None
            if asked:
                content = json.dumps(told.found).encode()
            refused = told.refused is not None and told.refused in body
            self.send_response(200 if asked else told.refused_with if refused else told.status)
            if told.kind:
                self.send_header("Content-Type", told.kind)
            for name, value in told.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # nobody reads the rest
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if identity is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=ca)
        context.load_cert_chain(identity.certificate, identity.key)
        context.verify_mode = ssl.CERT_REQUIRED if ca else ssl.CERT_NONE
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.handle_error = lambda *_: None  # type: ignore[method-assign]
    scheme = "http" if identity is None else "https"
    told.url = f"{scheme}://127.0.0.1:{server.server_address[1]}/dicom-web"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield told
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
