"""Storage SCP in the process of the test, over its own spool and index."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from sqlalchemy import select

from dicom_node.audit_trail.trail import AuditTrail
from dicom_node.config.sections import DicomSettings
from dicom_node.config.settings import Settings
from dicom_node.dimse.server.scp import StorageSCP
from dicom_node.dimse.transport import bind
from dicom_node.store.files import Spool
from dicom_node.store.index import Index
from dicom_node.store.tables import instance
from tests.support.film_file import FilmFile
from tests.support.raw_association import ASSOCIATE_AC, RawAssociation


@functools.cache
def _empty_index() -> Path:
    """Path of an empty index. Receivers copy it, because making the schema takes longer than most tests."""
    path = Path(tempfile.mkdtemp()) / "index.sqlite"
    atexit.register(shutil.rmtree, path.parent)
    Index.open(f"sqlite:///{path}").close()
    return path


class Receiver:
    """Storage SCP that listens on a free port of the loopback interface."""

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
        self.audit_trail = AuditTrail.open(Settings(data_dir=folder, dicom=self.settings), self.index.engine)
        self.scp = StorageSCP(
            self.settings, self.spool, self.index, self._listening, audit_trail=self.audit_trail
        )
        self.scp.start()

    def instances(self) -> list[Mapping[str, Any]]:
        """Rows of all instances, oldest first."""
        with self.index.engine.connect() as connection:
            return [
                dict(row) for row in connection.execute(select(instance).order_by(instance.c.id)).mappings()
            ]

    def uids(self) -> list[str]:
        return [row["sop_instance_uid"] for row in self.instances()]

    def associated(self, **options: Any) -> RawAssociation:
        """Open an association with context 1 (Verification) and 3 (CR, Explicit VR Little Endian)."""
        wire = RawAssociation(self.port)
        kind, body = wire.associate(**options)
        assert kind == ASSOCIATE_AC, (kind, body)
        return wire

    def idle(self) -> bool:
        """Whether every association is over: no thread and no temporary file is left."""
        threads = {thread for thread in threading.enumerate() if thread.name != "accept"} - self._before
        return not threads and not any(self.spool.incoming.iterdir())

    def stores(self, film: FilmFile) -> None:
        """Assert that a film is accepted over a new association and kept byte by byte."""
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
