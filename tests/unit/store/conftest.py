"""An index, its clock and its spools, over the databases that the node supports."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from dicom_node.store import database
from dicom_node.store.analysis_leases import Claims
from dicom_node.store.delivery_queue import Outbox
from dicom_node.store.files import Spool
from dicom_node.store.index import Index, ReceivedInstance
from tests.support.peers import postgresql


class Clock:
    """Seconds since the epoch, moved by the test."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


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
def claims(index: Index, clock: Clock) -> Claims:
    return Claims(index.engine, clock)


@pytest.fixture
def outbox(index: Index, clock: Clock) -> Outbox:
    return Outbox(index.engine, clock)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    spool = Spool(tmp_path / "spool")
    spool.prepare(alone=True)
    return spool


def received(
    sop: str = "1.2.3", study: str = "1.2", digest: str = "a" * 64, **fields: object
) -> ReceivedInstance:
    values: dict[str, object] = {
        "sop_instance_uid": sop,
        "sop_class_uid": "1.2.840.10008.5.1.4.1.1.1",
        "transfer_syntax_uid": "1.2.840.10008.1.2.1",
        "study_instance_uid": study,
        "series_instance_uid": "1.2.9",
        "digest": digest,
        "size": 10,
        "file": f"aa/{digest}.dcm",
        "calling_ae": "MODALITY",
        "peer_host": "127.0.0.1",
    }
    return ReceivedInstance(**{**values, **fields})  # type: ignore[arg-type]
