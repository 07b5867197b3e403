"""Fixtures for tests of the store, over SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from dicom_node.store import database
from dicom_node.store.analysis_leases import AnalysisLeases
from dicom_node.store.delivery_queue import DeliveryQueue
from dicom_node.store.files import Spool
from dicom_node.store.index import Index
from tests.support.clock import Clock
from tests.support.peers import postgresql


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with postgresql(tmp_path_factory.mktemp("server")) as address:
        yield address


@pytest.fixture(params=["sqlite", "postgresql"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Address of an empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'index.sqlite'}"
    address: str = request.getfixturevalue("server")
    engine = database.connect(address)
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    engine.dispose()
    return address


@pytest.fixture
def index(address: str, clock: Clock) -> Iterator[Index]:
    engine = database.connect(address)
    database.migrate(engine)
    yield Index(engine, clock)
    engine.dispose()


@pytest.fixture
def leases(index: Index, clock: Clock) -> AnalysisLeases:
    return AnalysisLeases(index.engine, clock)


@pytest.fixture
def delivery_queue(index: Index, clock: Clock) -> DeliveryQueue:
    return DeliveryQueue(index.engine, clock)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    spool = Spool(tmp_path / "spool")
    spool.prepare(alone=True)
    return spool
