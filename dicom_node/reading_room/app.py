"""The reading room: a page that shows what came in and what became of it.

Read-only, rendered here, without anything from another host. It shows no patient data: the index holds
none, and studies go by a digest of their UID.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from http import HTTPStatus
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import uvicorn
from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from fastapi.staticfiles import StaticFiles
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

from dicom_node import logs, notify
from dicom_node.data_dir import DataDir
from dicom_node.errors import NodeError
from dicom_node.reading_room.audits import Audits
from dicom_node.reading_room.worklist import Worklist, as_json, read_worklist
from dicom_node.settings import Settings
from dicom_node.store import database
from dicom_node.store.audit import Overview
from dicom_node.store.study import ResultState, StudyState

_LOG = logging.getLogger(__name__)
_HERE = Path(__file__).parent
_STOP_SECONDS = 2
_MAX_CONNECTIONS = 64
_READ = ["GET", "HEAD"]

HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Sent with every answer."""

STUDY_WORDS: Mapping[StudyState, str] = {
    StudyState.RECEIVING: "receiving",
    StudyState.COMPLETE: "in the queue",
    StudyState.ANALYSING: "being analysed",
    StudyState.REPORTED: "reported",
    StudyState.SKIPPED: "skipped",
    StudyState.FAILED: "failed",
}
RESULT_WORDS: Mapping[ResultState, str] = {
    ResultState.ENCODED: "waiting",
    ResultState.SENT: "sent",
    ResultState.CONFIRMED: "confirmed",
    ResultState.REJECTED: "rejected",
}

_REFUSALS = {404: "There is no such page.", 405: "This page can only be read."}

_StateQuery = Annotated[StudyState | None, Query()]
_PageQuery = Annotated[int, Query(ge=1, le=1_000_000)]


def create_app(settings: Settings) -> FastAPI:
    """Build the page over the index of a node; the schema must be current.

    Parameters
    ----------
    settings
        Say where the index and the files are, and which destinations there are.

    Returns
    -------
    fastapi.FastAPI
        ``/`` worklist, ``/api/status`` the same as JSON, ``/healthz`` the process is alive, ``/readyz`` the
        database answers.

    Raises
    ------
    ConfigurationError
        When the database's address cannot be understood.
    """
    engine = database.connect(settings.database)
    data_dir = DataDir(settings)
    audits = Audits(lambda: Overview(engine).audit(data_dir.spool, data_dir.results))

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        audits.start()
        yield
        audits.stop()
        engine.dispose()

    # The generated API documents would load scripts from other hosts.
    app = FastAPI(title="dicom-node", lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None)
    pages = _Pages(settings)

    def worklist(state: StudyState | None, page: int) -> Worklist:
        return read_worklist(engine, settings.destinations, state=state, page=page)

    @app.api_route("/", methods=_READ)
    def show(state: _StateQuery = None, page: _PageQuery = 1) -> HTMLResponse:
        return pages.render("worklist.html", worklist=worklist(state, page), finished=audits.latest)

    @app.api_route("/api/status", methods=_READ)
    def status(state: _StateQuery = None, page: _PageQuery = 1) -> JSONResponse:
        finished = audits.latest
        return JSONResponse(as_json(worklist(state, page), finished.audit if finished else None))

    @app.api_route("/healthz", methods=_READ)
    def alive() -> PlainTextResponse:
        return PlainTextResponse("alive\n")

    @app.api_route("/readyz", methods=_READ)
    def ready() -> PlainTextResponse:
        try:
            Overview(engine).study_counts()
        except NodeError as error:
            _LOG.warning("not ready: %s", error)
            return PlainTextResponse("the database does not answer\n", HTTPStatus.SERVICE_UNAVAILABLE)
        return PlainTextResponse("ready\n")

    app.mount("/static", StaticFiles(directory=_HERE / "static"))
    _add_errors(app, pages)
    _add_guards(app, settings.web.host)
    return app


class _Pages:
    """Templates, with everything escaped that is not said to be HTML."""

    def __init__(self, settings: Settings) -> None:
        self._environment = Environment(
            loader=FileSystemLoader(_HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters |= {"short": logs.short, "utc": _utc, "iso": _iso, "age": _age}
        self._environment.globals |= {
            "ae_title": settings.dicom.ae_title,
            "version": version("dicom-node"),
            "study_words": STUDY_WORDS,
            "result_words": RESULT_WORDS,
        }

    def render(self, template: str, status: int = HTTPStatus.OK, **values: object) -> HTMLResponse:
        content = self._environment.get_template(template).render(now=time.time(), **values)
        return HTMLResponse(content, status)


def _add_errors(app: FastAPI, pages: _Pages) -> None:
    """Answer every error with one sentence: JSON below ``/api``, else a page."""

    def answer(request: Request, status: int, sentence: str) -> Response:
        if request.url.path.startswith("/api/"):
            return JSONResponse({"error": sentence}, status)
        return pages.render("error.html", status, heading=HTTPStatus(status).phrase, sentence=sentence)

    @app.exception_handler(HTTPException)
    def refused(request: Request, error: HTTPException) -> Response:
        sentence = _REFUSALS.get(error.status_code, "The request cannot be answered.")
        response = answer(request, error.status_code, sentence)
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(RequestValidationError)
    def misunderstood(request: Request, _error: RequestValidationError) -> Response:
        states = ", ".join(StudyState)
        return answer(request, 400, f"state is one of {states}; page is a number from 1.")

    @app.exception_handler(NodeError)
    def unavailable(request: Request, error: NodeError) -> Response:
        _LOG.error("%s", error)
        return answer(request, 503, "The database does not answer; the log says why.")

    @app.exception_handler(Exception)
    def failed(request: Request, error: Exception) -> Response:
        _LOG.error("%s failed: %s", request.url.path, type(error).__name__, exc_info=error)
        response = answer(request, 500, "The page could not be made; the log says why.")
        response.headers.update(HEADERS)  # this answer is made outside of the guard
        return response


def _add_guards(app: FastAPI, host: str) -> None:
    """Send the headers with every answer, and take requests that name this host only."""
    if (names := _own_names(host)) is not None:
        # Else a site that a reader visits could read the page by a name that it lets point here.
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=names, www_redirect=False)

    @app.middleware("http")
    async def guard(request: Request, call: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await call(request)
        response.headers.update(HEADERS)
        return response


def _own_names(host: str) -> list[str] | None:
    """Return the names that a request may call a server on `host`; None when other machines may name it."""
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    return ["localhost", "127.0.0.1", "::1", "[::1]", host] if loopback else None


def _utc(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds))


def _iso(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _age(seconds: float) -> str:
    """Write a duration with its two largest units."""
    rest = max(0, int(seconds))
    parts: list[str] = []
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, rest = divmod(rest, length)
        if count or (unit == "s" and not parts):
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])


class _Server(uvicorn.Server):
    """Says that it can work when it can."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            notify.ready()


def run_web(settings: Settings, listen_fd: int) -> None:
    """Serve the page until SIGTERM or SIGINT: the body of a child process.

    Parameters
    ----------
    settings
        Of the node.
    listen_fd
        Descriptor of a listening socket, from :func:`dicom_node.network.transport.bind`.
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
    # uvicorn raises the signal that ended it once more when it has ended: then this process is done.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    _Server(config).run([socket.socket(fileno=listen_fd)])
