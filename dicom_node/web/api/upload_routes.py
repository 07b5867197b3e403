"""REST API of uploads: DICOM files as if sent by C-STORE, and single films to try the models on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fastapi import APIRouter, Depends, Request
from starlette.concurrency import run_in_threadpool

from dicom_node.web.api.schemas import PREFIX, error_responses
from dicom_node.web.api.upload import body_as_file, store_instance, store_trial
from dicom_node.web.dependencies import Context, WebContext
from dicom_node.web.read_models.study import study_number
from dicom_node.web.request_auth import Admin, CurrentUser, Reader, check_csrf, require_reader

router = APIRouter(prefix=PREFIX, dependencies=[Depends(require_reader), Depends(check_csrf)])

_UPLOAD: Final = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


@dataclass(frozen=True, slots=True)
class Taken:
    """Answer to an upload: number of the study that the file belongs to."""

    study: int


@router.post("/instances", status_code=201, openapi_extra=_UPLOAD, responses=error_responses(413, 415))
async def upload(request: Request, context: Context, user: Admin) -> Taken:
    """Store one DICOM file as if it had been sent by C-STORE."""
    async with body_as_file(request, context) as path:
        uid = await run_in_threadpool(store_instance, context, path, user.address)
    return await run_in_threadpool(_taken, context, user, uid, "upload")


@router.post("/trials", status_code=201, openapi_extra=_UPLOAD, responses=error_responses(413, 415))
async def try_film(request: Request, context: Context, user: Reader) -> Taken:
    """Analyse one film, a DICOM, PNG or JPEG file; its results are sent to no destination."""
    async with body_as_file(request, context) as path:
        uid = await run_in_threadpool(store_trial, context, path)
    return await run_in_threadpool(_taken, context, user, uid, "try")


def _taken(context: WebContext, user: CurrentUser, uid: str, action: str) -> Taken:
    number = study_number(context.engine, uid)
    context.access_log.record(user.name, user.address, action, number, always=True)
    return Taken(number)
