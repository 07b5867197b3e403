"""ASGI application of the reading room: pages, REST API, DICOMweb and health checks over one node.

It loads nothing from other hosts. :mod:`dicom_node.web.server` serves it.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from http import HTTPStatus
from importlib.metadata import version
from typing import Final
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, FastAPI
from fastapi.responses import PlainTextResponse
from starlette.routing import BaseRoute

from dicom_node.audit_trail.trail import AuditTrail
from dicom_node.config.data_dir import DataDir
from dicom_node.config.settings import Settings
from dicom_node.errors import ConfigurationError, IndexDamaged, NodeError
from dicom_node.store import database
from dicom_node.store.audit import IndexQueries
from dicom_node.store.index import Index
from dicom_node.store.reserve import Reserve
from dicom_node.store.secret_key import read_secret_key
from dicom_node.web.api import (
    admin_routes,
    bulk_routes,
    case_box_routes,
    dicomweb,
    feedback_routes,
    filter_routes,
    node_routes,
    note_routes,
    qido_routes,
    reader_study_routes,
    reference_films,
    rendered_routes,
    similar_studies,
    study_routes,
    token_routes,
    upload_routes,
    wado_routes,
)
from dicom_node.web.auth.access_log import AccessLog
from dicom_node.web.auth.accounts import Accounts, LoginThrottle
from dicom_node.web.auth.proxies import ReaderAddress
from dicom_node.web.auth.security_middleware import AllowedHosts, SecurityMiddleware, allowed_hosts
from dicom_node.web.background.event_stream import EventStream
from dicom_node.web.background.periodic_task import PeriodicTask
from dicom_node.web.blinding import check_blinding
from dicom_node.web.dependencies import WebContext
from dicom_node.web.error_handlers import add_error_handlers
from dicom_node.web.feedback import Feedback
from dicom_node.web.media.films import FilmDecoder
from dicom_node.web.notes import Notes
from dicom_node.web.pages import admin, bulk_actions, login, node_pages, reader_studies, study_pages, tokens
from dicom_node.web.pages.static_files import assets
from dicom_node.web.read_models.score_drift import DriftWatch
from dicom_node.web.read_models.study_headers import StudyHeaders
from dicom_node.web.saved_filters import SavedFilters
from dicom_node.web.templating import WEB_DIR, PageRenderer

_LOG = logging.getLogger(__name__)
_READ: Final = ["GET", "HEAD"]
_READY_SECONDS: Final = 10.0
_DRIFT_SECONDS: Final = 900.0
_ROUTERS: Final = (
    study_routes.router,
    feedback_routes.router,
    note_routes.router,
    bulk_routes.router,
    filter_routes.router,
    upload_routes.router,
    node_routes.router,
    similar_studies.router,
    reference_films.router,
    admin_routes.router,
    token_routes.router,
    qido_routes.router,
    wado_routes.router,
    rendered_routes.router,
    reader_study_routes.router,
    case_box_routes.router,
    study_pages.router,
    reader_studies.router,
    node_pages.router,
    login.router,
    admin.router,
    bulk_actions.router,
    tokens.router,
)


def create_app(settings: Settings) -> FastAPI:
    """Build the application over the index of a node, whose database schema must be current.

    Parameters
    ----------
    settings
        Settings of the node.

    Returns
    -------
    fastapi.FastAPI
        Pages, ``/api/v1``, ``/dicom-web``, ``/metrics``; ``/healthz``: the process is alive, ``/readyz``: the
        database answers.

    Raises
    ------
    ConfigurationError, StorageFailed
        As :func:`open_context`.
    """
    context = open_context(settings)
    app = FastAPI(
        title="dicom-node reading room",
        version=version("dicom-node"),
        summary="RESEARCH USE ONLY. Never for diagnosis.",
        lifespan=_lifespan(context),
        # dicom_node.web.api.node_routes describes the API, to readers who have logged in. The generated pages
        # would load scripts from other hosts.
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
    )
    app.state.context = context
    app.router.routes.extend(_blinded_routes())
    if settings.oidc.issuer is not None:
        app.include_router(_oidc_router(context))
    app.include_router(_health_checks(context))
    app.mount("/static", assets(WEB_DIR / "static"))
    add_error_handlers(app, context.page_renderer)
    _add_middleware(app, settings)
    return app


@functools.cache
def _blinded_routes() -> tuple[BaseRoute, ...]:
    """Return the routes of all applications, which FastAPI resolves at their first request, in half a second.

    They know no application: each handler asks its request for the one that it came to.
    """
    blinded = APIRouter()
    for router in _ROUTERS:
        blinded.include_router(router, dependencies=[Depends(check_blinding)])
    return tuple(blinded.routes)


def open_context(settings: Settings) -> WebContext:
    """Connect to the database and build everything that the routes use.

    Raises
    ------
    ConfigurationError
        When the database address is not valid.
    StorageFailed
        When the node's key can neither be read nor created.
    """
    engine = database.connect(settings.database, create=False)
    data_dir = DataDir(settings)
    data_dir.root.mkdir(parents=True, exist_ok=True)
    key = read_secret_key(data_dir.secret_key)
    audit_trail = AuditTrail.open(settings, engine)
    study_headers = StudyHeaders(engine, data_dir.spool, key, named=settings.web.patient == "name")
    return WebContext(
        settings=settings,
        engine=engine,
        key=key,
        data_dir=data_dir,
        index=Index(engine),
        reserve=Reserve(engine, data_dir.spool),
        accounts=Accounts(engine),
        login_throttle=LoginThrottle(),
        access_log=AccessLog(engine, trail=audit_trail),
        audit_trail=audit_trail,
        feedback=Feedback(engine),
        notes=Notes(engine),
        saved_filters=SavedFilters(engine),
        film_decoder=FilmDecoder(settings.worker, settings.web, data_dir.thumbnails),
        event_stream=EventStream(engine, study_headers),
        page_renderer=PageRenderer(settings),
        uploads=asyncio.Semaphore(settings.web.uploads),
        audit_task=PeriodicTask(
            "audit", lambda: IndexQueries(engine).audit(data_dir.spool, data_dir.results)
        ),
        drift_task=PeriodicTask("drift of scores", DriftWatch(engine).run, seconds=_DRIFT_SECONDS),
    )


def _lifespan(context: WebContext) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """Start the background threads with the application, and stop them with it."""

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        context.film_decoder.warm()
        context.audit_task.start()
        context.drift_task.start()
        context.event_stream.start(asyncio.get_running_loop())
        yield
        context.event_stream.stop()
        context.audit_task.stop()
        context.drift_task.stop()
        context.film_decoder.close()
        context.audit_trail.close()
        context.engine.dispose()

    return lifespan


def _oidc_router(context: WebContext) -> APIRouter:
    try:
        from dicom_node.web.auth import oidc_client  # noqa: PLC0415 - an optional dependency
        from dicom_node.web.pages import oidc_login  # noqa: PLC0415 - an optional dependency
    except ModuleNotFoundError as error:
        raise ConfigurationError(f"oidc: log-in at a provider needs {error.name}") from error
    return oidc_login.routes(oidc_client.OidcClient(context.settings.oidc, context.key))


def _health_checks(context: WebContext) -> APIRouter:
    """Return the routes of those who watch the node; they never wait for the threads of other requests."""
    router = APIRouter(include_in_schema=False)

    @router.api_route("/healthz", methods=_READ)
    async def alive() -> PlainTextResponse:
        return PlainTextResponse("alive\n")

    @router.api_route("/readyz", methods=_READ)
    async def ready() -> PlainTextResponse:
        try:
            # In a thread of asyncio: those of Starlette may all be busy with requests.
            await asyncio.wait_for(
                asyncio.to_thread(IndexQueries(context.engine).study_counts), _READY_SECONDS
            )
        except IndexDamaged as error:
            _LOG.error("not ready: %s", error)
            return PlainTextResponse("the index is damaged or lost\n", HTTPStatus.SERVICE_UNAVAILABLE)
        except (NodeError, TimeoutError) as error:
            _LOG.warning("not ready: %s", error)
            return PlainTextResponse("the database does not answer\n", HTTPStatus.SERVICE_UNAVAILABLE)
        return PlainTextResponse("ready\n")

    return router


def _add_middleware(app: FastAPI, settings: Settings) -> None:
    """Add the middleware; the one that is added last sees a request first."""
    if (names := allowed_hosts(settings.web.host)) is not None:
        names += [name] if (name := urlsplit(settings.oidc.page_url or "").hostname) else []
        app.add_middleware(AllowedHosts, names=names)
    if settings.web.dicomweb_origins:
        app.add_middleware(dicomweb.DicomWebCors, origins=settings.web.dicomweb_origins)
    app.add_middleware(SecurityMiddleware, settings=settings.web)
    app.add_middleware(ReaderAddress, proxies=settings.web.trusted_proxies)
