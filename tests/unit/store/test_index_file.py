"""A SQLite index that is lost or damaged while it is open is noticed before anything is acknowledged."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from dicom_node.errors import IndexDamaged, StorageFailed
from dicom_node.store import database, index_file
from dicom_node.store.audit import IndexQueries
from dicom_node.store.index import Index
from tests.support.index_records import received_instance


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "index.sqlite"


@pytest.fixture
def opened(path: Path) -> Index:
    index = Index.open(f"sqlite:///{path}")
    index.add_instance(received_instance())
    return index


def _delete(path: Path) -> None:
    path.unlink()


def _delete_all(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink()


def _swap(path: Path) -> None:
    other = path.with_name("other.sqlite")
    Index.open(f"sqlite:///{other}").close()
    other.replace(path)


def _delete_log(path: Path) -> None:
    Path(f"{path}-wal").unlink()


def _delete_memory(path: Path) -> None:
    Path(f"{path}-shm").unlink()


LOSSES = [_delete, _delete_all, _swap, _delete_log, _delete_memory]


@pytest.mark.parametrize("lose", LOSSES)
def test_a_lost_index_takes_nothing_and_says_what_to_do(
    opened: Index, path: Path, lose: Callable[[Path], None]
) -> None:
    lose(path)
    for number in range(2):
        with pytest.raises(IndexDamaged, match="dicom-node rebuild"):
            opened.add_instance(received_instance(f"1.2.{number}"))
    with pytest.raises(IndexDamaged):
        IndexQueries(opened.engine).study_counts()
    if lose in (_delete, _delete_all):
        assert not path.exists()  # no empty index is made in its place


def test_a_loss_between_begin_and_commit_is_no_success(opened: Index, path: Path) -> None:
    def change() -> None:
        with database.writing(opened.engine) as connection:
            connection.exec_driver_sql("UPDATE study SET reason = 'x'")
            path.unlink()

    with pytest.raises(IndexDamaged, match="was deleted"):
        change()


def test_an_index_that_is_brought_back_is_used_again(opened: Index, path: Path) -> None:
    away = path.with_name("away")
    path.rename(away)
    with pytest.raises(IndexDamaged):
        opened.add_instance(received_instance("1.2.4"))
    away.rename(path)
    opened.add_instance(received_instance("1.2.4"))


def test_connections_that_are_opened_again_are_no_loss(opened: Index, path: Path) -> None:
    opened.close()
    assert not Path(f"{path}-wal").exists()
    opened.add_instance(received_instance("1.2.4"))
    other = Index.open(f"sqlite:///{path}", create=False)
    other.add_instance(received_instance("1.2.5"))
    for index in (opened, other, opened):
        index.close()
        index.add_instance(received_instance("1.2.6"))


def test_a_part_of_a_running_node_makes_no_index(path: Path) -> None:
    with pytest.raises(IndexDamaged, match="is not there"):
        Index.open(f"sqlite:///{path}", create=False)
    path.touch()
    with pytest.raises(IndexDamaged, match="is not there"):
        Index.open(f"sqlite:///{path}", create=False)
    assert path.stat().st_size == 0


@pytest.mark.parametrize("content", [b"no database" * 400, bytes(8192)])
def test_a_file_that_is_no_index_is_one_sentence(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(StorageFailed):
        Index.open(f"sqlite:///{path}", create=False)


def test_overwritten_pages_are_found_and_then_no_process_uses_the_index(opened: Index, path: Path) -> None:
    other = Index.open(f"sqlite:///{path}")
    for number in range(200):
        opened.add_instance(received_instance(f"1.2.{number}.7", study=f"1.9.{number}"))
    with opened.engine.connect().execution_options(reading=True) as connection:
        connection.exec_driver_sql("COMMIT")
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    index_file.check_content(path)
    with path.open("r+b") as stream:
        for page in range(3, path.stat().st_size // 4096):
            stream.seek(page * 4096)
            stream.write(os.urandom(512))
    with pytest.raises(IndexDamaged, match="damaged"):
        index_file.check_content(path)
    for index in (opened, other):
        with pytest.raises(IndexDamaged, match="dicom-node rebuild"):
            index.add_instance(received_instance("1.2.4"))


def test_the_note_goes_with_the_damage(opened: Index, path: Path) -> None:
    note = Path(f"{path}{index_file.NOTE}")
    note.write_text("database disk image is malformed\n")
    with pytest.raises(IndexDamaged, match="malformed"):
        opened.add_instance(received_instance("1.2.4"))
    index_file.check_content(path)
    opened.add_instance(received_instance("1.2.4"))
