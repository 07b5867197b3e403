"""REST API of studies: list, search, details, pixels, heat maps, another analysis."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, Final

import numpy as np
from fastapi import APIRouter, Depends, HTTPException, Path, Query
from fastapi.responses import JSONResponse, Response, StreamingResponse
from numpy.typing import NDArray

from dicom_node.errors import NotAnalysable, StorageFailed
from dicom_node.store.states import OUTCOMES
from dicom_node.web.api.parameters import (
    LARGEST_NUMBER,
    ImageNumber,
    ModelPosition,
    SearchIn,
    StudyNumber,
    WorklistParameters,
    image_or_404,
    study_or_404,
)
from dicom_node.web.api.schemas import (
    INTENDED_USE,
    PREFIX,
    Refused,
    StudyLine,
    StudyList,
    StudyOut,
    error_responses,
)
from dicom_node.web.blinding import Hidden
from dicom_node.web.dependencies import Context, WebContext
from dicom_node.web.read_models import worklist
from dicom_node.web.read_models.study import Image
from dicom_node.web.read_models.viewer_study import ViewerStudy, read_viewer_study
from dicom_node.web.request_auth import Admin, CurrentUser, Reader, check_csrf, require_reader

router = APIRouter(prefix=PREFIX, dependencies=[Depends(require_reader), Depends(check_csrf)])

_LOG = logging.getLogger(__name__)
_BYTES = {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}
_PIECE_BYTES: Final = 2**18
_PNG = {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}}


@dataclass(frozen=True, slots=True)
class Retried:
    """Answer to a retry: whether the study will be analysed again."""

    retried: bool


@router.get("/studies", responses=error_responses())
def studies(context: Context, user: Reader, query: WorklistParameters) -> StudyList:
    """List studies."""
    context.access_log.record(user.name, user.address, "worklist")
    found = worklist.read_worklist(context.engine, query)
    return StudyList(
        INTENDED_USE, found.states, [StudyLine.of(row) for row in found.rows], found.next, found.previous
    )


@router.post("/studies/search", responses=error_responses(413, 415))
def search(context: Context, user: Reader, hidden: Hidden, said: SearchIn) -> StudyList:
    """List the studies that contain all words of `q` and meet the other conditions."""
    return studies(context, user, said.query(hidden, user.name))


@router.get("/studies/{study_id}", responses=error_responses(404))
def study(context: Context, user: Reader, study_id: StudyNumber, model: ModelPosition = 0) -> StudyOut:
    """Return one study: its images, findings and results."""
    view = study_or_404(context, study_id, model, user)
    context.access_log.record(user.name, user.address, "study", study_id)
    return StudyOut.of(view, admin=user.admin)


@router.get("/studies/{study_id}/viewer", responses=error_responses(404))
def viewer(
    context: Context, user: Reader, hidden: Hidden, study_id: StudyNumber, model: ModelPosition = 0
) -> ViewerStudy:
    """List the films and heat maps of one study, and the films of the prior study, for a viewer.

    The heat maps are left out while you read the study in a reader study without the model.
    """
    view = study_or_404(context, study_id, model, user)
    context.access_log.record(user.name, user.address, "study", study_id)
    found = read_viewer_study(context.film_decoder, context.data_dir.spool, view)
    return replace(found, maps=()) if study_id in hidden else found


@router.get(
    "/studies/{study_id}/images/{image_id}/pixels",
    response_class=Response,
    responses={200: {"description": "grey values", **_BYTES}, **error_responses(404, 410, 422)},
)
def pixels(context: Context, user: Reader, study_id: StudyNumber, image_id: ImageNumber) -> Response:
    """Return the grey values of one film: 16 bits, little endian, by row; size in X-Rows and X-Columns."""
    image = image_or_404(context, study_id, image_id)
    context.access_log.record(user.name, user.address, "film", study_id)
    try:
        film = context.film_decoder.decode(context.data_dir.spool.path(image.file))
    except NotAnalysable as error:
        return JSONResponse(asdict(Refused(f"{error}.")), 422)
    except StorageFailed as error:
        raise _lost(image, error) from None
    return _raster(film.values)


@router.get(
    "/studies/{study_id}/images/{image_id}/overlay",
    response_class=Response,
    responses={200: {"description": "overlay planes", **_BYTES}, **error_responses(404, 410, 422)},
)
def overlay(context: Context, user: Reader, study_id: StudyNumber, image_id: ImageNumber) -> Response:
    """Return the overlay planes of one film: 1 bit a pixel, the first in the lowest bit, rows not padded."""
    image = image_or_404(context, study_id, image_id)
    context.access_log.record(user.name, user.address, "film", study_id)
    try:
        plane = context.film_decoder.overlay(context.data_dir.spool.path(image.file))
    except NotAnalysable as error:
        return JSONResponse(asdict(Refused(f"{error}.")), 422)
    except StorageFailed as error:
        raise _lost(image, error) from None
    return _raster(np.packbits(plane, bitorder="little"), plane.shape)


@router.get(
    "/studies/{study_id}/images/{image_id}/thumbnail",
    response_class=Response,
    responses={200: {"description": "a small picture", **_PNG}, **error_responses(404, 410)},
)
def thumbnail(context: Context, _user: Reader, study_id: StudyNumber, image_id: ImageNumber) -> Response:
    """Return a small picture of one film."""
    image = image_or_404(context, study_id, image_id)
    try:
        content = context.film_decoder.thumbnail(context.data_dir.spool.path(image.file), image.digest)
    except StorageFailed as error:
        raise _lost(image, error) from None
    return Response(content, media_type="image/png", headers={"Cache-Control": "private, max-age=600"})


@router.get(
    "/studies/{study_id}/maps/{number}",
    response_class=Response,
    responses={200: {"description": "heat", **_BYTES}, **error_responses(404, 410)},
)
def heat_map(
    context: Context,
    user: Reader,
    study_id: StudyNumber,
    number: Annotated[int, Path(ge=0, le=10_000)],
    revision: Annotated[int | None, Query(ge=1, le=LARGEST_NUMBER, description="analysed revision")] = None,
    model: ModelPosition = 0,
) -> Response:
    """Return one heat map over the whole film: 8 bits, row by row; size in X-Rows and X-Columns.

    404 when there is no such map, or when `revision` is not the latest analysed revision; 410 when the maps
    were purged.
    """
    reading = study_or_404(context, study_id, model, user).reading
    if reading is not None and reading.purged_maps is not None:
        raise HTTPException(410, f"The heat maps were {reading.purged_maps}.")
    if reading is None or revision not in (None, reading.revision) or number >= len(reading.record.maps):
        raise HTTPException(404)
    values = context.data_dir.maps.read(reading.record.maps_file, number)
    return _raster(values)


@router.post("/studies/{study_id}/read-anyway", responses=error_responses(404, 409, 410))
def read_anyway(context: Context, user: Admin, study_id: StudyNumber) -> Retried:
    """Analyse a study again with the films that the gate refused; 409 without a refusal, 410 without films.

    The new revision is read for research: its reports say that an admin asked for it. A film that comes
    later, or another analysis, asks the gate again.
    """
    retry_study(context, user, study_id, override_gate=True)
    return Retried(retried=True)


@router.post("/studies/{study_id}/retry", responses=error_responses(404, 409, 410))
def retry(context: Context, user: Admin, study_id: StudyNumber) -> Retried:
    """Analyse a study again, as a new revision; 409 while it is being processed, 410 without its films."""
    retry_study(context, user, study_id)
    return Retried(retried=True)


def retry_study(
    context: WebContext, user: CurrentUser, study_id: int, *, override_gate: bool = False
) -> None:
    """Have a study analysed again for an admin.

    Parameters
    ----------
    override_gate
        True to read the films that the gate refused too.

    Raises
    ------
    HTTPException
        404 when there is no such study, 409 while it is being processed or when there is no refusal to
        override, 410 without its films.
    """
    view = study_or_404(context, study_id)
    if view.purged_films:
        raise HTTPException(410, f"{view.purged_films.capitalize()}; send the whole study again first.")
    if override_gate and view.state in OUTCOMES and not view.refused_films:
        raise HTTPException(409, "The gate refused no film of this study that could be read.")
    if not context.index.retry(
        [view.study_instance_uid], states=sorted(OUTCOMES), override_gate=override_gate
    ):
        raise HTTPException(409, "The study is still being processed.")
    action = "read anyway" if override_gate else "retry"
    context.access_log.record(user.name, user.address, action, study_id, always=True)


def _lost(image: Image, error: StorageFailed) -> HTTPException:
    _LOG.error("image %d is lost: %s", image.id, error)
    return HTTPException(410)


def _raster(values: NDArray[Any], shape: tuple[int, ...] | None = None) -> Response:
    """Return an array as it is, piece by piece: readers of the same film share one copy of it."""
    rows, columns = shape or values.shape
    whole = memoryview(np.ascontiguousarray(values).data).cast("B")

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(whole), _PIECE_BYTES):
            yield bytes(whole[start : start + _PIECE_BYTES])

    headers = {"X-Rows": str(rows), "X-Columns": str(columns), "Content-Length": str(len(whole))}
    return StreamingResponse(pieces(), media_type="application/octet-stream", headers=headers)
