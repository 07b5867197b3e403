"""Uploaded DICOM files: what is looked at before any parser of pydicom sees a byte of the data set.

A small file may hold gigabytes once it is inflated, or millions of elements. Both are refused here, from a
short head and a walk that keeps nothing.
"""

from __future__ import annotations

import io
import mmap
from pathlib import Path
from typing import Final

from pydicom.filereader import read_dataset
from pydicom.uid import UID

from dicom_node.dimse.server.identifiers import elements
from dicom_node.errors import BadInstance
from dicom_node.imaging import attributes
from dicom_node.imaging.transfer_syntaxes import TRANSFER_SYNTAXES
from dicom_node.store.files import data_set_offset

_HEAD_BYTES: Final = 144
_META_BEGIN: Final = 132
_META_BYTES: Final = 64 * 1024
"""Longest file meta information; one that the standard defines has less than 1 KiB."""


def check_dicom(path: Path) -> tuple[UID, int]:
    """Return the transfer syntax of a DICOM file, and where its data set begins.

    Raises
    ------
    BadInstance
        When it is no Part 10 file, its transfer syntax is not one that the node decodes, or its data set is
        truncated, or nested or divided beyond the limits of C-STORE.
    """
    with path.open("rb") as stream:
        start = data_set_offset(stream.read(_HEAD_BYTES))
        if start > _META_BYTES:
            raise BadInstance("the file meta information is too long")
        stream.seek(_META_BEGIN)
        head = stream.read(start - _META_BEGIN)
        try:
            with attributes.tolerance():
                meta = read_dataset(io.BytesIO(head), is_implicit_VR=False, is_little_endian=True)
        except attributes.MALFORMED:
            raise BadInstance("the file meta information cannot be read") from None
        syntax = UID(attributes.text(meta, "TransferSyntaxUID"))
        if syntax not in TRANSFER_SYNTAXES:
            raise BadInstance(f"the transfer syntax {syntax.name or 'of the file'} is not supported")
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            for _ in elements(data, start, syntax):
                pass
    return syntax, start
