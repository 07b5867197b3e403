"""The reading room: what came in, what the models say, and what became of it.

Rendered here, without anything from another host. The pages are in :mod:`dicom_node.web.pages.routes`,
the same for scripts in :mod:`dicom_node.web.api.routes`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import asdict
from http import HTTPStatus
from importlib.metadata import version
from typing import Final
from urllib.parse import quote, urlsplit

import uvicorn
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, RedirectResponse
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

from dicom_node.config.data_dir import DataDir
from dicom_node.config.settings import Settings
from dicom_node.errors import BadInstance, ConfigurationError, NodeError
from dicom_node.runtime import readiness
from dicom_node.store import database
from dicom_node.store.analysis_records import Readings
from dicom_node.store.audit import Overview
from dicom_node.store.index import Index
from dicom_node.web.api import admin_routes, dicomweb_routes, feedback_report
from dicom_node.web.api import routes as api_routes
from dicom_node.web.api.schemas import PREFIX, Refused
from dicom_node.web.auth.access_log import Accesses
from dicom_node.web.auth.accounts import Accounts, Tries
from dicom_node.web.auth.guard import HEADERS, Guard, own_names
from dicom_node.web.dependencies import Room
from dicom_node.web.feedback import Feedback
from dicom_node.web.media.films import Films
from dicom_node.web.pages import admin, node_similar_studies, reference_films
from dicom_node.web.pages import routes as page_routes
from dicom_node.web.pages.static_files import assets
from dicom_node.web.read_models.background_job import Repeated
from dicom_node.web.read_models.event_stream import Changes
from dicom_node.web.read_models.study_headers import Catalogue
from dicom_node.web.read_models.worklist import WrongPlace
from dicom_node.web.request_auth import COOKIE, LoginNeeded, read_key
from dicom_node.web.templating import HERE, Pages

_LOG = logging.getLogger(__name__)
_STOP_SECONDS = 2
_MAX_CONNECTIONS = 256
_READ = ["GET", "HEAD"]
_SCRIPTS: Final = ("/api/", f"{dicomweb_routes.PREFIX}/")
"""Where answers are for programs."""

_REFUSALS: Final = {
    400: "The request cannot be understood.",
    401: "Log in first.",
    403: "This is not allowed, or the page is too old: load it again.",
    404: "There is no such page.",
    405: "This address does not take that.",
    409: "The study is not done yet.",
    413: "The request is too large.",
    415: "This kind of file is not taken.",
    429: "Too many tries; wait a minute.",
    503: "Too many readers; try again later.",
}


def open_room(settings: Settings) -> Room:
    """Return the reading room of a node; the schema must be current.

    Raises
    ------
    ConfigurationError
        When the database's address cannot be understood.
    StorageFailed
        When the node's key can neither be read nor made.
    """
    engine = database.connect(settings.database)
    data_dir = DataDir(settings)
    data_dir.root.mkdir(parents=True, exist_ok=True)
    key = read_key(data_dir.root / "web.key")
    catalogue = Catalogue(engine, data_dir.spool, key, named=settings.web.patient == "name")
    return Room(
        settings=settings,
        engine=engine,
        key=key,
        data_dir=data_dir,
        index=Index(engine),
        readings=Readings(engine),
        accounts=Accounts(engine),
        tries=Tries(),
        accesses=Accesses(engine),
        feedback=Feedback(engine),
        films=Films(settings.worker, data_dir.thumbnails),
        changes=Changes(engine, catalogue),
        pages=Pages(settings),
        audits=Repeated("audit", lambda: Overview(engine).audit(data_dir.spool, data_dir.results)),
    )


def create_app(settings: Settings) -> FastAPI:
    """Build the page over the index of a node; the schema must be current.

    Parameters
    ----------
    settings
        Say where the index and the files are, and which destinations there are.

    Returns
    -------
    fastapi.FastAPI
        Pages, ``/api/v1``, ``/healthz`` the process is alive, ``/readyz`` the database answers.

    Raises
    ------
    ConfigurationError, StorageFailed
        As :func:`open_room`.
    """
    room = open_room(settings)

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        room.films.warm()
        room.audits.start()
        room.changes.start(asyncio.get_running_loop())
        yield
        room.changes.stop()
        room.audits.stop()
        room.films.close()
        room.engine.dispose()

    app = FastAPI(
        title="dicom-node reading room",
        version=version("dicom-node"),
        summary="RESEARCH USE ONLY. Never for diagnosis.",
        lifespan=lifespan,
        openapi_url=f"{PREFIX}/openapi.json",
        # The generated pages about it would load scripts from other hosts.
        docs_url=None,
        redoc_url=None,
    )
    app.state.room = room
    app.include_router(api_routes.router)
    app.include_router(page_routes.router)
    app.include_router(node_similar_studies.router)
    app.include_router(reference_films.router)
    app.include_router(dicomweb_routes.router)
    app.include_router(admin_routes.router)
    app.include_router(admin.router)
    if settings.oidc.issuer is not None:
        app.include_router(_provider_routes(room))
    app.include_router(feedback_report.router)

    @app.api_route("/healthz", methods=_READ, include_in_schema=False)
    def alive() -> PlainTextResponse:
        return PlainTextResponse("alive\n")

    @app.api_route("/readyz", methods=_READ, include_in_schema=False)
    def ready() -> PlainTextResponse:
        try:
            Overview(room.engine).study_counts()
        except NodeError as error:
            _LOG.warning("not ready: %s", error)
            return PlainTextResponse("the database does not answer\n", HTTPStatus.SERVICE_UNAVAILABLE)
        return PlainTextResponse("ready\n")

    app.mount("/static", assets(HERE / "static"))
    _add_errors(app, room.pages)
    if (names := own_names(settings.web.host)) is not None:
        names += [name] if (name := urlsplit(settings.oidc.page_url or "").hostname) else []
        # Else a site that a reader visits could read the page by a name that it lets point here.
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=names, www_redirect=False)
    if settings.web.dicomweb_origins:
        app.add_middleware(dicomweb_routes.Origins, origins=settings.web.dicomweb_origins)
    app.add_middleware(Guard, settings=settings.web, cookie=COOKIE)
    return app


def _provider_routes(room: Room) -> APIRouter:
    try:
        from dicom_node.web.auth import oidc_client  # noqa: PLC0415 - need what is not always installed
        from dicom_node.web.pages import oidc_login  # noqa: PLC0415 - need what is not always installed
    except ModuleNotFoundError as error:
        raise ConfigurationError(f"oidc: {error.name} is missing; install dicom-node[oidc]") from None
    return oidc_login.routes(oidc_client.Provider(room.settings.oidc, room.key))


def _add_errors(app: FastAPI, pages: Pages) -> None:
    """Answer every error with one sentence: JSON for scripts, else a page."""

    def answer(request: Request, status: int, sentence: str) -> Response:
        if request.url.path.startswith(_SCRIPTS):
            return JSONResponse(asdict(Refused(sentence)), status)
        return pages.render("error.html", status, heading=HTTPStatus(status).phrase, sentence=sentence)

    @app.exception_handler(HTTPException)
    def refused(request: Request, error: HTTPException) -> Response:
        known = _REFUSALS.get(error.status_code, error.detail)
        sentence = error.detail if isinstance(error, dicomweb_routes.Refusal) else known
        response = answer(request, error.status_code, sentence)
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(LoginNeeded)
    def unknown(request: Request, _error: LoginNeeded) -> Response:
        if request.url.path.startswith((*_SCRIPTS, "/metrics")) or request.method == "POST":
            response = answer(request, 401, _REFUSALS[401])
            response.headers["WWW-Authenticate"] = "Bearer"
            return response
        query = f"?{request.url.query}" if request.url.query else ""
        return RedirectResponse(f"/login?next={quote(request.url.path + query)}", 303)

    @app.exception_handler(RequestValidationError)
    def misunderstood(request: Request, error: RequestValidationError) -> Response:
        mistakes = error.errors()
        if any(mistake["loc"][0] == "path" for mistake in mistakes):
            return answer(request, 404, _REFUSALS[404])
        names = ", ".join(str(mistake["loc"][-1]) for mistake in mistakes)
        return answer(request, 400, f"The request cannot be understood: see {names}.")

    @app.exception_handler(WrongPlace)
    def lost(request: Request, _error: WrongPlace) -> Response:
        return answer(request, 400, "after and before are places that a page of this list names.")

    @app.exception_handler(BadInstance)
    def not_taken(request: Request, error: BadInstance) -> Response:
        return answer(request, 415, f"{str(error)[:1].upper()}{str(error)[1:]}.")

    @app.exception_handler(NodeError)
    def unavailable(request: Request, error: NodeError) -> Response:
        _LOG.error("%s", error)
        return answer(request, 503, "The database or a file does not answer; the log says why.")

    @app.exception_handler(Exception)
    def failed(request: Request, error: Exception) -> Response:
        # By its route: the addresses of DICOMweb hold UIDs.
        route = getattr(request.scope.get("route"), "path", "a page")
        _LOG.error("%s failed: %s", route, type(error).__name__, exc_info=error)
        response = answer(request, 500, "The page could not be made; the log says why.")
        response.headers.update(HEADERS)  # this answer is made outside of the guard
        return response


class _Server(uvicorn.Server):
    """Says that it can work when it can, and ends the streams before it waits for the requests."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            readiness.ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        app = self.config.app
        if isinstance(app, FastAPI):
            app.state.room.changes.stop()
        await super().shutdown(sockets)


def run_web(settings: Settings, listen_fd: int) -> None:
    """Serve the page until SIGTERM or SIGINT: the body of a child process.

    Parameters
    ----------
    settings
        Of the node.
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
    # uvicorn raises the signal that ended it once more when it has ended: then this process is done.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    _Server(config).run([socket.socket(fileno=listen_fd)])
