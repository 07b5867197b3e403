"""DICOMweb routes: addresses, access, media types and errors that QIDO-RS and WADO-RS share.

DICOM objects contain the name of the patient in many places, so these routes answer only where the pages show
names too (``web.patient = "name"``). They are not in the OpenAPI description, since PS3.18 describes them.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Sequence
from typing import Annotated, Any, Final

from fastapi import Depends, HTTPException, Path, Request, Response
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from dicom_node.dicomweb.server.objects import ObjectStore, StoredObject
from dicom_node.dicomweb.server.wado import (
    DICOM_JSON,
    MediaRange,
    PartNotFound,
    accepts_single_part,
    parse_accept,
)
from dicom_node.errors import NodeError
from dicom_node.web.blinding import Hidden, hidden_with_comparisons
from dicom_node.web.dependencies import Context, WebContext
from dicom_node.web.request_auth import Reader

_LOG = logging.getLogger(__name__)
PREFIX: Final = "/dicom-web"
_MAX_FRAMES: Final = 100


class DicomWebError(HTTPException):
    """HTTP error of a DICOMweb route; its detail is the reason in one sentence."""


def object_store(context: Context, _user: Reader, hidden: Hidden) -> ObjectStore:
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
    return ObjectStore(
        context.engine,
        context.data_dir,
        films=context.settings.web.dicomweb_films,
        hidden=hidden_with_comparisons(context, hidden),
    )


def accepted_types(request: Request) -> list[MediaRange]:
    """Return the accepted media types, from the query or else from the Accept header (PS3.18 8.3.3.1)."""
    return parse_accept(request.query_params.get("accept") or request.headers.get("Accept", ""))


Store = Annotated[ObjectStore, Depends(object_store)]
AcceptedTypes = Annotated[list[MediaRange], Depends(accepted_types)]
_UID: Final = r"^[0-9.]{1,64}$"
StudyUID = Annotated[str, Path(pattern=_UID)]
SeriesUID = Annotated[str, Path(pattern=_UID)]


def studies_address(request: Request, context: WebContext) -> str:
    """Return the address of the ``/studies`` resource, as the settings or else the client name the page."""
    scheme = "https" if context.settings.web.https else request.url.scheme
    page = context.settings.oidc.page_url or f"{scheme}://{request.url.netloc}"
    return f"{page}{PREFIX}/studies"


def json_response(content: Any, accepts: Sequence[MediaRange], warnings: Sequence[str] = ()) -> Response:
    """Return a response in the DICOM JSON model (PS3.18 annex F); 406 when it is not accepted."""
    if not accepts_single_part(accepts, DICOM_JSON, "application/json"):
        raise DicomWebError(406, f"The response is {DICOM_JSON}.")
    headers = {"Warning": ", ".join(f'299 dicom-node "{text}"' for text in warnings)} if warnings else {}
    return Response(json.dumps(content, allow_nan=False), media_type=DICOM_JSON, headers=headers)


def requested_objects(request: Request, context: Context, user: Reader, store: Store) -> list[StoredObject]:
    """Return the objects that a path names, and record the access.

    Raises
    ------
    HTTPException
        404 when there are none, 410 when their files were purged.
    """
    uids = [request.path_params.get(name, "") for name in ("study", "series", "instance")]
    held = store.find(*uids) if all(re.fullmatch(_UID, uid) for uid in uids if uid) else []
    if not held:
        if (purged := store.purged(*uids)) is not None:
            raise DicomWebError(410, f"The object was {purged}.")
        raise HTTPException(404)
    context.access_log.record(user.name, user.address, "dicomweb", held[0].study_id)
    return held


RequestedObjects = Annotated[list[StoredObject], Depends(requested_objects)]
SERIES: Final = "/studies/{study}/series/{series}"
INSTANCE: Final = SERIES + "/instances/{instance}"


def frame_numbers(frames: Annotated[str, Path(pattern=r"^\d{1,6}(,\d{1,6})*$")]) -> list[int]:
    """Return the frame numbers of a path, such as ``1,3``, counted from 1; a repeated one only once.

    Raises
    ------
    DicomWebError
        400 when they are more than one response may hold.
    """
    return limited_frames(list(dict.fromkeys(int(each) for each in frames.split(","))))


FrameNumbers = Annotated[list[int], Depends(frame_numbers)]


def limited_frames(numbers: list[int]) -> list[int]:
    """Return the frame numbers; 400 when they are more than one response may hold."""
    if len(numbers) > _MAX_FRAMES:
        raise DicomWebError(400, f"At most {_MAX_FRAMES} frames can be requested at once.")
    return numbers


class PartsResponse(StreamingResponse):
    """Response whose parts are made while it is sent; when one fails, the connection is cut off.

    An answer that ended in order would look complete.
    """

    async def stream_response(self, send: Send) -> None:
        """Send the parts."""
        try:
            await super().stream_response(send)
        except (NodeError, PartNotFound) as error:
            _LOG.warning("an answer was cut off: %s", error or "a frame is missing")


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
