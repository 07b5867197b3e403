"""Files that come by the page: into the same spool and index as those that come by C-STORE."""

from __future__ import annotations

import contextlib
import mmap
import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.uid import UID
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from dicom_node.dimse.server.identifiers import read_identifiers
from dicom_node.errors import BadInstance, StorageFailed
from dicom_node.imaging import attributes
from dicom_node.imaging.pixels import TRANSFER_SYNTAXES
from dicom_node.imaging.selection import ANALYSED_SOP_CLASSES
from dicom_node.store.files import data_set_offset
from dicom_node.store.index import TRIED
from dicom_node.web.dependencies import Room
from dicom_node.web.media.trial_films import as_instance

CALLED = "READING_ROOM"
"""What stands in the index for the calling AE."""


@contextlib.asynccontextmanager
async def received(request: Request, room: Room) -> AsyncIterator[Path]:
    """Yield the body of a request as a file on the spool's disk; it is gone afterwards.

    Raises
    ------
    StorageFull, StorageFailed
        When there is no room, or the disk does not take it.
    """
    room.data_dir.spool.check_room()
    try:
        handle, name = tempfile.mkstemp(".part", dir=room.data_dir.spool.incoming)
        try:
            with os.fdopen(handle, "wb") as stream:
                async for chunk in request.stream():
                    await run_in_threadpool(stream.write, chunk)
            yield Path(name)
        finally:
            Path(name).unlink(missing_ok=True)
    except OSError as error:
        raise StorageFailed(f"{room.data_dir.spool.incoming}: {error.strerror}") from error


def take(room: Room, path: Path, address: str) -> str:
    """Take a DICOM file as if it had come by C-STORE; return its Study Instance UID.

    Parameters
    ----------
    path
        On the spool's disk.
    address
        Whom it came from.

    Raises
    ------
    BadInstance
        When it is no instance that a model may read.
    StorageFull, StorageFailed
        When it cannot be kept.
    """
    try:
        with path.open("rb") as stream:
            start = data_set_offset(stream.read(144))
        syntax = UID(attributes.text(read_file_meta_info(path), "TransferSyntaxUID"))
    except (InvalidDicomError, *attributes.MALFORMED) as error:
        raise BadInstance("the file is no DICOM Part 10 file") from error
    if syntax not in TRANSFER_SYNTAXES:
        raise BadInstance(f"the transfer syntax {syntax.name or 'of the file'} is not taken")
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        identifiers = read_identifiers(data, start, syntax)
    if identifiers.sop_class_uid not in ANALYSED_SOP_CLASSES:
        raise BadInstance(f"{UID(identifiers.sop_class_uid).name} is no radiograph")
    stored = room.data_dir.spool.adopt(path)
    room.index.add_instance(identifiers.received(stored, syntax, calling_ae=CALLED, peer_host=address))
    return identifiers.study_instance_uid


def try_out(room: Room, path: Path) -> str:
    """Take one film of any kind as a study of its own that goes nowhere; return its Study Instance UID.

    Raises
    ------
    BadInstance
        When it is no film.
    StorageFull, StorageFailed
        When it cannot be kept.
    """
    film = path.with_suffix(".dcm")
    try:
        as_instance(path, film, room.settings.worker.max_pixels)
        uid = take(room, film, TRIED)
    finally:
        film.unlink(missing_ok=True)
    room.index.complete(uid)
    return uid
