"""Backup while films arrive: every film that was acknowledged before is in it, on SQLite and PostgreSQL."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from sqlalchemy import select, text

from dicom_node.config.data_dir import DataDir
from dicom_node.store import database
from dicom_node.store.index import Index
from dicom_node.store.tables import instance
from tests.support import factories
from tests.support.dicom_tools import storescu
from tests.support.peers import cli, postgresql, until
from tests.support.scp_processes import ScpProcesses

FILMS = 60
"""Number of films of each of two senders."""


@pytest.fixture(params=["sqlite", "postgresql"])
def addresses(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, str] | None]:
    """Addresses of the database of the node and of an empty one; None for SQLite in the data directory."""
    if request.param == "sqlite":
        yield None
        return
    with postgresql(tmp_path) as address:
        engine = database.connect(address)
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("CREATE DATABASE second"))
        engine.dispose()
        yield address, address.removesuffix("postgres") + "second"


def write_films(folder: Path, first: int) -> list[Path]:
    folder.mkdir()
    return [
        factories.write(
            factories.film(rows=64, columns=64, study=number, seed=number), folder / f"{number}.dcm"
        )
        for number in range(first, first + FILMS)
    ]


def acknowledged(index: Index) -> set[str]:
    with database.reading(index.engine) as connection:
        return set(connection.execute(select(instance.c.digest)).scalars())


@pytest.mark.peer
def test_what_was_acknowledged_before_is_in_the_backup(
    addresses: tuple[str, str] | None, tmp_path: Path
) -> None:
    senders = [write_films(tmp_path / f"films-{n}", n * FILMS) for n in range(2)]
    urls = [{"database_url": each} for each in addresses] if addresses else [{}, {}]
    with contextlib.ExitStack() as stack:
        scp = stack.enter_context(ScpProcesses(tmp_path / "node", **urls[0]))
        index = Index.open(addresses[0]) if addresses else scp.index
        stack.callback(index.close)
        threads = [threading.Thread(target=storescu, args=(scp.port, films)) for films in senders]
        for thread in threads:
            thread.start()
        until(lambda: len(acknowledged(index)) > FILMS // 2, 60, "films arriving")
        before = acknowledged(index)
        made = cli("backup", str(tmp_path / "backups"), "--json", environment=scp.environment)
        assert made.returncode == 0, made.stderr
        for thread in threads:
            thread.join(120)
        assert len(acknowledged(index)) == 2 * FILMS
        # Another one afterwards: only what is new is read.
        again = cli("backup", str(tmp_path / "backups"), "--json", environment=scp.environment)
        assert json.loads(again.stdout)["audit"]["received"] == 2 * FILMS

    report = json.loads(made.stdout)
    assert len(before) < 2 * FILMS
    assert cli("verify", report["backup"]).returncode == 0
    environment = {"DICOM_NODE_DATA_DIR": str(tmp_path / "elsewhere")}
    if addresses:
        environment["DICOM_NODE_DATABASE_URL"] = addresses[1]
    restored = cli("restore", report["backup"], "--json", environment=environment)
    assert restored.returncode == 0, restored.stderr
    assert json.loads(restored.stdout)["audit"]["received"] == report["audit"]["received"] >= len(before)
    status = cli("status", "--json", "--audit", "--read-files", environment=environment)
    assert status.returncode == 0, status.stdout
    assert json.loads(status.stdout)["audit"]["conserved"]
    kept = {path.stem for path in (tmp_path / "elsewhere" / "spool").glob("*/*.dcm")}
    assert before <= kept
    assert all(digest_of_data_set(path) == path.stem for path in (tmp_path / "elsewhere").rglob("*.dcm"))


def digest_of_data_set(path: Path) -> str:
    content = path.read_bytes()
    return sha256(content[144 + int.from_bytes(content[140:144], "little") :]).hexdigest()


@pytest.mark.peer
def test_no_backup_is_restored_into_a_directory_in_use(tmp_path: Path) -> None:
    with ScpProcesses(tmp_path / "node", 1) as scp:
        made = cli("backup", str(tmp_path / "backups"), environment=scp.environment)
        assert made.returncode == 0, made.stderr
    data_dir = DataDir(scp.settings)
    with data_dir.locked(shared=False):
        refused = cli("restore", str(tmp_path / "backups"), environment=scp.environment)
    assert refused.returncode == 3
    assert "another node uses it" in refused.stderr
    refused = cli("restore", str(tmp_path / "backups"), environment=scp.environment)
    assert refused.returncode == 2
    assert "it is not empty" in refused.stderr
