"""Backups: what is in them, what they cost, and what ends one."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from dicom_node.errors import AlreadyRunning, ConfigurationError, StorageFailed, StorageFull
from dicom_node.store.backup import creation, file_copy
from dicom_node.store.backup.creation import BackupWriter
from dicom_node.store.backup.manifest import Manifest, find_backup
from dicom_node.store.deletion_lock import deletion
from tests.support.stored_node import StoredNode


def write(node: StoredNode, backups: Path, **options: bool) -> creation.BackupReport:
    return BackupWriter(node.root, node.index.engine, backups, **options).write()


def test_it_holds_the_index_and_every_file_that_it_names(node: StoredNode, backups: Path) -> None:
    stray = node.data_dir.spool.root / "aa" / f"{'a' * 64}.dcm"
    stray.write_bytes(b"of no row")
    report = write(node, backups)
    names = set(report.manifest.sums)
    assert {f"spool/{name}" for name in node.data_dir.spool.names()} - names == {f"spool/aa/{stray.name}"}
    assert {f"results/{name}" for name in node.data_dir.results.names()} < names
    assert {"index.sqlite", "web.key"} < names
    assert not names & {"lock", "deletion.lock"}
    assert report.audit.conserved
    assert report.audit.received == 3


def test_its_sums_are_those_of_sha256sum(node: StoredNode, backups: Path) -> None:
    odd = node.root / "extra" / "a\\b\nc"
    odd.parent.mkdir()
    odd.write_bytes(b"odd name")
    report = write(node, backups)
    check = ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"]
    assert subprocess.run(check, cwd=report.folder, check=False).returncode == 0
    assert Manifest.read(report.folder).sums["extra/a\\b\nc"] == hashlib.sha256(b"odd name").hexdigest()


def test_on_one_file_system_a_film_takes_no_new_space(node: StoredNode, backups: Path) -> None:
    film = f"spool/{min(node.data_dir.spool.names())}"
    first = write(node, backups).folder / film
    assert first.samefile(node.root / film)
    copied = write(node, backups.with_name("copies"), link=False).folder / film
    assert not copied.samefile(first)
    assert copied.read_bytes() == first.read_bytes()
    assert copied.stat().st_mode & 0o777 == 0o600


def test_what_an_earlier_backup_holds_is_not_copied_again(node: StoredNode, backups: Path) -> None:
    first = write(node, backups, link=False)
    node.receive(4)
    second = write(node, backups, link=False)
    # The index, and the film that is new.
    assert second.copied == 2
    assert second.linked == first.files - 1
    assert set(second.manifest.sums) > set(first.manifest.sums)


def test_a_file_that_changes_is_copied_when_it_has_changed(node: StoredNode, backups: Path) -> None:
    first = write(node, backups)
    (node.root / "web.key").write_bytes(b"n" * 32)
    second = write(node, backups)
    assert (first.folder / "web.key").read_bytes() == b"k" * 32
    assert (second.folder / "web.key").read_bytes() == b"n" * 32


def test_a_damaged_film_is_named_and_an_earlier_good_one_is_kept(node: StoredNode, backups: Path) -> None:
    first = write(node, backups, link=False)
    film = node.root / "spool" / min(node.data_dir.spool.names())
    good = film.read_bytes()
    film.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    assert write(node, backups, link=False).manifest.damaged == ()
    shutil.rmtree(backups)
    report = write(node, backups, link=False)
    assert report.manifest.damaged == (str(film.relative_to(node.root)),)
    assert first.manifest.damaged == ()


def test_an_interrupted_one_has_another_name_and_is_removed_by_the_next(
    node: StoredNode, backups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(file_copy, "digest", full)
        with pytest.raises(StorageFull, match="No space left"):
            write(node, backups)
    (left_over,) = backups.iterdir()
    assert left_over.name.endswith(".incomplete")
    for path in (left_over, backups):
        with pytest.raises(ConfigurationError, match=r"interrupted|no finished backup"):
            find_backup(path)
    report = write(node, backups)
    assert report.removed == (left_over.name,)
    assert list(backups.iterdir()) == [report.folder] == [find_backup(backups)]


def test_only_so_many_are_kept(node: StoredNode, backups: Path) -> None:
    folders = [BackupWriter(node.root, node.index.engine, backups).write(keep=2).folder for _ in range(4)]
    assert sorted(backups.iterdir()) == sorted(folders)[2:]


def test_nothing_is_deleted_while_it_is_written(
    node: StoredNode, backups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed = []

    def ask(_done: int, _all: int) -> None:
        with deletion(node.root) as free:
            allowed.append(free)

    BackupWriter(node.root, node.index.engine, backups).write(progress=ask)
    assert set(allowed) == {False}
    with deletion(node.root) as free:
        assert free


def test_the_room_is_counted_before_the_first_film_is_copied(
    node: StoredNode, backups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(node.root)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=10_000))
    with pytest.raises(StorageFull, match="MiB are free; free space"):
        write(node, backups, link=False)
    assert not list(backups.rglob("*.dcm"))


def test_two_at_once_and_places_that_cannot_work_are_refused(node: StoredNode, backups: Path) -> None:
    def again(_done: int, _all: int) -> None:
        with pytest.raises(AlreadyRunning, match="another backup"):
            write(node, backups)

    BackupWriter(node.root, node.index.engine, backups).write(progress=again)
    with pytest.raises(ConfigurationError, match="lies in the data directory"):
        write(node, node.root / "backups")


def test_a_damaged_index_ends_it(node: StoredNode, backups: Path) -> None:
    node.close()
    with (node.root / "index.sqlite").open("r+b") as stream:
        stream.seek(4096)
        stream.write(b"\xa5" * 40960)
    with pytest.raises(StorageFailed, match=r"index|database"):
        write(node, backups)
    assert not [each for each in backups.iterdir() if not each.name.endswith(".incomplete")]
