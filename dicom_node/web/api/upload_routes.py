"""REST API of uploads: films as if sent by C-STORE, and films to try the models on."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query, Request
from starlette.concurrency import run_in_threadpool

from dicom_node.runtime import temporary_files
from dicom_node.web.api.schemas import PREFIX, error_responses
from dicom_node.web.api.upload import body_as_file, store_film, store_trial
from dicom_node.web.dependencies import Context, WebContext
from dicom_node.web.media.drawn_films import drawn_film
from dicom_node.web.read_models.study import study_number
from dicom_node.web.request_auth import Admin, CurrentUser, Reader, check_csrf, require_reader

router = APIRouter(prefix=PREFIX, dependencies=[Depends(require_reader), Depends(check_csrf)])

_UPLOAD: Final = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}

Group = Annotated[
    str, Query(max_length=64, pattern=r"^[A-Za-z0-9-]*$", description="name of the study of several films")
]
More = Annotated[bool, Query(description="whether further films of the group follow")]


@dataclass(frozen=True, slots=True)
class Taken:
    """Answer to an upload: number of the study that the file belongs to."""

    study: int


@router.post("/instances", status_code=201, openapi_extra=_UPLOAD, responses=error_responses(413, 415))
async def upload(request: Request, context: Context, user: Admin) -> Taken:
    """Store one DICOM, PNG or JPEG file as if it had been sent by C-STORE.

    A picture becomes a study of its own, under a made-up patient.
    """
    async with body_as_file(request, context) as path:
        uid = await run_in_threadpool(store_film, context, path, user.address)
    return await run_in_threadpool(_taken, context, user, uid, "upload")


@router.post("/trials", status_code=201, openapi_extra=_UPLOAD, responses=error_responses(413, 415))
async def try_film(
    request: Request, context: Context, user: Reader, group: Group = "", *, more: More = False
) -> Taken:
    """Analyse one film, a DICOM, PNG or JPEG file; its results are sent to no destination.

    Films that you send with the same `group` are one study; it is analysed when the one without `more` has
    come, or after the quiet time.
    """
    study = f"{user.name}\n{group}" if group else ""  # nobody adds to the study of somebody else
    async with body_as_file(request, context) as path:
        uid = await run_in_threadpool(partial(store_trial, context, path, study, more=more))
    return await run_in_threadpool(_taken, context, user, uid, "try")


@router.post("/trials/example", status_code=201, responses=error_responses())
def try_example(context: Context, user: Reader) -> Taken:
    """Analyse two drawn films, frontal and lateral, as one study: drawn by the node, of nobody."""
    uid = ""
    for view, more in (("PA", True), ("LL", False)):
        handle, path = temporary_files.create(context.data_dir.spool.incoming, ".part")
        with os.fdopen(handle, "wb") as stream:
            stream.write(drawn_film(view))
        try:
            uid = store_trial(context, path, f"{user.name}\nexample", more=more)
        finally:
            path.unlink(missing_ok=True)
    return _taken(context, user, uid, "try")


def _taken(context: WebContext, user: CurrentUser, uid: str, action: str) -> Taken:
    number = study_number(context.engine, uid)
    context.access_log.record(user.name, user.address, action, number, always=True)
    return Taken(number)
