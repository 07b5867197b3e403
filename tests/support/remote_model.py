"""Remote models for tests: the reference server as a process, and servers that answer as they should not."""

from __future__ import annotations

import contextlib
import http.server
import json
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.certificates import Identity
from tests.support.peers import free_port

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "docs" / "examples" / "remote_model_server.py"
CONTRACT = ROOT / "docs" / "remote-model.openapi.yaml"

MODEL: dict[str, Any] = {
    "contract": 1,
    "name": "our-chest",
    "version": "1.2.3",
    "digest": "ab" * 32,
    "labels": [
        {"label": "cardiomegaly", "threshold": 0.5, "calibrated": True},
        {"label": "Nodule", "threshold": 0.3, "calibrated": False},
    ],
    "inputs": {"films": "array", "most_films": 4, "text": "none"},
    "maps": False,
}


@dataclass
class Answer:
    """Answer of a scripted model: status, header fields and pieces of the body."""

    pieces: Any = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})


def prediction(films: int = 1, **changed: Any) -> dict[str, Any]:
    """Right answer of :data:`MODEL`, with some entries changed."""
    rows = [{"id": str(place), "scores": [0.75, 0.25]} for place in range(1, films + 1)]
    said = {entry: MODEL[entry] for entry in ("contract", "name", "version", "digest")}
    return {**said, "labels": ["cardiomegaly", "Nodule"], "films": rows, **changed}


def as_json(table: Any) -> Answer:
    return Answer(json.dumps(table).encode())


@dataclass
class ScriptedModel:
    """Server that answers each path by a function; it keeps what it was asked."""

    url: str
    asked: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)


@contextlib.contextmanager
def scripted(
    predict: Callable[[int], Answer] = lambda _count: as_json(prediction()),
    *,
    model: Callable[[int], Answer] = lambda _count: as_json(MODEL),
    health: Callable[[int], Answer] = lambda _count: as_json({"status": "ok"}),
    tls: Identity | None = None,
) -> Iterator[ScriptedModel]:
    """Run a scripted model; each function gets the number of times that its path was asked before."""
    functions = {"/v1/model": model, "/v1/predict": predict, "/v1/health": health}
    counts = dict.fromkeys(functions, 0)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            running.asked.append((self.command, self.path, dict(self.headers), body))
            count = counts[self.path]
            counts[self.path] += 1
            answer = functions[self.path](count)
            with contextlib.suppress(OSError):
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                if isinstance(answer.pieces, bytes):
                    self.send_header("Content-Length", str(len(answer.pieces)))
                self.end_headers()
                for piece in [answer.pieces] if isinstance(answer.pieces, bytes) else answer.pieces():
                    self.wfile.write(piece)

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, *_: object) -> None:
            pass  # a client that does not trust the certificate ends the handshake

    with Server(("127.0.0.1", 0), Handler) as server:
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls.certificate, tls.key)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        running = ScriptedModel(f"http{'' if tls is None else 's'}://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield running
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def reference_server(port: int = 0) -> Iterator[str]:
    """Run the reference server as a process, on a free port if none is given; yield its address."""
    port = port or free_port()
    with subprocess.Popen([sys.executable, str(REFERENCE), str(port)], stderr=subprocess.DEVNULL) as process:
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(10)
