from __future__ import annotations

import io

import pytest
from pydicom import dcmread
from pydicom.dataset import FileMetaDataset

from dicom_node.dimse.server import file_meta
from dicom_node.dimse.server.file_meta import Reception, reception_of
from dicom_node.store.files import data_set_offset

CR, EXPLICIT = "1.2.840.10008.5.1.4.1.1.1", "1.2.840.10008.1.2.1"


@pytest.mark.parametrize(
    "reception",
    [
        Reception(),
        Reception("CT_1", "192.0.2.7"),
        Reception("A", "2001:db8::7"),
        Reception("PACS", "192.0.2.8", "DICOM_NODE", 4711),
        Reception("PACS", "192.0.2.8", "", 12),
        Reception("PACS", "", "NODE"),
    ],
)
def test_a_file_says_how_it_came(reception: Reception) -> None:
    content = file_meta.encode(CR, "1.2.3", EXPLICIT, reception)
    assert data_set_offset(content) == len(content)
    assert len(content) % 2 == 0
    meta = dcmread(io.BytesIO(content)).file_meta
    assert (meta.MediaStorageSOPInstanceUID, meta.TransferSyntaxUID) == ("1.2.3", EXPLICIT)
    assert reception_of(meta) == reception


@pytest.mark.parametrize(
    "private", [b"", b"of another program", b"move originator\n", b"move originator\nX\nY"]
)
def test_what_others_wrote_says_nothing(private: bytes) -> None:
    meta = FileMetaDataset()
    meta.PrivateInformation = private
    assert reception_of(meta).move_message_id == 0
    assert reception_of(meta).calling_ae == ""
