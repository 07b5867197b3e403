"""DICOMweb, to read: QIDO-RS and WADO-RS over the node's results and the films that they are about.

Whole objects name the patient throughout, so there is nothing here unless the page itself names patients
(``web.patient = "name"``). Not in the OpenAPI description: the standard describes it (PS3.18).
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

from dicom_node.dicomweb.server.objects import Held, Objects, metadata
from dicom_node.dicomweb.server.qido import BadQuery, parse_search, read_found, result_of
from dicom_node.dicomweb.server.rendered import (
    KINDS,
    WITHOUT_PIXELS,
    BadView,
    View,
    drawn,
    parse_view,
    picture_kind,
)
from dicom_node.dicomweb.server.wado import (
    BYTES,
    DICOM,
    DICOM_JSON,
    PDF,
    NotThere,
    Part,
    Range,
    frame_kind,
    multipart,
    parse_accept,
    read_bulk,
    read_frames,
    syntax_of,
    takes_file,
    takes_whole,
)
from dicom_node.errors import NotAnalysable
from dicom_node.imaging.pixels import ENCAPSULATED
from dicom_node.imaging.rendering import Picture
from dicom_node.web.dependencies import Room, RoomOf
from dicom_node.web.media.films import THUMBNAIL_SIDE, Films
from dicom_node.web.request_auth import Reader, Visitor, reader

PREFIX: Final = "/dicom-web"
_FUZZY: Final = "The fuzzymatching parameter is not supported. Only literal matching has been performed."
_MORE: Final = "There are additional results that can be requested."
_MOST_FRAMES: Final = 100


class Refusal(HTTPException):
    """An answer that is no success; its detail is one sentence that says why."""


def served(room: RoomOf, _who: Reader) -> Objects:
    """Return what is handed out to somebody who has logged in.

    Raises
    ------
    Refusal
        403 where patients go by pseudonyms.
    """
    if room.settings.web.patient != "name":
        raise Refusal(403, 'DICOMweb hands out objects that name patients: it needs web.patient = "name".')
    return Objects(room.engine, room.data_dir, films=room.settings.web.dicomweb_films)


def accepted(request: Request) -> list[Range]:
    """Return the media types that are taken: by the query, else by the header (PS3.18 8.3.3.1)."""
    return parse_accept(request.query_params.get("accept") or request.headers.get("Accept", ""))


router = APIRouter(prefix=PREFIX, include_in_schema=False, dependencies=[Depends(reader)])

Served = Annotated[Objects, Depends(served)]
Accepted = Annotated[list[Range], Depends(accepted)]
_UID: Final = r"^[0-9.]{1,64}$"
StudyUID = Annotated[str, Path(pattern=_UID)]
SeriesUID = Annotated[str, Path(pattern=_UID)]


def _root(request: Request, room: Room) -> str:
    """Return the address of all studies, as the client calls this host."""
    scheme = "https" if room.settings.web.https else request.url.scheme
    return f"{scheme}://{request.url.netloc}{PREFIX}/studies"


def _json(content: Any, takes: Sequence[Range], warnings: Sequence[str] = ()) -> Response:
    if not takes_whole(takes, DICOM_JSON, "application/json"):
        raise Refusal(406, f"The answer is {DICOM_JSON}.")
    headers = {"Warning": ", ".join(f'299 dicom-node "{text}"' for text in warnings)} if warnings else {}
    return Response(json.dumps(content, allow_nan=False), media_type=DICOM_JSON, headers=headers)


# -- QIDO-RS


def _search(
    request: Request,
    room: Room,
    who: Visitor,
    objects: Objects,
    takes: Sequence[Range],
    level: str,
    **known: str,
) -> Response:
    try:
        search = parse_search(level, request.query_params.multi_items(), **known)
    except BadQuery as error:
        raise Refusal(400, str(error)) from None
    room.accesses.record(who.name, who.address, "dicomweb search")
    answer = read_found(room.engine, objects, search)
    root = _root(request, room)
    warnings = [text for text, said in ((_FUZZY, search.fuzzy), (_MORE, answer.more)) if said]
    return _json([result_of(found, search, root) for found in answer.found], takes, warnings)


@router.get("/studies")
def studies(request: Request, room: RoomOf, who: Reader, objects: Served, takes: Accepted) -> Response:
    """Search for studies."""
    return _search(request, room, who, objects, takes, "study")


@router.get("/series")
def all_series(request: Request, room: RoomOf, who: Reader, objects: Served, takes: Accepted) -> Response:
    """Search for series."""
    return _search(request, room, who, objects, takes, "series")


@router.get("/instances")
def all_instances(request: Request, room: RoomOf, who: Reader, objects: Served, takes: Accepted) -> Response:
    """Search for instances."""
    return _search(request, room, who, objects, takes, "instance")


@router.get("/studies/{study}/series")
def series_of_study(
    request: Request, room: RoomOf, who: Reader, objects: Served, takes: Accepted, study: StudyUID
) -> Response:
    """Search for series of one study."""
    return _search(request, room, who, objects, takes, "series", StudyInstanceUID=study)


@router.get("/studies/{study}/instances")
def instances_of_study(
    request: Request, room: RoomOf, who: Reader, objects: Served, takes: Accepted, study: StudyUID
) -> Response:
    """Search for instances of one study."""
    return _search(request, room, who, objects, takes, "instance", StudyInstanceUID=study)


@router.get("/studies/{study}/series/{series}/instances")
def instances_of_series(
    request: Request,
    room: RoomOf,
    who: Reader,
    objects: Served,
    takes: Accepted,
    study: StudyUID,
    series: SeriesUID,
) -> Response:
    """Search for instances of one series."""
    known = {"StudyInstanceUID": study, "SeriesInstanceUID": series}
    return _search(request, room, who, objects, takes, "instance", **known)


# -- WADO-RS


def retrieved(request: Request, room: RoomOf, who: Reader, objects: Served) -> list[Held]:
    """Return the objects that a path names, and write down who asked.

    Raises
    ------
    HTTPException
        404 when there is none.
    """
    uids = [request.path_params.get(name, "") for name in ("study", "series", "instance")]
    held = objects.find(*uids) if all(re.fullmatch(_UID, uid) for uid in uids if uid) else []
    if not held:
        raise HTTPException(404)
    room.accesses.record(who.name, who.address, "dicomweb", held[0].study_id)
    return held


Retrieved = Annotated[list[Held], Depends(retrieved)]
_SERIES: Final = "/studies/{study}/series/{series}"
_INSTANCE: Final = _SERIES + "/instances/{instance}"


@router.get("/studies/{study}")
@router.get(_SERIES)
@router.get(_INSTANCE)
def objects_of(held: Retrieved, takes: Accepted) -> Response:
    """Hand out whole objects, each in the transfer syntax that it is kept in."""
    files = [(each.path, syntax_of(each.path)) for each in held]
    if not all(takes_file(takes, syntax) for _, syntax in files):
        raise Refusal(406, f"Objects are {DICOM} in a multipart answer, in the transfer syntax they have.")
    parts = (Part(f"{DICOM}; transfer-syntax={syntax}" if syntax else DICOM, path) for path, syntax in files)
    body, kind = multipart(parts, DICOM)
    return StreamingResponse(body, media_type=kind)


@router.get("/studies/{study}/metadata")
@router.get(_SERIES + "/metadata")
@router.get(_INSTANCE + "/metadata")
def metadata_of(request: Request, room: RoomOf, held: Retrieved, takes: Accepted) -> Response:
    """Hand out whole objects in JSON, bulk data by its address."""
    root = _root(request, room)

    def address(one: Held) -> str:
        path = f"{one.study_instance_uid}/series/{one.series_instance_uid}"
        return f"{root}/{path}/instances/{one.sop_instance_uid}/bulkdata"

    return _json([metadata(each, address(each)) for each in held], takes)


def _numbers(frames: Annotated[str, Path(pattern=r"^\d{1,6}(,\d{1,6})*$")]) -> list[int]:
    return [int(each) for each in frames.split(",")]


Numbers = Annotated[list[int], Depends(_numbers)]


def _limited(numbers: Sequence[int]) -> Sequence[int]:
    if len(numbers) > _MOST_FRAMES:
        raise Refusal(400, f"At most {_MOST_FRAMES} frames are handed out at once.")
    return numbers


@router.get(_INSTANCE + "/frames/{frames}")
def frames_of(room: RoomOf, held: Retrieved, takes: Accepted, frames: Numbers) -> Response:
    """Hand out frames: compressed ones as they are where that is taken, else in little endian."""
    numbers = _limited(frames)
    (one,) = held
    syntax = syntax_of(one.path)
    if (kind := frame_kind(takes, syntax)) is None:
        raise Refusal(406, f"Frames are {BYTES} or compressed as they are, in a multipart answer.")
    try:
        if syntax in ENCAPSULATED and kind.endswith(f"={ExplicitVRLittleEndian}"):
            found = _decompressed(room, one, numbers)
        else:
            found = read_frames(one.path, numbers)
    except NotThere:
        raise HTTPException(404) from None
    body, whole = multipart([Part(kind, content) for content in found], kind.partition(";")[0])
    return StreamingResponse(body, media_type=whole)


def _decompressed(room: Room, one: Held, numbers: Sequence[int]) -> list[bytes]:
    """Return the one frame of a compressed film, decoded as everything foreign is: in a limited process."""
    if set(numbers) != {1}:
        raise NotThere
    try:
        return [room.films.cells(one.path)] * len(numbers)
    except NotAnalysable as error:
        raise Refusal(406, f"The film is handed out only as it is: {error}.") from None


@router.get(_INSTANCE + "/bulkdata/{tag}")
def bulk_data_of(
    held: Retrieved, takes: Accepted, tag: Annotated[str, Path(pattern=r"^[0-9a-fA-F]{8}$")]
) -> Response:
    """Hand out one long value; a document also alone, as what it is."""
    (one,) = held
    try:
        content, kind = read_bulk(one.path, int(tag, 16))
    except NotThere:
        raise HTTPException(404) from None
    for each in takes:
        if each.whole and each.takes(kind):
            return Response(content, media_type=kind)
        if not each.whole and each.takes(BYTES):
            body, whole = multipart([Part(BYTES, content)], BYTES)
            return StreamingResponse(body, media_type=whole)
    raise Refusal(406, f"The value is {kind}." if kind == PDF else f"The value is {BYTES}.")


# -- WADO-RS, drawn


@router.get(_INSTANCE + "/rendered")
def rendered_instance(request: Request, room: RoomOf, held: Retrieved, takes: Accepted) -> Response:
    """Draw all frames of an object."""
    (one,) = held
    return _rendered(request, room, one, takes, range(1, one.frames + 1))


@router.get(_INSTANCE + "/frames/{frames}/rendered")
def rendered_frames(
    request: Request, room: RoomOf, held: Retrieved, takes: Accepted, frames: Numbers
) -> Response:
    """Draw frames."""
    (one,) = held
    if not all(1 <= number <= one.frames for number in frames):
        raise Refusal(404, f"The object has frames from 1 to {one.frames}.")
    return _rendered(request, room, one, takes, frames)


def _rendered(
    request: Request, room: Room, one: Held, takes: Sequence[Range], numbers: Sequence[int]
) -> Response:
    with _refusing():
        view = parse_view(request.query_params, thumbnail=False)
        kind, parts = _kind(takes, len(numbers))
        pictures = (room.films.picture(one.path, number, view.windowing) for number in _limited(numbers))
        found = [Part(kind, drawn(picture, view, kind)) for picture in pictures]
    response = _pictures(found, parts=parts)
    if view.annotations:
        said = f"The following annotation values are not supported: {','.join(view.annotations)}"
        response.headers["Warning"] = f'299 dicom-node "{said}"'
    return response


@router.get("/studies/{study}/thumbnail")
@router.get(_SERIES + "/thumbnail")
@router.get(_INSTANCE + "/thumbnail")
def thumbnail_of(request: Request, room: RoomOf, held: Retrieved, takes: Accepted) -> Response:
    """Draw a small picture that stands for an object, a series or a study."""
    with _refusing():
        view = parse_view(request.query_params, thumbnail=True)
        kind, parts = _kind(takes, 1)
        if (picture := _thumbnail(room.films, held, view)) is None:
            raise Refusal(404, "There is no picture of this.")
        return _pictures([Part(kind, drawn(picture, view, kind))], parts=parts)


def _kind(takes: Sequence[Range], count: int) -> tuple[str, bool]:
    if (found := picture_kind(takes, several=count > 1)) is None:
        kinds = ", ".join(KINDS)
        several = f"The {count} frames come in a multipart answer, or one by one, each as one of {kinds}."
        raise Refusal(406, several if count > 1 else f"The picture is one of {kinds}.")
    return found


def _pictures(found: Sequence[Part], *, parts: bool) -> Response:
    if not parts:
        return Response(found[0].content, media_type=found[0].kind)
    body, whole = multipart(found, found[0].kind)
    return StreamingResponse(body, media_type=whole)


@contextmanager
def _refusing() -> Iterator[None]:
    """Say in one sentence why nothing is drawn."""
    try:
        yield
    except BadView as error:
        raise Refusal(400, str(error)) from None
    except NotAnalysable as error:
        raise Refusal(404, f"There is no picture of this: {error}.") from None


def _thumbnail(films: Films, held: Iterable[Held], view: View) -> Picture | None:
    """Return the picture that stands for objects: the first that there is; None when there is none."""
    for each in held:
        if each.kind in WITHOUT_PIXELS or not (small := films.small(each.path, each.digest)):
            continue
        if view.viewport is not None and max(view.viewport) > THUMBNAIL_SIDE:
            return films.picture(each.path)
        with Image.open(io.BytesIO(small)) as kept:
            return np.asarray(kept)
    return None


class Origins:
    """Lets pages of other origins read what is here, and nothing else of the node.

    Parameters
    ----------
    app
        That answers.
    origins
        Such as ``https://viewer.example``.
    """

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        self._app = app
        self._open = CORSMiddleware(
            app, allow_origins=origins, allow_methods=["GET"], allow_headers=["Authorization", "Accept"]
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        here = scope["type"] == "http" and scope["path"].startswith(f"{PREFIX}/")
        await (self._open if here else self._app)(scope, receive, send)
