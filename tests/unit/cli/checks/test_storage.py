from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from dicom_node.cli.checks import storage
from dicom_node.config.data_dir import DataDir
from dicom_node.config.settings import Settings
from dicom_node.store import database
from dicom_node.store.files import free_bytes
from dicom_node.store.index import Index
from dicom_node.store.tables import disk_usage
from tests.support.doctor import check_named, settings_for
from tests.support.peers import free_port


def test_a_folder_that_cannot_be_written_fails(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    check = check_named(storage.data_dir, settings_for(tmp_path / "file"), "data_dir")
    assert check.ok is False
    assert "Not a directory" in check.found
    assert "set data_dir" in check.remedy


def test_a_folder_that_does_not_exist_yet_is_in_order(settings: Settings) -> None:
    check = check_named(storage.data_dir, settings, "data_dir")
    assert check.ok is True
    assert "will be created" in check.found


def test_a_failing_fsync_fails(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    assert "Input/output error" in check_named(storage.data_dir, settings, "data_dir").found


def test_less_free_space_than_the_reserve_fails(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, dicom={"port": 0, "min_free_bytes": 2**60})
    check = check_named(storage.free_space, settings, "free space")
    assert check.ok is False
    assert "A700" in check.remedy


def test_a_disk_that_will_be_full_soon_is_said(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    assert list(storage.disk_forecast(settings)) == []  # no database yet
    DataDir(settings).prepare()
    index = Index.open(settings.database)
    assert check_named(storage.disk_forecast, settings, "disk full").ok is True
    free = free_bytes(tmp_path)
    with database.writing(index.engine) as connection:
        for day in range(10):
            values = {"films": day * free // 5, "results": 0, "maps": 0, "index_bytes": 0}
            connection.execute(
                disk_usage.insert().values(day=f"day {day}", at=time.time() - (10 - day) * 86_400, **values)
            )
    index.close()
    check = check_named(storage.disk_forecast, settings, "disk full")
    assert check.ok is None
    assert "a day" in check.found
    assert "purge --dry-run" in check.remedy


def test_a_database_that_answers_is_in_order(settings: Settings) -> None:
    assert "will be created" in check_named(storage.database, settings, "database").found
    DataDir(settings).prepare()
    Index.open(settings.database).close()
    check = check_named(storage.database, settings, "database")
    assert check.ok is True
    assert check.found.endswith("index.sqlite answers")


def test_a_database_that_is_not_there_fails_and_its_password_is_not_told(tmp_path: Path) -> None:
    address = f"postgresql://node:secret@127.0.0.1:{free_port()}/node"
    check = check_named(storage.database, settings_for(tmp_path, database_url=address), "database")
    assert check.ok is False
    assert "refused" in check.found
    assert "secret" not in check.found
