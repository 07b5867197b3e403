"""Error responses: one sentence for each error, as JSON for programs and as a page for browsers."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from http import HTTPStatus
from typing import Final
from urllib.parse import quote

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from dicom_node.errors import BadInstance, IndexDamaged, NodeError
from dicom_node.web.api import dicomweb
from dicom_node.web.api.schemas import Refused
from dicom_node.web.auth.security_middleware import SECURITY_HEADERS
from dicom_node.web.blinding import Blinded
from dicom_node.web.dependencies import WebContext
from dicom_node.web.media.lanes import Busy
from dicom_node.web.read_models.worklist import InvalidCursor
from dicom_node.web.request_auth import LoginRequired, client_address, current_user
from dicom_node.web.templating import PageRenderer

_LOG = logging.getLogger(__name__)
_JSON_PATHS: Final = ("/api/", f"{dicomweb.PREFIX}/")
"""Paths whose clients are programs: their errors are JSON."""

_SENTENCES: Final = {
    400: "The request is not valid.",
    401: "Log in first.",
    403: "This is not allowed, or the page is out of date: reload it.",
    404: "There is no such page.",
    405: "This address does not support this method.",
    409: "The study is still being processed.",
    410: "The file is lost; see the log and the audit.",
    413: "The request is too large.",
    415: "This type of file is not accepted.",
    429: "Too many attempts; wait a minute.",
    503: "Too many readers; try again later.",
}


_INDEX_DAMAGED: Final = (
    "The index of the node was deleted, replaced or damaged while it ran; no film is taken. Stop the node, "
    "and bring the index back from a backup or make it anew with `dicom-node rebuild`."
)


def add_error_handlers(app: FastAPI, renderer: PageRenderer) -> None:
    """Register a handler for every error that a route can raise."""
    answer = partial(_answer, renderer)
    _add_node_errors(app, answer)

    @app.exception_handler(HTTPException)
    def http_error(request: Request, error: HTTPException) -> Response:
        if error.status_code == 403:
            _record_refusal(request)
        sentence = _SENTENCES.get(error.status_code, error.detail)
        own = error.detail != HTTPStatus(error.status_code).phrase
        told = own and error.status_code in (HTTPStatus.CONFLICT, HTTPStatus.GONE)
        if told or isinstance(error, dicomweb.DicomWebError | Blinded):
            sentence = error.detail
        response = answer(request, error.status_code, sentence)
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(LoginRequired)
    def login_required(request: Request, _error: LoginRequired) -> Response:
        if request.url.path.startswith((*_JSON_PATHS, "/metrics")) or request.method == "POST":
            _record_refusal(request)
            response = answer(request, 401, _SENTENCES[401])
            response.headers["WWW-Authenticate"] = "Bearer"
            return response
        query = f"?{request.url.query}" if request.url.query else ""
        return RedirectResponse(f"/login?next={quote(request.url.path + query)}", 303)

    @app.exception_handler(RequestValidationError)
    def invalid_request(request: Request, error: RequestValidationError) -> Response:
        mistakes = error.errors()
        if any(mistake["loc"][0] == "path" for mistake in mistakes):
            return answer(request, 404, _SENTENCES[404])
        names = ", ".join(str(mistake["loc"][-1]) for mistake in mistakes)
        return answer(request, 400, f"The request is not valid: check {names}.")

    @app.exception_handler(InvalidCursor)
    def invalid_cursor(request: Request, _error: InvalidCursor) -> Response:
        return answer(request, 400, "after and before must be taken from another page of this list.")

    @app.exception_handler(ClientDisconnect)
    def client_left(_request: Request, _error: ClientDisconnect) -> Response:
        return Response(status_code=400)  # nobody reads it

    # Broad, because an error in the program must not reach the client as a traceback.
    @app.exception_handler(Exception)
    def unexpected_error(request: Request, error: Exception) -> Response:
        # The log names the route and not the address: addresses of DICOMweb contain UIDs.
        route = getattr(request.scope.get("route"), "path", "a page")
        _LOG.error("%s failed: %s", route, type(error).__name__, exc_info=error)
        response = answer(request, 500, "The page could not be made; see the log for the reason.")
        response.headers.update(SECURITY_HEADERS)  # this response does not pass the middleware
        return response


def _add_node_errors(app: FastAPI, answer: Callable[[Request, int, str], Response]) -> None:
    @app.exception_handler(BadInstance)
    def bad_instance(request: Request, error: BadInstance) -> Response:
        return answer(request, 415, f"{str(error)[:1].upper()}{str(error)[1:]}.")

    @app.exception_handler(IndexDamaged)
    def index_damaged(request: Request, error: IndexDamaged) -> Response:
        _LOG.error("%s", error)
        return answer(request, 503, _INDEX_DAMAGED)

    @app.exception_handler(Busy)
    def busy(request: Request, error: Busy) -> Response:
        response = answer(request, 503, f"{str(error)[:1].upper()}{str(error)[1:]}.")
        response.headers["Retry-After"] = "5"
        return response

    @app.exception_handler(NodeError)
    def node_error(request: Request, error: NodeError) -> Response:
        _LOG.error("%s", error)
        return answer(request, 503, "The database or a file cannot be read; see the log for the reason.")


def _record_refusal(request: Request) -> None:
    """Record who was refused what in the audit trail; addresses of DICOMweb contain UIDs, routes do not."""
    context: WebContext = request.app.state.context
    user = current_user(request, context)
    route = getattr(request.scope.get("route"), "path", "a page")
    context.access_log.record_refusal(
        user.name if user else "(nobody)", client_address(request), f"{request.method} {route}"
    )


def _answer(renderer: PageRenderer, request: Request, status: int, sentence: str) -> Response:
    if request.url.path.startswith(_JSON_PATHS):
        return JSONResponse(asdict(Refused(sentence)), status)
    return renderer.render("error.html", status, heading=HTTPStatus(status).phrase, sentence=sentence)
