from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_node.errors import StorageFull
from dicom_node.store import database
from dicom_node.store.files import free_bytes
from dicom_node.store.index import Index
from dicom_node.store.reserve import Reserve
from tests.support.clock import Clock
from tests.support.holdings import Holdings
from tests.support.simulated_year import SimulatedYear


def holdings(folder: Path) -> Holdings:
    clock = Clock()
    engine = database.connect(f"sqlite:///{folder / 'index.sqlite'}")
    database.migrate(engine)
    return Holdings(Index(engine, clock), folder / "data", clock)


def test_a_year_of_films_stays_within_the_disk_and_nothing_unconfirmed_goes(tmp_path: Path) -> None:
    """300 films in 365 days; `make chaos` lets 20,000 come."""
    year = SimulatedYear(holdings(tmp_path), 300, step=5)
    year.run()
    assert year.most_bytes > year.capacity * 7 // 10, "the disk was never near its limit"
    assert year.waiting


@contextlib.contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """Mount a disk of `size` bytes; skip where that is not allowed."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no disk can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a disk")
def test_the_results_of_every_film_that_was_taken_fit_on_the_disk(tmp_path: Path) -> None:
    """On a disk of 32 MiB films of 100 kB come whose results take 1 MB each, until they are refused."""
    with small_disk(tmp_path / "disk", 32 * 2**20) as disk:
        held = holdings(tmp_path)  # only the files lie on the small disk
        held = Holdings(held.index, disk, held.clock)
        held.spool._min_free_bytes = 2**20
        for number in range(1, 11):  # what the node measures
            held.film(f"1.{number}", size=1000)
            held.end(f"1.{number}", size=1_000_000)
        reserve = Reserve(held.index.engine, held.spool)
        taken: list[str] = []

        def take_all() -> None:
            for number in range(100, 1000):
                reserve.check_room()
                held.film(f"1.{number}", size=100_000)
                taken.append(f"1.{number}")

        with pytest.raises(StorageFull, match="MiB for results to come"):
            take_all()
        assert 10 < len(taken) < 25
        for uid in taken:
            held.end(uid, size=1_000_000)  # raises StorageFull if there were no room
        assert free_bytes(disk) > 0
        assert held.audit().conserved


def test_a_film_counts_before_it_is_in_the_index(tmp_path: Path) -> None:
    held = holdings(tmp_path)
    held.spool._min_free_bytes = free_bytes(tmp_path) - 100 * 2**20
    reserve = Reserve(held.index.engine, held.spool, clock=lambda: 0.0)
    reserve.check_room()  # each promises 40 MiB, until the node has measured its own results
    reserve.check_room()
    reserve.check_room()
    with pytest.raises(StorageFull):
        reserve.check_room()
    held.spool._min_free_bytes = 0
    reserve.check_room()
