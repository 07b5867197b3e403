"""Storage of uploaded files in the same spool and index as the files that come by C-STORE."""

from __future__ import annotations

import contextlib
import mmap
import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.uid import UID
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from dicom_node.dimse.server.identifiers import read_identifiers
from dicom_node.errors import BadInstance, StorageFailed
from dicom_node.imaging import attributes
from dicom_node.imaging.radiographs import ANALYSED_SOP_CLASSES
from dicom_node.imaging.transfer_syntaxes import TRANSFER_SYNTAXES
from dicom_node.store.files import data_set_offset
from dicom_node.store.index import TRIAL_HOST
from dicom_node.store.reception import receive
from dicom_node.web.dependencies import WebContext
from dicom_node.web.media.trial_films import convert_to_dicom

CALLING_AE_TITLE: Final = "READING_ROOM"
"""Calling AE title that the index has for uploaded files."""


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
        handle, name = tempfile.mkstemp(".part", dir=context.data_dir.spool.incoming)
        try:
            with os.fdopen(handle, "wb") as stream:
                async for chunk in request.stream():
                    await run_in_threadpool(stream.write, chunk)
            yield Path(name)
        finally:
            Path(name).unlink(missing_ok=True)
    except OSError as error:
        raise StorageFailed(f"{context.data_dir.spool.incoming}: {error.strerror}") from error


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
    try:
        with path.open("rb") as stream:
            start = data_set_offset(stream.read(144))
        syntax = UID(attributes.text(read_file_meta_info(path), "TransferSyntaxUID"))
    except (InvalidDicomError, *attributes.MALFORMED) as error:
        raise BadInstance("the file is not a DICOM Part 10 file") from error
    if syntax not in TRANSFER_SYNTAXES:
        raise BadInstance(f"the transfer syntax {syntax.name or 'of the file'} is not supported")
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        identifiers = read_identifiers(data, start, syntax)
    if identifiers.sop_class_uid not in ANALYSED_SOP_CLASSES:
        raise BadInstance(f"{UID(identifiers.sop_class_uid).name} is not a radiograph")
    receive(
        context.index,
        context.data_dir.spool,
        lambda: context.data_dir.spool.adopt(path),
        lambda stored: identifiers.received(stored, syntax, calling_ae=CALLING_AE_TITLE, peer_host=address),
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
        convert_to_dicom(path, film, context.settings.worker.max_pixels)
        uid = store_instance(context, film, TRIAL_HOST)
    finally:
        film.unlink(missing_ok=True)
    context.index.complete(uid)
    return uid
