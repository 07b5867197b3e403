"""Fixtures for all tests."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import argon2
import hypothesis
import pytest
from sqlalchemy import Engine

from dicom_node.store import database
from tests.support.peers import leave_own_programs

# A busy machine may need long for one example: the duration says nothing about the code.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")

# As every command of the node does: keys and passwords that a test writes are for this user alone.
os.umask(0o077)

leave_own_programs()


@pytest.fixture(scope="session", autouse=True)
def migrated_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let all migrations run for the first empty SQLite database alone; the next ones are copies of it.

    To run them all takes 0.2 s, for some thousand tests. A database with a schema, one of PostgreSQL and
    those of child processes are migrated as ever.
    """
    upgrade, template = database._upgrade, tmp_path_factory.mktemp("schema") / "index.sqlite"

    def copied(engine: Engine) -> None:
        if engine.dialect.name != "sqlite" or database.schema_of(engine) is not None:
            upgrade(engine)
            return
        if not template.exists():
            first = database.connect(f"sqlite:///{template}")
            upgrade(first)
            first.dispose()
        with closing(sqlite3.connect(template)) as source, closing(engine.raw_connection()) as raw:
            source.backup(raw.driver_connection)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database, "_upgrade", copied)
        yield


@pytest.fixture(scope="session")
def light_passwords() -> Iterator[None]:
    """Let passwords be hashed with the least work; hashes of the node take 64 MiB and all cores each."""
    from dicom_node.web.auth import accounts  # the page is not for each test

    hasher = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(accounts, "_HASHER", hasher)
        patch.setattr(accounts, "_DUMMY_HASH", hasher.hash("no password"))
        yield


@pytest.fixture(scope="session")
def films_root() -> Path:
    """Folder of the research films (CXR_TEST_DATA); tests that use it carry the marker `films`."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    root = Path(os.environ.get("CXR_TEST_DATA") or default)
    if not (root / "dicom").is_dir():
        pytest.skip(f"no research films in {root}: set CXR_TEST_DATA")
    return root


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """Browser of playwright: Chromium; tests that use it carry the marker `peer`."""
    from tests.support.browser import launched

    with launched() as browser:
        yield browser
