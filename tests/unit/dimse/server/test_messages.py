"""Files that come in pieces, and the bytes that the node writes itself."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom.dsutils import decode

from dicom_node.dimse.implementation import IMPLEMENTATION_CLASS_UID
from dicom_node.dimse.server import file_meta, messages
from dicom_node.dimse.server.file_meta import Reception
from dicom_node.dimse.server.messages import DimseRequest, IncomingFile, Operation
from dicom_node.errors import StorageFailed, StorageFull
from dicom_node.store.files import data_set_offset

META = file_meta.encode("1.2.840.10008.5.1.4.1.1.1", "1.2.3.45", "1.2.840.10008.1.2.1", Reception())


def request(
    operation: int = Operation.C_STORE, instance: str = "1.2.3.4", message_id: int = 7
) -> DimseRequest:
    return DimseRequest(
        operation, message_id, 3, ExplicitVRLittleEndian, ExplicitVRLittleEndian, "1.2.840", instance, None
    )


def test_the_pieces_of_a_data_set_become_a_part_10_file(tmp_path: Path) -> None:
    incoming = IncomingFile(tmp_path, META, lambda: None)
    for piece in (b"\x10\x00\x10\x00PN", b"\x04\x00", b"A^B "):
        incoming.write(memoryview(piece))
    incoming.close()
    (path,) = tmp_path.iterdir()
    assert path == incoming.path
    ds = dcmread(path)
    assert ds.PatientName == "A^B"
    assert ds.file_meta.MediaStorageSOPInstanceUID == "1.2.3.45"
    assert ds.file_meta.ImplementationClassUID == IMPLEMENTATION_CLASS_UID
    assert data_set_offset(path.read_bytes()) == incoming.data_set_offset == len(META)
    assert path.read_bytes()[:128] == bytes(128)


def test_a_discarded_file_is_gone_however_often(tmp_path: Path) -> None:
    incoming = IncomingFile(tmp_path, META, lambda: None)
    assert incoming.error is None
    Path(incoming.path or "").unlink()  # as the sweep of old temporary files may
    incoming.discard()
    incoming.discard()
    incoming.write(memoryview(b"late"))
    assert list(tmp_path.iterdir()) == []
    assert incoming.path is None


def test_a_full_disk_is_remembered_and_the_rest_passed_over(tmp_path: Path) -> None:
    incoming = IncomingFile(tmp_path, META, lambda: None)
    incoming.close()
    incoming._file = io.FileIO("/dev/full", "w")
    incoming.write(memoryview(bytes(100)))
    incoming.write(memoryview(bytes(100)))
    assert isinstance(incoming.error, StorageFull)
    assert str(incoming.error).startswith("spool")
    assert "No space left" in str(incoming.error)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [StorageFull("full"), StorageFailed("broken")])
def test_too_little_room_is_known_before_the_first_byte(tmp_path: Path, error: Exception) -> None:
    def refuse() -> None:
        raise error

    incoming = IncomingFile(tmp_path, META, refuse)
    incoming.write(memoryview(b"data"))
    assert incoming.error is error
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_gone_is_remembered_as_a_failed_disk_and_not_as_a_full_one(tmp_path: Path) -> None:
    error = IncomingFile(tmp_path / "gone", META, lambda: None).error
    assert isinstance(error, StorageFailed)
    assert "check the disk" in str(error)


@pytest.mark.parametrize("instance", ["1.2.3", "1.2.3.4", ""])
@pytest.mark.parametrize("comment", ["", "odd", "even", "x" * 100, "\u00e4"])
def test_a_response_reads_back(instance: str, comment: str) -> None:
    encoded = messages._response(request(instance=instance), 0xC021, comment)
    ds = decode(io.BytesIO(encoded), True, True)
    assert ds.CommandGroupLength == len(encoded) - 12
    assert (ds.CommandField, ds.MessageIDBeingRespondedTo, ds.Status) == (0x8001, 7, 0xC021)
    assert ds.CommandDataSetType == 0x0101
    assert ds.get("ErrorComment", "") == comment[:64].encode("ascii", "replace").decode()
    assert (ds.AffectedSOPClassUID, ds.get("AffectedSOPInstanceUID", "")) == ("1.2.840", instance)
    assert [element.tag for element in ds] == sorted(element.tag for element in ds)


def test_the_highest_message_id_is_answered() -> None:
    ds = decode(io.BytesIO(messages._response(request(message_id=0xFFFF), 0, "")), True, True)
    assert ds.MessageIDBeingRespondedTo == 0xFFFF
