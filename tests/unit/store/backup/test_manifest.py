"""Manifests that are damaged, of a newer version, or none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dicom_node.errors import ConfigurationError, NodeError, StorageFailed
from dicom_node.store.backup import manifest
from dicom_node.store.backup.creation import BackupWriter
from dicom_node.store.backup.manifest import Manifest, find_backup
from tests.support.stored_node import StoredNode


@pytest.fixture
def backup(node: StoredNode, backups: Path) -> Path:
    return BackupWriter(node.root, node.index.engine, backups).write().folder


def test_what_is_written_is_read(backup: Path) -> None:
    found = Manifest.read(backup)
    found.write(backup)
    assert Manifest.read(backup) == found


@pytest.mark.parametrize("name", ["backup.json", "SHA256SUMS"])
def test_no_changed_byte_of_it_goes_unseen(backup: Path, name: str) -> None:
    path = backup / name
    good = path.read_bytes()
    for position in range(0, len(good), 7):
        changed = bytearray(good)
        changed[position] ^= 0x15
        path.write_bytes(changed)
        try:
            found = Manifest.read(backup)
        except NodeError:
            continue
        path.write_bytes(good)
        assert found == Manifest.read(backup), position  # a change of white space alone


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", "7", '{"format": 1}', "[" * 100_000])
def test_what_is_no_manifest_is_one_sentence(backup: Path, text: str) -> None:
    (backup / "backup.json").write_text(text, encoding="utf-8")
    with pytest.raises(StorageFailed, match="the manifest is damaged; use another backup"):
        Manifest.read(backup)


def test_a_newer_one_names_the_version_that_made_it(backup: Path) -> None:
    path = backup / "backup.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**content, "format": 2, "version": "9.1"}), encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"dicom-node 9\.1 made this backup"):
        Manifest.read(backup)
    del content["sha256"]
    content |= {"schema": "9999", "version": "9.2"}
    content["sha256"] = manifest._own_digest(content)
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"dicom-node 9\.2 made this backup"):
        Manifest.read(backup)


def test_a_name_that_leads_out_of_the_backup_is_refused(backup: Path) -> None:
    for name in ("../outside", "/etc/hostname", "spool/../../outside"):
        made = Manifest.new("2026-01-01T00:00:00+00:00", "sqlite", {name: "0" * 64})
        made.write(backup)
        with pytest.raises(StorageFailed, match="leads out of the backup"):
            Manifest.read(backup)


def test_the_newest_of_a_folder_is_found(backup: Path, tmp_path: Path) -> None:
    backup.rename(backup.with_name("20010101T000000Z"))
    later = backup.with_name("20010101T000001Z")
    later.mkdir()
    (later / "backup.json").touch()
    assert find_backup(later.parent) == later
    for path in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(ConfigurationError, match="name a folder that `dicom-node backup DEST` wrote"):
            find_backup(path)
