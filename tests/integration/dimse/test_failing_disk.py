"""Receivers whose disk fills up at any step, or becomes read-only: what was acknowledged is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
from tests.support.raw_association import RawAssociation
from tests.support.scp_processes import ScpProcesses

MakeFilm = Callable[..., FilmFile]
SUCCESS, NOT_NOW = 0x0000, (0xA700, 0xA701)
STEPS = (0, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)

pytestmark = pytest.mark.skipif(not can_mount(), reason="needs the right to mount a file system")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[LoopDisk]:
    with LoopDisk(tmp_path, 24) as mounted:
        yield mounted


def store(port: int, film: FilmFile) -> int:
    with RawAssociation(port) as wire:
        wire.associate()
        status = wire.store(film.data_set, film.uid).status
        wire.release()
    return int(status)


def assert_kept(data_dir: Path, acknowledged: list[str]) -> None:
    settings = Settings(data_dir=data_dir)
    index = Index.open(settings.database, create=False)
    node = DataDir(settings)
    audit = IndexQueries(index.engine).audit(node.spool, node.results, read_files=True)
    with index.engine.connect().execution_options(reading=True) as connection:
        kept = set(connection.execute(select(instance.c.sop_instance_uid)).scalars())
    index.close()
    assert audit.conserved, audit.violations
    assert set(acknowledged) <= kept


def test_a_disk_that_fills_at_any_step_loses_nothing(disk: LoopDisk, film: MakeFilm) -> None:
    data = disk.path / "node"
    with ScpProcesses(data, count=1) as scp:
        acknowledged, refused, number = [], 0, 0
        for kibibytes in STEPS:
            filler = disk.fill(kibibytes * 1024)
            for _ in range(6):
                number += 1
                status = store(scp.port, film(number, rows=16, columns=16))
                assert status in (SUCCESS, *NOT_NOW)
                if status == SUCCESS:
                    acknowledged.append(film(number, rows=16, columns=16).uid)
                else:
                    refused += 1
            filler.unlink()
            number += 1
            sent = film(number, rows=16, columns=16)
            assert store(scp.port, sent) == SUCCESS  # goes on without a person
            acknowledged.append(sent.uid)
        assert refused
        assert scp.stop() == [0]
    assert_kept(data, acknowledged)


def test_a_disk_that_becomes_read_only_acknowledges_nothing_more(
    tmp_path: Path, disk: LoopDisk, film: MakeFilm
) -> None:
    acknowledged = []
    with ScpProcesses(disk.path / "node", count=2) as scp:
        for number in range(1, 6):
            assert store(scp.port, film(number)) == SUCCESS
            acknowledged.append(film(number).uid)
        disk.abort()
        for number in range(6, 10):
            assert store(scp.port, film(number)) in NOT_NOW
    with disk.as_after_a_power_cut(tmp_path / "later") as mounted:
        assert_kept(mounted / "node", acknowledged)
