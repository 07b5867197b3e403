"""QIDO-RS: searches for studies, series and instances (PS3.18 10.6)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from fastapi import APIRouter, Depends, Request, Response

from dicom_node.dicomweb.server.objects import ObjectStore
from dicom_node.dicomweb.server.qido import match_to_json, run_search
from dicom_node.dicomweb.server.query_parameters import InvalidQuery, parse_search
from dicom_node.dicomweb.server.wado import (
    MediaRange,
)
from dicom_node.web.api.dicomweb import (
    PREFIX,
    AcceptedTypes,
    DicomWebError,
    SeriesUID,
    Store,
    StudyUID,
    json_response,
    studies_address,
)
from dicom_node.web.dependencies import Context, WebContext
from dicom_node.web.request_auth import CurrentUser, Reader, require_reader

_FUZZY_WARNING: Final = (
    "The fuzzymatching parameter is not supported. Only literal matching has been performed."
)
_IGNORED_WARNING: Final = "Parameters that this server does not support were ignored."
_MORE_WARNING: Final = "There are additional results that can be requested."

router = APIRouter(prefix=PREFIX, include_in_schema=False, dependencies=[Depends(require_reader)])


def _search(
    request: Request,
    context: WebContext,
    user: CurrentUser,
    store: ObjectStore,
    accepts: Sequence[MediaRange],
    level: str,
    **known: str,
) -> Response:
    try:
        search = parse_search(level, request.query_params.multi_items(), **known)
    except InvalidQuery as error:
        raise DicomWebError(400, str(error)) from None
    keys = "&".join(sorted({*request.query_params}))
    context.access_log.record(user.name, user.address, "dicomweb search", query=keys)
    result = run_search(context.engine, store, search)
    root = studies_address(request, context)
    shown = (
        (_FUZZY_WARNING, search.fuzzy),
        (_IGNORED_WARNING, bool(search.ignored)),
        (_MORE_WARNING, result.more),
    )
    warnings = [text for text, is_so in shown if is_so]
    return json_response([match_to_json(match, search, root) for match in result.matches], accepts, warnings)


@router.get("/studies")
def search_studies(
    request: Request, context: Context, user: Reader, store: Store, accepts: AcceptedTypes
) -> Response:
    """Search for studies."""
    return _search(request, context, user, store, accepts, "study")


@router.get("/series")
def search_series(
    request: Request, context: Context, user: Reader, store: Store, accepts: AcceptedTypes
) -> Response:
    """Search for series."""
    return _search(request, context, user, store, accepts, "series")


@router.get("/instances")
def search_instances(
    request: Request, context: Context, user: Reader, store: Store, accepts: AcceptedTypes
) -> Response:
    """Search for instances."""
    return _search(request, context, user, store, accepts, "instance")


@router.get("/studies/{study}/series")
def search_series_of_study(
    request: Request, context: Context, user: Reader, store: Store, accepts: AcceptedTypes, study: StudyUID
) -> Response:
    """Search for series of one study."""
    return _search(request, context, user, store, accepts, "series", StudyInstanceUID=study)


@router.get("/studies/{study}/instances")
def search_instances_of_study(
    request: Request, context: Context, user: Reader, store: Store, accepts: AcceptedTypes, study: StudyUID
) -> Response:
    """Search for instances of one study."""
    return _search(request, context, user, store, accepts, "instance", StudyInstanceUID=study)


@router.get("/studies/{study}/series/{series}/instances")
def search_instances_of_series(
    request: Request,
    context: Context,
    user: Reader,
    store: Store,
    accepts: AcceptedTypes,
    study: StudyUID,
    series: SeriesUID,
) -> Response:
    """Search for instances of one series."""
    known = {"StudyInstanceUID": study, "SeriesInstanceUID": series}
    return _search(request, context, user, store, accepts, "instance", **known)
