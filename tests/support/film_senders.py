"""Senders that keep receivers busy, and the check that what they were promised is there."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import select

from dicom_node.config.data_dir import DataDir
from dicom_node.config.settings import Settings
from dicom_node.store.files import digest_of
from dicom_node.store.index import Index
from dicom_node.store.tables import instance
from tests.support.film_file import FilmFile
from tests.support.raw_association import ABORT, ASSOCIATE_AC, CR, RawAssociation, message, store_rq


class Sender(threading.Thread):
    """Sends one film after another, each with a UID of its own, until it is stopped or cut off."""

    def __init__(self, port: int, film: FilmFile, number: int) -> None:
        super().__init__(daemon=True)
        self.acknowledged: list[str] = []
        self.aborted = False
        self._port = port
        self._film = film
        self._number = number
        self._stopped = threading.Event()

    def run(self) -> None:
        template = self._film.uid.encode()
        try:
            with RawAssociation(self._port) as wire:
                if wire.associate()[0] != ASSOCIATE_AC:
                    return
                while not self._stopped.is_set():
                    number = b"%04d%06d" % (self._number, len(self.acknowledged))
                    uid = template[:-10] + number
                    encoded = message(store_rq(CR.encode(), uid), self._film.data_set.replace(template, uid))
                    wire.write(encoded)
                    kind, body = wire.read()
                    if kind == ABORT:
                        self.aborted = True
                        return
                    assert body[6:].find(b"\x00\x00\x00\x09\x02\x00\x00\x00\x00\x00") > 0, body
                    self.acknowledged.append(uid.decode())
        except (EOFError, OSError):
            self.aborted = True

    def stop(self) -> None:
        self._stopped.set()
        self.join(20)


@contextmanager
def load(port: int, film: FilmFile, senders: int = 6) -> Iterator[list[Sender]]:
    running = [Sender(port, film, number) for number in range(senders)]
    for sender in running:
        sender.start()
    try:
        yield running
    finally:
        for sender in running:
            sender.stop()


def assert_all_kept(settings: Settings, acknowledged: list[str]) -> None:
    """Every acknowledged UID has a row, and its file has the digest of the row."""
    index = Index.open(settings.database)
    spool = DataDir(settings).spool
    with index.engine.connect() as connection:
        rows = {row.sop_instance_uid: row for row in connection.execute(select(instance))}
    index.close()
    assert set(acknowledged) <= set(rows)
    for uid in acknowledged:
        assert digest_of(spool.path(rows[uid].file)) == rows[uid].digest
