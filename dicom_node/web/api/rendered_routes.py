"""WADO-RS, rendered: pictures and thumbnails of objects (PS3.18 10.4.1.1.3, 10.4.1.1.5)."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from fastapi import APIRouter, Depends, Request, Response
from PIL import Image

from dicom_node.dicomweb.server.objects import StoredObject
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
    MediaRange,
    Part,
    multipart,
)
from dicom_node.errors import NotAnalysable
from dicom_node.imaging.rendering import RenderedFrame
from dicom_node.web.api.dicomweb import (
    INSTANCE,
    PREFIX,
    SERIES,
    AcceptedTypes,
    DicomWebError,
    FrameNumbers,
    PartsResponse,
    RequestedObjects,
    limited_frames,
)
from dicom_node.web.dependencies import Context, WebContext
from dicom_node.web.media.films import THUMBNAIL_SIDE, FilmDecoder
from dicom_node.web.request_auth import require_reader

router = APIRouter(prefix=PREFIX, include_in_schema=False, dependencies=[Depends(require_reader)])


@router.get(INSTANCE + "/rendered")
def retrieve_rendered_instance(
    request: Request, context: Context, objects: RequestedObjects, accepts: AcceptedTypes
) -> Response:
    """Return all frames of an object as pictures."""
    (stored,) = objects
    numbers = limited_frames(list(range(1, min(stored.frame_count, 2**20) + 1)))
    return _rendered(request, context, stored, accepts, numbers)


@router.get(INSTANCE + "/frames/{frames}/rendered")
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
        until = context.film_decoder.deadline()

        def picture(number: int) -> Part:
            content = context.film_decoder.encoded_frame(
                stored.path,
                lambda frame: encode_picture(frame, parameters, kind),
                number=number,
                windowing=parameters.windowing,
                until=until,
            )
            return Part(kind, content)

        # The first picture says whether there are any; the others are made while they are sent.
        first = picture(numbers[0])
    response = _pictures(itertools.chain([first], map(picture, numbers[1:])), kind, parts=parts)
    if parameters.annotations:
        said = f"The following annotation values are not supported: {','.join(parameters.annotations)}"
        response.headers["Warning"] = f'299 dicom-node "{said}"'
    return response


@router.get("/studies/{study}/thumbnail")
@router.get(SERIES + "/thumbnail")
@router.get(INSTANCE + "/thumbnail")
def retrieve_thumbnail(
    request: Request, context: Context, objects: RequestedObjects, accepts: AcceptedTypes
) -> Response:
    """Return a thumbnail of an object, a series or a study."""
    with _rendering_errors():
        parameters = parse_rendering(request.query_params, thumbnail=True)
        kind, parts = _kind(accepts, 1)
        content = _thumbnail(
            context.film_decoder, objects, parameters, lambda frame: encode_picture(frame, parameters, kind)
        )
    if content is None:
        raise DicomWebError(404, "There is no picture of this object.")
    return _pictures(iter([Part(kind, content)]), kind, parts=parts)


def _kind(accepts: Sequence[MediaRange], count: int) -> tuple[str, bool]:
    if (found := choose_media_type(accepts, several=count > 1)) is None:
        kinds = ", ".join(PICTURE_TYPES)
        several = f"The {count} frames are sent as multipart, or one by one, each as one of {kinds}."
        raise DicomWebError(406, several if count > 1 else f"The picture is sent as one of {kinds}.")
    return found


def _pictures(found: Iterator[Part], kind: str, *, parts: bool) -> Response:
    if not parts:
        return Response(next(found).content, media_type=kind)
    body, whole = multipart(found, kind)
    return PartsResponse(body, media_type=whole)


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
    decoder: FilmDecoder,
    objects: Iterable[StoredObject],
    parameters: RenderingParameters,
    encode: Callable[[RenderedFrame], bytes],
) -> bytes | None:
    """Return the thumbnail of the first object that has one, as a picture; None when none has."""
    for each in objects:
        if each.kind in WITHOUT_PIXELS or not (small := decoder.thumbnail_or_empty(each.path, each.digest)):
            continue
        if parameters.viewport is not None and max(parameters.viewport) > THUMBNAIL_SIDE:
            return decoder.encoded_frame(each.path, encode)
        with Image.open(io.BytesIO(small)) as kept:
            return encode(RenderedFrame(np.asarray(kept)))
    return None
