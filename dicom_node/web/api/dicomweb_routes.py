"""DICOMweb, read only: QIDO-RS and WADO-RS for the node's results and the received films.

DICOM objects contain the name of the patient in many places, so these routes answer only where the pages show
names too (``web.patient = "name"``). They are not in the OpenAPI description, since PS3.18 describes them.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, Final

import numpy as np
from fastapi import APIRouter, Depends, HTTPException, Path, Request, Response
from fastapi.responses import StreamingResponse
from PIL import Image
from pydicom.uid import ExplicitVRLittleEndian
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from dicom_node.dicomweb.server.objects import ObjectStore, StoredObject, read_metadata
from dicom_node.dicomweb.server.qido import InvalidQuery, match_to_json, parse_search, run_search
from dicom_node.dicomweb.server.rendered import (
    PICTURE_TYPES,
    WITHOUT_PIXELS,
    InvalidRendering,
    RenderingParameters,
    choose_media_type,
    encode_picture,
    parse_rendering,
)
from dicom_node.dicomweb.server.wado import (
    BYTES,
    DICOM,
    DICOM_JSON,
    PDF,
    MediaRange,
    Part,
    PartNotFound,
    accepts_file,
    accepts_single_part,
    frame_media_type,
    multipart,
    parse_accept,
    read_bulk,
    read_frames,
    transfer_syntax_of,
)
from dicom_node.errors import NotAnalysable
from dicom_node.imaging.rendering import RenderedFrame
from dicom_node.imaging.transfer_syntaxes import ENCAPSULATED
from dicom_node.web.dependencies import Context, WebContext
from dicom_node.web.media.films import THUMBNAIL_SIDE, FilmDecoder
from dicom_node.web.request_auth import CurrentUser, Reader, require_reader

PREFIX: Final = "/dicom-web"
_FUZZY_WARNING: Final = (
    "The fuzzymatching parameter is not supported. Only literal matching has been performed."
)
_MORE_WARNING: Final = "There are additional results that can be requested."
_MAX_FRAMES: Final = 100


class DicomWebError(HTTPException):
    """HTTP error of a DICOMweb route; its detail is the reason in one sentence."""


def object_store(context: Context, _user: Reader) -> ObjectStore:
    """Return the objects that a logged-in user may read.

    Raises
    ------
    DicomWebError
        403 where patients are shown by pseudonyms.
    """
    if context.settings.web.patient != "name":
        raise DicomWebError(
            403,
            'DICOM objects contain patient names: DICOMweb needs web.patient = "name".',
        )
    return ObjectStore(context.engine, context.data_dir, films=context.settings.web.dicomweb_films)


def accepted_types(request: Request) -> list[MediaRange]:
    """Return the accepted media types, from the query or else from the Accept header (PS3.18 8.3.3.1)."""
    return parse_accept(request.query_params.get("accept") or request.headers.get("Accept", ""))


router = APIRouter(prefix=PREFIX, include_in_schema=False, dependencies=[Depends(require_reader)])

Store = Annotated[ObjectStore, Depends(object_store)]
AcceptedTypes = Annotated[list[MediaRange], Depends(accepted_types)]
_UID: Final = r"^[0-9.]{1,64}$"
StudyUID = Annotated[str, Path(pattern=_UID)]
SeriesUID = Annotated[str, Path(pattern=_UID)]


def _root(request: Request, context: WebContext) -> str:
    """Return the address of the ``/studies`` resource, with the host name that the client uses."""
    scheme = "https" if context.settings.web.https else request.url.scheme
    return f"{scheme}://{request.url.netloc}{PREFIX}/studies"


def _json(content: Any, accepts: Sequence[MediaRange], warnings: Sequence[str] = ()) -> Response:
    if not accepts_single_part(accepts, DICOM_JSON, "application/json"):
        raise DicomWebError(406, f"The response is {DICOM_JSON}.")
    headers = {"Warning": ", ".join(f'299 dicom-node "{text}"' for text in warnings)} if warnings else {}
    return Response(json.dumps(content, allow_nan=False), media_type=DICOM_JSON, headers=headers)


# -- QIDO-RS


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
    context.access_log.record(user.name, user.address, "dicomweb search")
    result = run_search(context.engine, store, search)
    root = _root(request, context)
    warnings = [
        text for text, shown in ((_FUZZY_WARNING, search.fuzzy), (_MORE_WARNING, result.more)) if shown
    ]
    return _json([match_to_json(match, search, root) for match in result.matches], accepts, warnings)


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


# -- WADO-RS


def requested_objects(request: Request, context: Context, user: Reader, store: Store) -> list[StoredObject]:
    """Return the objects that a path names, and record the access.

    Raises
    ------
    HTTPException
        404 when there are none.
    """
    uids = [request.path_params.get(name, "") for name in ("study", "series", "instance")]
    held = store.find(*uids) if all(re.fullmatch(_UID, uid) for uid in uids if uid) else []
    if not held:
        raise HTTPException(404)
    context.access_log.record(user.name, user.address, "dicomweb", held[0].study_id)
    return held


RequestedObjects = Annotated[list[StoredObject], Depends(requested_objects)]
_SERIES: Final = "/studies/{study}/series/{series}"
_INSTANCE: Final = _SERIES + "/instances/{instance}"


@router.get("/studies/{study}")
@router.get(_SERIES)
@router.get(_INSTANCE)
def retrieve_objects(objects: RequestedObjects, accepts: AcceptedTypes) -> Response:
    """Return whole objects, each in the transfer syntax of its file."""
    files = [(each.path, transfer_syntax_of(each.path)) for each in objects]
    if not all(accepts_file(accepts, syntax) for _, syntax in files):
        raise DicomWebError(
            406, f"Objects are sent as {DICOM} in a multipart response, in their own transfer syntax."
        )
    parts = (Part(f"{DICOM}; transfer-syntax={syntax}" if syntax else DICOM, path) for path, syntax in files)
    body, kind = multipart(parts, DICOM)
    return StreamingResponse(body, media_type=kind)


@router.get("/studies/{study}/metadata")
@router.get(_SERIES + "/metadata")
@router.get(_INSTANCE + "/metadata")
def retrieve_metadata(
    request: Request, context: Context, objects: RequestedObjects, accepts: AcceptedTypes
) -> Response:
    """Return all elements of objects as JSON, bulk data as addresses."""
    root = _root(request, context)

    def address(stored: StoredObject) -> str:
        path = f"{stored.study_instance_uid}/series/{stored.series_instance_uid}"
        return f"{root}/{path}/instances/{stored.sop_instance_uid}/bulkdata"

    return _json([read_metadata(each, address(each)) for each in objects], accepts)


def _numbers(frames: Annotated[str, Path(pattern=r"^\d{1,6}(,\d{1,6})*$")]) -> list[int]:
    return [int(each) for each in frames.split(",")]


FrameNumbers = Annotated[list[int], Depends(_numbers)]


def _limited(numbers: Sequence[int]) -> Sequence[int]:
    if len(numbers) > _MAX_FRAMES:
        raise DicomWebError(400, f"At most {_MAX_FRAMES} frames can be requested at once.")
    return numbers


@router.get(_INSTANCE + "/frames/{frames}")
def retrieve_frames(
    context: Context,
    objects: RequestedObjects,
    accepts: AcceptedTypes,
    frames: FrameNumbers,
) -> Response:
    """Return frames: compressed as stored if the client accepts that, else in little endian."""
    numbers = _limited(frames)
    (stored,) = objects
    syntax = transfer_syntax_of(stored.path)
    if (kind := frame_media_type(accepts, syntax)) is None:
        raise DicomWebError(406, f"Frames are sent as {BYTES} or compressed as stored, as multipart.")
    try:
        if syntax in ENCAPSULATED and kind.endswith(f"={ExplicitVRLittleEndian}"):
            found = _decompressed(context, stored, numbers)
        else:
            found = read_frames(stored.path, numbers)
    except PartNotFound:
        raise HTTPException(404) from None
    body, whole = multipart([Part(kind, content) for content in found], kind.partition(";")[0])
    return StreamingResponse(body, media_type=whole)


def _decompressed(context: WebContext, stored: StoredObject, numbers: Sequence[int]) -> list[bytes]:
    """Return the one frame of a compressed film, decoded in the process with limits."""
    if set(numbers) != {1}:
        raise PartNotFound
    try:
        return [context.film_decoder.stored_pixels(stored.path)] * len(numbers)
    except NotAnalysable as error:
        raise DicomWebError(406, f"The film can only be sent as stored: {error}.") from None


@router.get(_INSTANCE + "/bulkdata/{tag}")
def retrieve_bulk_data(
    objects: RequestedObjects, accepts: AcceptedTypes, tag: Annotated[str, Path(pattern=r"^[0-9a-fA-F]{8}$")]
) -> Response:
    """Return one bulk data value; a document also as a single part of its own media type."""
    (stored,) = objects
    try:
        content, kind = read_bulk(stored.path, int(tag, 16))
    except PartNotFound:
        raise HTTPException(404) from None
    for each in accepts:
        if each.single_part and each.includes(kind):
            return Response(content, media_type=kind)
        if not each.single_part and each.includes(BYTES):
            body, whole = multipart([Part(BYTES, content)], BYTES)
            return StreamingResponse(body, media_type=whole)
    raise DicomWebError(406, f"The value is sent as {PDF if kind == PDF else BYTES}.")


# -- WADO-RS, rendered


@router.get(_INSTANCE + "/rendered")
def retrieve_rendered_instance(
    request: Request, context: Context, objects: RequestedObjects, accepts: AcceptedTypes
) -> Response:
    """Return all frames of an object as pictures."""
    (stored,) = objects
    return _rendered(request, context, stored, accepts, range(1, stored.frame_count + 1))


@router.get(_INSTANCE + "/frames/{frames}/rendered")
def retrieve_rendered_frames(
    request: Request,
    context: Context,
    objects: RequestedObjects,
    accepts: AcceptedTypes,
    frames: FrameNumbers,
) -> Response:
    """Return frames as pictures."""
    (stored,) = objects
    if not all(1 <= number <= stored.frame_count for number in frames):
        raise DicomWebError(404, f"The object has frames from 1 to {stored.frame_count}.")
    return _rendered(request, context, stored, accepts, frames)


def _rendered(
    request: Request,
    context: WebContext,
    stored: StoredObject,
    accepts: Sequence[MediaRange],
    numbers: Sequence[int],
) -> Response:
    with _rendering_errors():
        parameters = parse_rendering(request.query_params, thumbnail=False)
        kind, parts = _kind(accepts, len(numbers))
        pictures = (
            context.film_decoder.render_frame(stored.path, number, parameters.windowing)
            for number in _limited(numbers)
        )
        found = [Part(kind, encode_picture(picture, parameters, kind)) for picture in pictures]
    response = _pictures(found, parts=parts)
    if parameters.annotations:
        said = f"The following annotation values are not supported: {','.join(parameters.annotations)}"
        response.headers["Warning"] = f'299 dicom-node "{said}"'
    return response


@router.get("/studies/{study}/thumbnail")
@router.get(_SERIES + "/thumbnail")
@router.get(_INSTANCE + "/thumbnail")
def retrieve_thumbnail(
    request: Request, context: Context, objects: RequestedObjects, accepts: AcceptedTypes
) -> Response:
    """Return a thumbnail of an object, a series or a study."""
    with _rendering_errors():
        parameters = parse_rendering(request.query_params, thumbnail=True)
        kind, parts = _kind(accepts, 1)
        if (picture := _thumbnail(context.film_decoder, objects, parameters)) is None:
            raise DicomWebError(404, "There is no picture of this object.")
        return _pictures([Part(kind, encode_picture(picture, parameters, kind))], parts=parts)


def _kind(accepts: Sequence[MediaRange], count: int) -> tuple[str, bool]:
    if (found := choose_media_type(accepts, several=count > 1)) is None:
        kinds = ", ".join(PICTURE_TYPES)
        several = f"The {count} frames are sent as multipart, or one by one, each as one of {kinds}."
        raise DicomWebError(406, several if count > 1 else f"The picture is sent as one of {kinds}.")
    return found


def _pictures(found: Sequence[Part], *, parts: bool) -> Response:
    if not parts:
        return Response(found[0].content, media_type=found[0].media_type)
    body, whole = multipart(found, found[0].media_type)
    return StreamingResponse(body, media_type=whole)


@contextmanager
def _rendering_errors() -> Iterator[None]:
    """Turn errors of rendering into HTTP errors."""
    try:
        yield
    except InvalidRendering as error:
        raise DicomWebError(400, str(error)) from None
    except NotAnalysable as error:
        raise DicomWebError(404, f"There is no picture of this object: {error}.") from None


def _thumbnail(
    decoder: FilmDecoder, objects: Iterable[StoredObject], parameters: RenderingParameters
) -> RenderedFrame | None:
    """Return the thumbnail of the first object that has one; None when none has."""
    for each in objects:
        if each.kind in WITHOUT_PIXELS or not (small := decoder.thumbnail_or_empty(each.path, each.digest)):
            continue
        if parameters.viewport is not None and max(parameters.viewport) > THUMBNAIL_SIDE:
            return decoder.render_frame(each.path)
        with Image.open(io.BytesIO(small)) as kept:
            return np.asarray(kept)
    return None


class DicomWebCors:
    """CORS middleware: lets pages of other origins read DICOMweb, and nothing else of the node.

    Parameters
    ----------
    app
        Application behind it.
    origins
        Allowed origins, such as ``https://viewer.example``.
    """

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        self._app = app
        self._open = CORSMiddleware(
            app, allow_origins=origins, allow_methods=["GET"], allow_headers=["Authorization", "Accept"]
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        here = scope["type"] == "http" and scope["path"].startswith(f"{PREFIX}/")
        await (self._open if here else self._app)(scope, receive, send)
