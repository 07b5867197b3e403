"""Storage of uploaded files in the same spool and index as the files that come by C-STORE."""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO, Final

from pydicom.uid import UID
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from dicom_node.dimse.server import file_meta
from dicom_node.dimse.server.file_meta import Reception
from dicom_node.dimse.server.identifiers import read_identifiers
from dicom_node.errors import BadInstance, StorageFailed
from dicom_node.imaging.radiographs import ANALYSED_SOP_CLASSES
from dicom_node.runtime import temporary_files
from dicom_node.store.files import StoredFile, storage_error
from dicom_node.store.index import TRIAL_HOST
from dicom_node.store.reception import receive
from dicom_node.web.dependencies import WebContext
from dicom_node.web.media.lanes import Busy
from dicom_node.web.media.pictures import is_dicom, is_picture, refusal
from dicom_node.web.media.trial_films import HEAD_BYTES, convert_to_dicom
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
    context.reserve.check_room()
    try:
        handle, path = temporary_files.create(context.data_dir.spool.incoming, ".part")
        try:
            with os.fdopen(handle, "wb") as stream:
                async for chunk in request.stream():
                    await run_in_threadpool(_write, context, stream, chunk)
            async with _turn(context):
                yield path
        finally:
            path.unlink(missing_ok=True)
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
    reception = Reception(CALLING_AE_TITLE, address)
    head = file_meta.encode(identifiers.sop_class_uid, identifiers.sop_instance_uid, syntax, reception)
    receive(
        context.index,
        context.data_dir.spool,
        lambda: _adopted(context, path, head, start),
        lambda stored: identifiers.received(stored, syntax, calling_ae=CALLING_AE_TITLE, peer_host=address),
    )
    return identifiers.study_instance_uid


def _adopted(context: WebContext, path: Path, head: bytes, start: int) -> StoredFile:
    """Store the data set of a file, which begins at an offset, with another head."""
    spool = context.data_dir.spool
    try:
        handle, temporary = temporary_files.create(spool.incoming)
        try:
            with os.fdopen(handle, "wb") as target, path.open("rb") as source:
                target.write(head)
                source.seek(start)
                shutil.copyfileobj(source, target)
            return spool.adopt(temporary)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise storage_error(error, spool.incoming) from error


def store_film(context: WebContext, path: Path, address: str) -> str:
    """Store a DICOM, PNG or JPEG file as if it had come by C-STORE, and return its Study Instance UID.

    A picture becomes a study of its own, of a patient who is named as none.

    Raises
    ------
    BadInstance
        When it is not a film that a model may read; the text is one sentence for the reader.
    StorageFull, StorageFailed
        When it cannot be stored.
    """
    with path.open("rb") as stream:
        head = stream.read(HEAD_BYTES)
    if is_dicom(head):
        return store_instance(context, path, address)
    if not is_picture(head):
        raise BadInstance(refusal(head))
    return _store_converted(context, path, address, trial=False)


def store_trial(context: WebContext, path: Path, study: str = "", *, more: bool = False) -> str:
    """Store one film of any supported format in a study without destinations; return its Study Instance UID.

    Parameters
    ----------
    study
        Name of the study that the film belongs to; empty for a study of its own.
    more
        True when further films of the study follow; else the study is complete.

    Raises
    ------
    BadInstance
        When the file is not a film that can be read.
    StorageFull, StorageFailed
        When it cannot be stored.
    """
    uid = _store_converted(context, path, TRIAL_HOST, study=study)
    if not more:
        context.index.complete(uid)
    return uid


def _store_converted(
    context: WebContext, path: Path, address: str, *, study: str = "", trial: bool = True
) -> str:
    film = path.with_suffix(".dcm")
    try:
        convert_to_dicom(
            path,
            film,
            max_pixels=context.settings.worker.max_pixels,
            most_bytes=context.settings.web.decode_bytes,
            study=study,
            trial=trial,
        )
        return store_instance(context, film, address)
    finally:
        film.unlink(missing_ok=True)
