"""Receivers whose index or disk fails while they run: nothing lost is acknowledged, and it is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dicom_node.store.files import digest_of
from dicom_node.store.index import Index
from dicom_node.store.storage_check import read_summary
from tests.support.failing_fsync import FailingFsync, compiler_path
from tests.support.film_file import FilmFile
from tests.support.raw_association import RawAssociation
from tests.support.receiver import Receiver
from tests.support.scp_processes import ScpProcesses

MakeFilm = Callable[..., FilmFile]
SUCCESS, NO_ROOM, FAILED = 0x0000, 0xA700, 0xA701


def store(port: int, film: FilmFile) -> int:
    with RawAssociation(port) as wire:
        wire.associate()
        status = wire.store(film.data_set, film.uid).status
        wire.release()
    return int(status)


def _delete(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


def _swap(path: Path) -> None:
    other = path.with_name("other.sqlite")
    Index.open(f"sqlite:///{other}").close()
    other.replace(path)


def _corrupt(path: Path) -> None:
    Path(f"{path}-damaged").write_text("database disk image is malformed\n")  # as the check leaves it


@pytest.mark.parametrize("lose", [_delete, _swap, _corrupt])
def test_without_its_index_a_receiver_takes_no_film_and_says_why(
    tmp_path: Path, film: MakeFilm, lose: Callable[[Path], None]
) -> None:
    with ScpProcesses(tmp_path / "node", count=2) as scp:
        assert store(scp.port, film(1)) == SUCCESS
        lose(tmp_path / "node" / "index.sqlite")
        for number in (2, 2, 3):
            assert store(scp.port, film(number)) == FAILED
        assert "dicom-node rebuild" in scp.log.read_text()
        scp.index.close()
        # A receiver that is started anew makes no empty index in the place of the lost one.
        scp.stop()
        assert (tmp_path / "node" / "index.sqlite").exists() == (lose is not _delete)


@pytest.mark.parametrize("how", ["truncated", "zeroed", "flipped", "missing"])
def test_a_damaged_film_that_is_sent_again_is_repaired(tmp_path: Path, film: MakeFilm, how: str) -> None:
    sent = film(1)
    with Receiver(tmp_path / "node") as receiver:
        receiver.stores(sent)
        (row,) = receiver.instances()
        path = receiver.spool.path(row["file"])
        content = path.read_bytes()
        if how == "missing":
            path.unlink()
        else:
            middle = len(content) // 2
            flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
            changed = {"truncated": content[:middle], "zeroed": bytes(len(content)), "flipped": flipped}
            path.write_bytes(changed[how])
        assert store(receiver.port, sent) == SUCCESS
        assert path.read_bytes() == content
        (after,) = receiver.instances()
        assert after["repaired_at"] is not None
        assert (after["receptions"], after["digest"]) == (2, digest_of(path))
        assert read_summary(receiver.index.engine).damages == ()


@pytest.mark.skipif(compiler_path() is None, reason="needs a C compiler")
@pytest.mark.parametrize(
    ("part", "error", "status"),
    [
        ("/spool/incoming/", "EIO", FAILED),
        ("/spool/", "EIO", FAILED),
        ("/spool/incoming/", "ENOSPC", NO_ROOM),
        ("/index.sqlite", "EIO", FAILED),
    ],
)
def test_a_film_whose_sync_fails_is_not_acknowledged_and_later_taken(
    tmp_path: Path, film: MakeFilm, monkeypatch: pytest.MonkeyPatch, part: str, error: str, status: int
) -> None:
    failing = FailingFsync(tmp_path, part, error)
    for name, value in failing.environment.items():
        monkeypatch.setenv(name, value)
    with ScpProcesses(tmp_path / "node", count=1) as scp:
        monkeypatch.undo()
        assert store(scp.port, film(1)) == SUCCESS
        failing.begin()
        assert store(scp.port, film(2)) == status
        failing.end()
        assert store(scp.port, film(2)) == SUCCESS
        assert store(scp.port, film(3)) == SUCCESS
        with scp.index.engine.connect() as connection:
            rows = connection.exec_driver_sql("SELECT file, digest FROM instance").all()
        assert len(rows) == 3
        assert all(digest_of(tmp_path / "node" / "spool" / name) == digest for name, digest in rows)
        assert not list((tmp_path / "node" / "spool" / "incoming").iterdir())
