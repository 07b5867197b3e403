"""A receiver in this process, over a spool and an index of its own."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import pytest
from pydicom.dataset import Dataset
from sqlalchemy import select

from dicom_node.config.sections import DicomSettings
from dicom_node.dimse.server.scp import StorageSCP
from dicom_node.dimse.transport import bind
from dicom_node.store.files import Spool
from dicom_node.store.index import Index
from dicom_node.store.tables import instance
from tests.support import factories
from tests.support.peers import until
from tests.support.wire import ASSOCIATE_AC, Wire, data_set_of


@functools.cache
def _empty_index() -> Path:
    """An index without instances: copied, because making its schema takes longer than most tests."""
    path = Path(tempfile.mkdtemp()) / "index.sqlite"
    atexit.register(shutil.rmtree, path.parent)
    Index.open(f"sqlite:///{path}").close()
    return path


class Receiver:
    """A Storage SCP that listens on a free port of the loopback interface."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.settings = DicomSettings(**{"min_free_bytes": 0, **settings})
        self.spool = Spool(folder / "spool", self.settings.min_free_bytes)
        self.spool.prepare()
        shutil.copy(_empty_index(), folder / "index.sqlite")
        self.index = Index.open(f"sqlite:///{folder / 'index.sqlite'}")
        self._before = set(threading.enumerate())
        self._listening = bind(self.settings.host, 0)
        self.port = int(self._listening.getsockname()[1])
        self.scp = StorageSCP(self.settings, self.spool, self.index, self._listening)
        self.scp.start()

    def instances(self) -> list[Mapping[str, Any]]:
        """Every row, oldest first."""
        with self.index.engine.connect() as connection:
            return [
                dict(row) for row in connection.execute(select(instance).order_by(instance.c.id)).mappings()
            ]

    def uids(self) -> list[str]:
        return [row["sop_instance_uid"] for row in self.instances()]

    def associated(self, **options: Any) -> Wire:
        """A connection over which an association is open: 1 Verification, 3 CR in explicit little endian."""
        wire = Wire(self.port)
        kind, body = wire.associate(**options)
        assert kind == ASSOCIATE_AC, (kind, body)
        return wire

    def idle(self) -> bool:
        """Whether nothing is left of any association: no thread, no temporary file."""
        threads = {thread for thread in threading.enumerate() if thread.name != "accept"} - self._before
        return not threads and not any(self.spool.incoming.iterdir())

    def stores(self, film: Film) -> None:
        """Assert that a film is taken, over an association of its own."""
        before = self.uids()
        with self.associated() as wire:
            assert wire.store(film.data_set, film.uid).status == 0x0000
            wire.release()
        assert self.uids() == [*before, film.uid]
        kept = self.spool.path(self.instances()[-1]["file"]).read_bytes()
        assert kept.endswith(film.data_set)

    def close(self) -> None:
        self.scp.stop(5)
        self._listening.close()
        self.index.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Film:
    """A small film on disk."""

    def __init__(self, folder: Path, number: int = 1, **options: Any) -> None:
        options = {"rows": 64, "columns": 56, "instance": number, **options}
        self.ds: Dataset = factories.film(**options)
        self.uid = str(self.ds.SOPInstanceUID)
        folder.mkdir(parents=True, exist_ok=True)
        self.path = factories.write(self.ds, folder / f"{number}.dcm")
        self.data_set = data_set_of(self.path)


@pytest.fixture
def film(tmp_path: Path) -> Callable[..., Film]:
    return lambda number=1, **options: Film(tmp_path / "films", number, **options)


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    """One with short deadlines; nothing of any association may be left at the end."""
    with Receiver(
        tmp_path / "receiver",
        association_seconds=1,
        pdu_seconds=1,
        idle_seconds=3,
        max_instance_bytes=1 << 20,
        max_associations=8,
    ) as running:
        yield running
        until(running.idle, 10, "no thread and no temporary file is left")
