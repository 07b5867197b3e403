"""Verification of backups: each change of a file is found and named."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.store.backup.creation import BackupWriter
from dicom_node.store.backup.verification import verify
from tests.support.stored_node import StoredNode


@pytest.fixture
def backup(node: StoredNode, backups: Path) -> Path:
    return BackupWriter(node.root, node.index.engine, backups, link=False).write().folder


def test_a_good_one_is_intact_and_stays_as_it_is(backup: Path) -> None:
    before = sorted(backup.rglob("*"))
    found = verify(backup)
    assert found.intact
    assert found.audit is not None
    assert found.audit.received == 3
    assert sorted(backup.rglob("*")) == before


def test_a_changed_a_missing_and_a_foreign_file_are_named(backup: Path) -> None:
    first, second, *_ = sorted(backup.glob("spool/*/*.dcm"))
    content = first.read_bytes()
    first.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    second.unlink()
    (backup / "foreign").touch()
    found = verify(backup)
    assert not found.intact
    names = [first.relative_to(backup), second.relative_to(backup), Path("foreign")]
    assert len(found.faults) == 3
    assert all(any(str(name) in fault for fault in found.faults) for name in names)
    # The audit finds what is missing by itself.
    assert found.audit is not None
    assert len(found.audit.violations) == 1


def test_a_damaged_index_is_a_fault_and_no_error(backup: Path) -> None:
    with (backup / "index.sqlite").open("r+b") as stream:
        stream.seek(0)
        stream.write(b"\xa5" * 8192)
    found = verify(backup)
    assert not found.intact
    assert found.audit is None
