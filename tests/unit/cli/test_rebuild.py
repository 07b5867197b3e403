"""``rebuild``: the index is lost, and made anew from the files; each command says so in one sentence."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from dicom_node.config.data_dir import DataDir
from dicom_node.config.settings import Settings
from dicom_node.dimse.server import file_meta
from dicom_node.dimse.server.file_meta import Reception
from dicom_node.dimse.server.identifiers import read_identifiers
from dicom_node.store import database
from dicom_node.store.audit import IndexQueries
from dicom_node.store.files import data_set_offset
from dicom_node.store.index import Index
from tests.support import factories
from tests.support.peers import cli, postgresql


class Node:
    """Data directory of a stopped node that received films."""

    def __init__(self, folder: Path, database_url: str | None = None) -> None:
        self.settings = Settings(data_dir=folder, database_url=database_url)
        self.path = folder / "index.sqlite"
        self.environment = {"DICOM_NODE_DATA_DIR": str(folder), "DICOM_NODE_DICOM__PORT": "0"}
        if database_url:
            self.environment["DICOM_NODE_DATABASE_URL"] = database_url
        DataDir(self.settings).prepare(alone=True)
        index = Index.open(self.settings.database)
        for number in range(3):
            self._receive(index, number)
        self.studies = self._studies(index)
        index.close()

    def _receive(self, index: Index, number: int) -> None:
        film = factories.film(study=f"s{number}", series=f"s{number}", seed=number, rows=64, columns=56)
        content = factories.encoded(film)
        start, syntax = data_set_offset(content), film.file_meta.TransferSyntaxUID
        found = read_identifiers(content, start, syntax)
        head = file_meta.encode(
            found.sop_class_uid, found.sop_instance_uid, syntax, Reception("CT_1", "192.0.2.7")
        )
        stored = DataDir(self.settings).spool.keep(head + content[start:])
        index.add_instance(found.received(stored, syntax, calling_ae="CT_1", peer_host="192.0.2.7"))

    def _studies(self, index: Index) -> set[tuple[str, int]]:
        rows = IndexQueries(index.engine).studies()
        return {(row.study_instance_uid, row.instances) for row in rows}

    def studies_now(self) -> set[tuple[str, int]]:
        index = Index.open(self.settings.database, create=False)
        try:
            return self._studies(index)
        finally:
            index.close()

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return cli(*words, environment=self.environment)


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path / "node")


def _delete(path: Path) -> None:
    path.unlink()


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _no_database(path: Path) -> None:
    path.write_bytes(b"no database at all" * 500)


def _overwritten(path: Path) -> None:
    content = bytearray(path.read_bytes())
    for page in range(1, len(content) // 4096):
        content[page * 4096 : page * 4096 + 200] = b"\xa5" * 200
    path.write_bytes(content)


@pytest.mark.parametrize("lose", [_delete, _empty, _no_database, _overwritten])
def test_a_lost_index_is_one_sentence_and_one_command_makes_it_anew(node: Node, lose: object) -> None:
    lose(node.path)  # type: ignore[operator]
    started = node.run("scp")
    assert started.returncode == 4, started.stderr
    errors = [line for line in started.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "`dicom-node rebuild`" in errors[0]
    assert "Traceback" not in started.stderr
    assert not node.path.exists() or node.path.stat().st_size != 0 or lose is _empty  # none was made
    done = node.run("rebuild", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["studies"], found["instances"], found["damaged"], found["unreadable"]) == (3, 3, [], [])
    assert all(Path(name).exists() for name in found["set_aside"])
    assert bool(found["set_aside"]) == (lose is not _delete)
    assert node.studies_now() == node.studies
    audit = node.run("status", "--audit", "--read-files")
    assert audit.returncode == 0, audit.stdout
    assert not list(node.path.parent.glob("index.sqlite-damaged"))


def test_films_without_a_row_violate_the_audit_until_they_are_entered(node: Node) -> None:
    index = Index.open(node.settings.database)
    with database.writing(index.engine) as connection:
        connection.execute(text("DELETE FROM instance WHERE id = 1"))
    index.close()
    assert node.run("status", "--audit").returncode == 0  # a film that has just come
    for path in (node.path.parent / "spool").glob("??/*.dcm"):
        os.utime(path, (1e9, 1e9))
    audit = node.run("status", "--audit")
    assert audit.returncode == 1
    assert "`dicom-node rebuild --missing`" in audit.stdout
    assert node.run("rebuild", "--missing").returncode == 0
    assert node.run("status", "--audit").returncode == 0
    assert node.studies_now() == node.studies


def test_a_damaged_film_is_named_and_the_exit_code_says_so(node: Node) -> None:
    path = next((node.path.parent / "spool").glob("??/*.dcm"))
    path.write_bytes(bytes(path.stat().st_size))
    done = node.run("rebuild")
    assert done.returncode == 1
    assert f"not entered: spool/{path.parent.name}/{path.name}" in done.stdout
    assert "accounts, feedback, notes and tags, access log" in done.stdout


def test_a_running_node_is_left_alone(node: Node) -> None:
    with DataDir(node.settings).locked(shared=False):
        assert node.run("rebuild").returncode == 3
    assert node.studies_now() == node.studies


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with postgresql(tmp_path_factory.mktemp("server")) as address:
        yield address


def test_an_empty_postgresql_database_is_filled_and_a_full_one_left_alone(
    server: str, tmp_path: Path
) -> None:
    node = Node(tmp_path / "node", server)
    assert node.run("rebuild").returncode == 1  # not empty
    assert node.studies_now() == node.studies
    engine = database.connect(server)
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    engine.dispose()
    assert node.run("scp").returncode == 4
    done = node.run("rebuild")
    assert done.returncode == 0, done.stderr
    assert node.studies_now() == node.studies
    assert node.run("status", "--audit", "--read-files").returncode == 0
