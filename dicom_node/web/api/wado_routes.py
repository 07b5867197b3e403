"""WADO-RS: objects, metadata, frames and bulk data (PS3.18 10.4)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Path, Request, Response
from fastapi.responses import StreamingResponse
from pydicom.uid import ExplicitVRLittleEndian

from dicom_node.dicomweb.server.objects import StoredObject, read_metadata
from dicom_node.dicomweb.server.wado import (
    BYTES,
    DICOM,
    PDF,
    FileRange,
    MediaRange,
    Part,
    PartNotFound,
    accepts_file,
    frame_media_type,
    is_compressed_pixel_data,
    multipart,
    read_bulk,
    read_frames,
    transfer_syntax_of,
)
from dicom_node.errors import NotAnalysable
from dicom_node.imaging.transfer_syntaxes import ENCAPSULATED
from dicom_node.web.api.dicomweb import (
    INSTANCE,
    PREFIX,
    SERIES,
    AcceptedTypes,
    DicomWebError,
    FrameNumbers,
    PartsResponse,
    RequestedObjects,
    json_response,
    studies_address,
)
from dicom_node.web.api.outgoing_files import outgoing_objects
from dicom_node.web.dependencies import Context, WebContext
from dicom_node.web.request_auth import require_reader

router = APIRouter(prefix=PREFIX, include_in_schema=False, dependencies=[Depends(require_reader)])


@router.get("/studies/{study}")
@router.get(SERIES)
@router.get(INSTANCE)
def retrieve_objects(context: Context, objects: RequestedObjects, accepts: AcceptedTypes) -> Response:
    """Return whole objects, each in the transfer syntax of its file."""
    syntaxes = [transfer_syntax_of(each.path) for each in objects]
    if not all(accepts_file(accepts, syntax) for syntax in syntaxes):
        raise DicomWebError(
            406, f"Objects are sent as {DICOM} in a multipart response, in their own transfer syntax."
        )
    files = zip(outgoing_objects(context, objects), syntaxes, strict=True)
    parts = (
        Part(
            f"{DICOM}; transfer-syntax={syntax}" if syntax else DICOM,
            file if isinstance(file, bytes) else FileRange(file),
        )
        for file, syntax in files
    )
    body, kind = multipart(parts, DICOM)
    return StreamingResponse(body, media_type=kind)


@router.get("/studies/{study}/metadata")
@router.get(SERIES + "/metadata")
@router.get(INSTANCE + "/metadata")
def retrieve_metadata(
    request: Request, context: Context, objects: RequestedObjects, accepts: AcceptedTypes
) -> Response:
    """Return all elements of objects as JSON, bulk data as addresses."""
    root = studies_address(request, context)

    def address(stored: StoredObject) -> str:
        path = f"{stored.study_instance_uid}/series/{stored.series_instance_uid}"
        return f"{root}/{path}/instances/{stored.sop_instance_uid}/bulkdata"

    return json_response([read_metadata(each, address(each)) for each in objects], accepts)


@router.get(INSTANCE + "/frames/{frames}")
def retrieve_frames(
    context: Context,
    objects: RequestedObjects,
    accepts: AcceptedTypes,
    frames: FrameNumbers,
) -> Response:
    """Return frames: compressed as stored if the client accepts that, else in little endian."""
    (stored,) = objects
    return _frames(context, stored, accepts, frames)


def _frames(
    context: WebContext, stored: StoredObject, accepts: Sequence[MediaRange], numbers: Sequence[int]
) -> Response:
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
    body, whole = multipart((Part(kind, content) for content in found), kind.partition(";")[0])
    return PartsResponse(body, media_type=whole)


def _compressed_pixel_data(
    context: WebContext, stored: StoredObject, accepts: Sequence[MediaRange]
) -> Response:
    """Return compressed pixel data as frames; the cells of one frame as a single part too."""
    numbers = range(1, stored.frame_count + 1)
    if frame_media_type(accepts, transfer_syntax_of(stored.path)) is None and any(
        each.single_part and each.includes(BYTES) for each in accepts
    ):
        (cells,) = _decompressed(context, stored, numbers)
        return Response(cells, media_type=BYTES)
    return _frames(context, stored, accepts, numbers)


def _decompressed(context: WebContext, stored: StoredObject, numbers: Sequence[int]) -> Iterator[bytes]:
    """Return the one frame of a compressed film, decoded in the process with limits."""
    if set(numbers) != {1}:
        if max(numbers) > stored.frame_count:
            raise PartNotFound
        raise DicomWebError(406, "Several frames can only be sent as stored.")
    try:
        return iter([context.film_decoder.stored_pixels(stored.path)])
    except NotAnalysable as error:
        raise DicomWebError(406, f"The film can only be sent as stored: {error}.") from None


@router.get(INSTANCE + "/bulkdata/{tag}")
def retrieve_bulk_data(
    context: Context,
    objects: RequestedObjects,
    accepts: AcceptedTypes,
    tag: Annotated[str, Path(pattern=r"^[0-9a-fA-F]{8}$")],
) -> Response:
    """Return one bulk data value; a document also as a single part of its own media type."""
    (stored,) = objects
    if is_compressed_pixel_data(int(tag, 16), transfer_syntax_of(stored.path)):
        return _compressed_pixel_data(context, stored, accepts)
    try:
        content, kind = read_bulk(stored.path, int(tag, 16))
    except PartNotFound:
        raise HTTPException(404) from None
    for each in accepts:
        if each.single_part and each.includes(kind):
            if isinstance(content, bytes):
                return Response(content, media_type=kind)
            return StreamingResponse(content.pieces(), media_type=kind)
        if not each.single_part and each.includes(BYTES):
            body, whole = multipart([Part(BYTES, content)], BYTES)
            return StreamingResponse(body, media_type=whole)
    raise DicomWebError(406, f"The value is sent as {PDF if kind == PDF else BYTES}.")
