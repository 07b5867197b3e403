"""Storage of uploaded files in the same spool and index as the files that come by C-STORE."""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO, Final

from pydicom.uid import UID
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from dicom_node.dimse.server.identifiers import read_identifiers
from dicom_node.errors import BadInstance, StorageFailed
from dicom_node.imaging.radiographs import ANALYSED_SOP_CLASSES
from dicom_node.store.index import TRIAL_HOST
from dicom_node.web.dependencies import WebContext
from dicom_node.web.media.lanes import Busy
from dicom_node.web.media.trial_films import convert_to_dicom
from dicom_node.web.media.uploaded_file import check_dicom

CALLING_AE_TITLE: Final = "READING_ROOM"
"""Calling AE title that the index has for uploaded files."""
_TURN_SECONDS: Final = 10.0


@contextlib.asynccontextmanager
async def body_as_file(request: Request, context: WebContext) -> AsyncIterator[Path]:
    """Write the body of a request to a temporary file on the disk of the spool, and yield its path.

    Raises
    ------
    StorageFull, StorageFailed
        When the disk is full, or the file cannot be written.
    """
    context.data_dir.spool.check_room()
    try:
        handle, name = tempfile.mkstemp(".part", dir=context.data_dir.spool.incoming)
        try:
            with os.fdopen(handle, "wb") as stream:
                async for chunk in request.stream():
                    await run_in_threadpool(_write, context, stream, chunk)
            async with _turn(context):
                yield Path(name)
        finally:
            Path(name).unlink(missing_ok=True)
    except OSError as error:
        raise StorageFailed(f"{context.data_dir.spool.incoming}: {error.strerror}") from error


def _write(context: WebContext, stream: BinaryIO, chunk: bytes) -> None:
    context.data_dir.spool.check_room()  # many uploads may come at once
    stream.write(chunk)


@contextlib.asynccontextmanager
async def _turn(context: WebContext) -> AsyncIterator[None]:
    """Wait until few enough uploads are read; what lies on the disk may wait, what is parsed takes memory.

    Raises
    ------
    Busy
        When that takes too long.
    """
    try:
        await asyncio.wait_for(context.uploads.acquire(), _TURN_SECONDS)
    except TimeoutError:
        raise Busy("too many uploads are being read; try again later") from None
    try:
        yield
    finally:
        context.uploads.release()


def store_instance(context: WebContext, path: Path, address: str) -> str:
    """Store a DICOM file as if it had come by C-STORE, and return its Study Instance UID.

    Parameters
    ----------
    path
        File on the disk of the spool; it is moved into the spool.
    address
        IP address of the sender.

    Raises
    ------
    BadInstance
        When it is not a DICOM file that a model may read.
    StorageFull, StorageFailed
        When it cannot be stored.
    """
    syntax, start = check_dicom(path)
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        identifiers = read_identifiers(data, start, syntax)
    if identifiers.sop_class_uid not in ANALYSED_SOP_CLASSES:
        raise BadInstance(f"{UID(identifiers.sop_class_uid).name} is not a radiograph")
    stored = context.data_dir.spool.adopt(path)
    context.index.add_instance(
        identifiers.received(stored, syntax, calling_ae=CALLING_AE_TITLE, peer_host=address)
    )
    return identifiers.study_instance_uid


def store_trial(context: WebContext, path: Path) -> str:
    """Store one film of any supported format as a study without destinations; return its Study Instance UID.

    Raises
    ------
    BadInstance
        When the file is not a film that can be read.
    StorageFull, StorageFailed
        When it cannot be stored.
    """
    film = path.with_suffix(".dcm")
    try:
        convert_to_dicom(
            path,
            film,
            max_pixels=context.settings.worker.max_pixels,
            most_bytes=context.settings.web.decode_bytes,
        )
        uid = store_instance(context, film, TRIAL_HOST)
    finally:
        film.unlink(missing_ok=True)
    context.index.complete(uid)
    return uid
