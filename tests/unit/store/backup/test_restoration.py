"""Restorations: into another path and another kind of database, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, select, text

from dicom_node.config.data_dir import DataDir
from dicom_node.config.settings import Settings
from dicom_node.errors import ConfigurationError, StorageFailed
from dicom_node.store import database
from dicom_node.store.analysis_leases import AnalysisLeases
from dicom_node.store.backup import restoration
from dicom_node.store.backup.creation import BackupWriter
from dicom_node.store.backup.restoration import restore
from dicom_node.store.delivery_queue import DeliveryQueue
from dicom_node.store.index import Index
from dicom_node.store.tables import metadata
from tests.support.index_records import THIS_PROCESS, received_instance
from tests.support.peers import postgresql
from tests.support.stored_node import StoredNode


@pytest.fixture
def backup(node: StoredNode, backups: Path) -> Path:
    return BackupWriter(node.root, node.index.engine, backups, link=False).write().folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "elsewhere" / "node"
    folder.mkdir(parents=True)
    return folder


def address_in(root: Path) -> str:
    return Settings(data_dir=root).database


def rows(index: Index) -> dict[str, list[tuple[object, ...]]]:
    with database.reading(index.engine) as connection:
        return {
            table.name: sorted(map(tuple, connection.execute(select(table))))
            for table in metadata.sorted_tables
        }


def test_all_is_there_in_another_place(backup: Path, node: StoredNode, root: Path) -> None:
    done = restore(backup, root, address_in(root))
    assert done.faults == ()
    assert done.audit.conserved
    assert (root / "web.key").read_bytes() == b"k" * 32
    again = StoredNode(root)
    assert again.audit().conserved
    assert again.audit().fates == node.audit().fates
    again.close()


def test_the_leases_of_the_old_host_are_void(backup: Path, root: Path) -> None:
    restore(backup, root, address_in(root))
    node = StoredNode(root)
    # Its worker cannot be seen from here, and its lease would last for an hour.
    assert AnalysisLeases(node.index.engine).release_expired() == 1
    assert [uid for uid, _ in node.index.take_queueable(60)]
    assert len(DeliveryQueue(node.index.engine).take("pacs", THIS_PROCESS, 30, 10)) == 1
    node.close()


def test_a_folder_or_database_that_holds_something_is_refused(backup: Path, root: Path) -> None:
    address = address_in(root)
    (root / "lock").touch()
    (root / "note.txt").touch()
    with pytest.raises(ConfigurationError, match=r"it is not empty \(note.txt\)"):
        restore(backup, root, address)
    (root / "note.txt").unlink()
    other = root.parent / "other.sqlite"
    other.touch()
    with pytest.raises(ConfigurationError, match="exists already"):
        restore(backup, root, f"sqlite:///{other}")
    assert restore(backup, root, address).audit.conserved
    with pytest.raises(ConfigurationError, match="it is not empty"):
        restore(backup, root, address)


def test_a_damaged_film_is_left_out_and_takes_no_other_with_it(backup: Path, root: Path) -> None:
    first, second, *_ = sorted(backup.glob("spool/*/*.dcm"))
    first.write_bytes(first.read_bytes() + b"x")
    second.unlink()
    done = restore(backup, root, address_in(root))
    assert [name for path in (first, second) for name in done.faults if path.name in name] == list(
        done.faults
    )
    assert len(done.faults) == len(done.audit.violations) == 2
    assert len(list(root.glob("spool/*/*.dcm"))) == 1


def test_a_damaged_index_ends_it_before_it_begins(backup: Path, root: Path) -> None:
    with (backup / "index.sqlite").open("r+b") as stream:
        stream.write(b"\xa5" * 100)
    with pytest.raises(StorageFailed, match="has changed"):
        restore(backup, root, address_in(root))
    assert list(root.iterdir()) == []


def test_no_node_starts_from_an_interrupted_one(
    backup: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(_done: int, _all: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        restore(backup, root, address_in(root), killed)
    data_dir = DataDir(Settings(data_dir=root))
    with pytest.raises(ConfigurationError, match="a restoration was interrupted; empty the folder"):
        data_dir.prepare(alone=True)
    with pytest.raises(ConfigurationError, match="a restoration was interrupted"):
        restore(backup, root, address_in(root))
    assert not (root / "index.sqlite").exists()
    assert (root / restoration.UNFINISHED).exists()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with postgresql(tmp_path_factory.mktemp("server")) as address:
        engine = database.connect(address)
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            for name in ("first", "second"):
                connection.execute(text(f"CREATE DATABASE {name}"))
        engine.dispose()
        yield address.removesuffix("postgres")


@pytest.mark.peer
def test_postgresql_goes_to_postgresql_and_to_sqlite(server: str, tmp_path: Path, root: Path) -> None:
    node = StoredNode(tmp_path / "node", server + "first")
    node.fill()
    (node.root / "first.txt").write_text("a file with the name of the database")
    done = BackupWriter(node.root, node.index.engine, tmp_path / "backups").write()
    assert done.audit.conserved
    before = rows(node.index)
    node.close()
    second = server + "second"
    assert restore(done.folder, root, second).audit.conserved
    assert (root / "first.txt").exists()
    restored = StoredNode(root, second)
    after = rows(restored.index)
    for name in ("instance", "result", "study", "delivery"):
        assert len(after[name]) == len(before[name])
    assert after["instance"] == before["instance"]
    # The next row gets a number of its own.
    restored.receive(9)
    restored.index.add_instance(received_instance("1.2.9", "1.9"))
    with database.reading(restored.index.engine) as connection:
        states = connection.execute(text("SELECT count(DISTINCT id) = count(*) FROM instance")).scalar()
        assert connection.execute(select(func.count()).select_from(metadata.tables["instance"])).scalar() == 5
    assert states
    restored.close()
    assert sorted(path.name for path in root.iterdir() if path.suffix == ".sqlite") == []
    third = tmp_path / "third"
    third.mkdir()
    with pytest.raises(ConfigurationError, match="already holds the index of a node"):
        restore(done.folder, third, second)
    assert restore(done.folder, third, address_in(third)).audit.conserved
