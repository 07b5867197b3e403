"""Fixtures for all tests."""

from __future__ import annotations

import gc
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import argon2
import hypothesis
import pytest
from sqlalchemy import Engine, inspect

from dicom_node.store import database
from tests.support.peers import leave_own_programs

# A busy machine may need long for one example: the duration says nothing about the code.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")

# As every command of the node does: keys and passwords that a test writes are for this user alone.
os.umask(0o077)

leave_own_programs()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Spread the files whose tests wait for nodes and peers among those that compute.

    In the order of the folders three processes would first wait together, with cores idle, and then compute
    together. One process alone keeps that order.
    """
    if not hasattr(config, "workerinput"):
        return
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    waiting = [path for path in files if {"e2e", "integration"} & {*path.relative_to(config.rootpath).parts}]
    computing = [path for path in files if path not in waiting]
    places = {path: place / len(each) for each in (waiting, computing) for place, path in enumerate(each)}
    # The last ones are short: with a long one, the other processes would have nothing more to do.
    places.update({path: 0.8 * places[path] for path in waiting})
    items[:] = [item for path in sorted(files, key=places.__getitem__) for item in files[path]]


@pytest.fixture(scope="session", autouse=True)
def created_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let the tables of the first empty SQLite database alone be made; the next ones are copies of it.

    There are some thousand of them. Those of PostgreSQL and of child processes are made as ever.
    """
    create, template = database._create, tmp_path_factory.mktemp("schema") / "index.sqlite"

    def copied(engine: Engine) -> None:
        if engine.dialect.name != "sqlite" or inspect(engine).get_table_names():
            create(engine)
            return
        if not template.exists():
            first = database.connect(f"sqlite:///{template}")
            create(first)
            first.dispose()
        with closing(sqlite3.connect(template)) as source, closing(engine.raw_connection()) as raw:
            source.backup(raw.driver_connection)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database, "_create", copied)
        yield


@pytest.fixture(scope="module", autouse=True)
def frozen_heap() -> Iterator[None]:
    """Keep what earlier modules have left out of the garbage collector's sight.

    A process of the tests holds torch, FastAPI and all test modules; one look through them takes a second.
    """
    yield
    gc.collect()
    gc.freeze()


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
