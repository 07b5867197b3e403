"""Received files, as a new index takes them in: what each says of itself."""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from pathlib import Path

from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.uid import UID

from dicom_node.dimse.server.file_meta import reception_of
from dicom_node.dimse.server.identifiers import read_identifiers
from dicom_node.errors import BadInstance
from dicom_node.imaging import attributes
from dicom_node.store.files import Spool, StoredFile, damage, data_set_offset
from dicom_node.store.prior_requests import move_message_id
from dicom_node.store.received_instances import ReceivedInstance


@dataclass(frozen=True, slots=True)
class ReceivedFile:
    """Received file.

    Attributes
    ----------
    received_at
        Time of its last change: it came then. In seconds since the epoch.
    fetched
        Whether it says that a C-MOVE of this node caused it: it was fetched as a prior.
    damage
        What is wrong with it, as a clause; empty when its content is that of its name.
    """

    instance: ReceivedInstance
    received_at: float
    fetched: bool
    damage: str


def read_received(spool: Spool, name: str, ae_title: str) -> ReceivedFile:
    """Read a file of the spool.

    Parameters
    ----------
    ae_title
        AE title of the node.

    Raises
    ------
    BadInstance
        When it says no longer to which study it belongs; the text is a clause.
    """
    path = spool.path(name)
    digest = Path(name).stem
    wrong = damage(path, digest)
    try:
        with path.open("rb") as stream:
            start = data_set_offset(stream.read(144))
        meta = read_file_meta_info(path)
        syntax = UID(attributes.text(meta, "TransferSyntaxUID"))
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            found = read_identifiers(data, start, syntax)
        status = path.stat()
    except (BadInstance, InvalidDicomError, OSError, *attributes.MALFORMED) as error:
        raise BadInstance(wrong or f"it cannot be read: {' '.join(str(error).split())}") from error
    reception = reception_of(meta)
    received = found.received(
        StoredFile(digest, status.st_size, name),
        syntax,
        calling_ae=reception.calling_ae,
        peer_host=reception.peer_host,
        moved_for=reception.moved_for,
        move_message_id=reception.move_message_id,
    )
    fetched = (
        reception.moved_for.casefold() == ae_title.casefold()
        or reception.move_message_id == move_message_id(found.study_instance_uid)
    )
    return ReceivedFile(received, status.st_mtime, fetched, wrong)
