"""SCP processes that share a port: what they acknowledged is there, however they end."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import select

from dicom_node.config.data_dir import DataDir
from dicom_node.config.settings import Settings
from dicom_node.store.files import digest_of
from dicom_node.store.index import Index
from dicom_node.store.tables import instance
from tests.support.film_file import FilmFile
from tests.support.peers import until
from tests.support.raw_association import ABORT, ASSOCIATE_AC, CR, RawAssociation, message, store_rq
from tests.support.scp_processes import ScpProcesses

MakeFilm = Callable[..., FilmFile]


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


@pytest.fixture
def small(film: MakeFilm) -> FilmFile:
    return film(rows=300, columns=300)


def test_both_processes_serve_and_one_may_die(tmp_path: Path, small: FilmFile) -> None:
    with ScpProcesses(tmp_path, 2) as scp:
        with load(scp.port, small, 8) as senders:
            until(lambda: all(sender.acknowledged for sender in senders), 30, "all senders are served")
        assert all(Path(f"/proc/{pid}").exists() for pid in scp.pids)
        os.kill(scp.pids[0], signal.SIGKILL)
        scp.processes[0].wait(10)
        with load(scp.port, small, 2) as senders:
            until(lambda: all(sender.acknowledged for sender in senders), 30, "the other one serves")


def test_who_was_too_late_for_a_connection_does_not_wait_for_the_next_and_ends(
    tmp_path: Path, small: FilmFile
) -> None:
    with ScpProcesses(tmp_path, 4) as scp:
        with load(scp.port, small, 8) as senders:
            until(lambda: all(sender.acknowledged for sender in senders), 30, "all senders are served")
        # The flag is of the socket that all of them share.
        assert not os.get_blocking(scp.listening.fileno())
        assert scp.stop(5) == [0] * 4


def test_sigterm_under_load_finishes_what_was_begun_and_exits_0(tmp_path: Path, small: FilmFile) -> None:
    with ScpProcesses(tmp_path, 2) as scp:
        with load(scp.port, small) as senders:
            until(lambda: sum(len(sender.acknowledged) for sender in senders) > 20, 30, "load")
            begun = time.monotonic()
            assert scp.stop() == [0, 0]
            assert time.monotonic() - begun < 20
            for sender in senders:
                sender.join(10)
        assert_all_kept(scp.settings, [uid for sender in senders for uid in sender.acknowledged])
        assert list(DataDir(scp.settings).spool.incoming.iterdir()) == []
        assert "Traceback" not in scp.log.read_text()


@pytest.mark.parametrize("attempt", range(3))
def test_what_was_acknowledged_survives_a_kill(tmp_path: Path, small: FilmFile, attempt: int) -> None:
    with ScpProcesses(tmp_path, 2) as scp:
        with load(scp.port, small) as senders:
            until(lambda: sum(len(one.acknowledged) for one in senders) > 5 + 7 * attempt, 30, "load")
            for pid in scp.pids:
                os.kill(pid, signal.SIGKILL)
            for sender in senders:
                sender.join(10)
        acknowledged = [uid for sender in senders for uid in sender.acknowledged]
        assert_all_kept(scp.settings, acknowledged)
        DataDir(scp.settings).spool.prepare(alone=True)
        assert list(DataDir(scp.settings).spool.incoming.iterdir()) == []


def test_a_process_stays_small_under_many_large_films(tmp_path: Path, film: MakeFilm) -> None:
    large = film(rows=1800, columns=1500)
    with ScpProcesses(tmp_path, 1) as scp:
        with load(scp.port, large, 16) as senders:
            until(
                lambda: all(len(sender.acknowledged) > 1 for sender in senders), 90, "all senders are served"
            )
        status = Path(f"/proc/{scp.pids[0]}/status").read_text()
        peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
        assert peak < 200 * 1024, f"{peak / 1024:.0f} MiB"
