"""The power is cut while films come in: whatever was acknowledged is on the disk.

Run as root: ``python -m pytest tests/chaos -s -o python_files='chaos_*.py' -k power``. The data directory
lies on an ext4 file system in a file. At random moments all receivers are stopped, and the file is copied as
the disk has it: that is what a power cut would leave. The copy is mounted and compared with what had been
acknowledged.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import select

from dicom_node.config.data_dir import DataDir
from dicom_node.config.settings import Settings
from dicom_node.store.audit import IndexQueries
from dicom_node.store.index import Index
from dicom_node.store.tables import instance
from tests.support.film_file import FilmFile
from tests.support.loop_disk import LoopDisk, can_mount
from tests.support.raw_association import CR, RawAssociation, message, store_rq
from tests.support.scp_processes import ScpProcesses

CUTS = int(os.environ.get("CHAOS_CUTS", "20"))
SENDERS = 3


class _Sender(threading.Thread):
    """Sends one film after another over one association, until it is stopped."""

    def __init__(self, port: int, film: FilmFile, number: int) -> None:
        super().__init__(daemon=True)
        self.acknowledged: list[str] = []
        self._port, self._film, self._number = port, film, number
        self._stopped = threading.Event()

    def run(self) -> None:
        template = self._film.uid.encode()
        with RawAssociation(self._port) as wire:
            wire.associate()
            while not self._stopped.is_set():
                uid = template[:-10] + b"%04d%06d" % (self._number, len(self.acknowledged))
                wire.write(message(store_rq(CR.encode(), uid), self._film.data_set.replace(template, uid)))
                _, body = wire.read()
                if body[6:].find(b"\x00\x00\x00\x09\x02\x00\x00\x00\x00\x00") > 0:
                    self.acknowledged.append(uid.decode())

    def stop(self) -> None:
        self._stopped.set()
        self.join(20)


def _lost(data_dir: Path, acknowledged: list[str]) -> set[str]:
    settings = Settings(data_dir=data_dir)
    index = Index.open(settings.database, create=False)
    node = DataDir(settings)
    audit = IndexQueries(index.engine).audit(node.spool, node.results, read_files=True)
    with index.engine.connect().execution_options(reading=True) as connection:
        kept = set(connection.execute(select(instance.c.sop_instance_uid)).scalars())
    index.close()
    assert audit.conserved, audit.violations
    return set(acknowledged) - kept


@pytest.mark.skipif(not can_mount(), reason="needs the right to mount a file system")
def test_a_power_cut_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    film = FilmFile(tmp_path / "films", 1)
    chance = random.Random(15)
    with LoopDisk(tmp_path, 600) as disk, ScpProcesses(disk.path / "node", count=2) as scp:
        senders = [_Sender(scp.port, film, number) for number in range(SENDERS)]
        for sender in senders:
            sender.start()
        try:
            for cut in range(CUTS):
                time.sleep(chance.uniform(0.3, 1.5))  # the moment of the cut
                for pid in scp.pids:
                    os.kill(pid, signal.SIGSTOP)
                acknowledged = [uid for sender in senders for uid in list(sender.acknowledged)]
                with disk.as_after_a_power_cut(tmp_path / f"cut-{cut}") as mounted:
                    for pid in scp.pids:
                        os.kill(pid, signal.SIGCONT)
                    assert not _lost(mounted / "node", acknowledged)
        finally:
            for sender in senders:
                sender.stop()
    print(f"{CUTS} cuts, {len(acknowledged)} films acknowledged, none lost")
