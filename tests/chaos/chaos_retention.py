"""A year of 20,000 films on a disk with room for a tenth of what they make: nothing unconfirmed goes.

Run: ``python -m pytest tests/chaos -s -o python_files='chaos_*.py' -k retention``; it prints as it goes.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dicom_node.store import database
from dicom_node.store.index import Index
from tests.support.clock import Clock
from tests.support.holdings import Holdings
from tests.support.simulated_year import SimulatedYear

FILMS = int(os.environ.get("CHAOS_FILMS", "20000"))


@pytest.mark.timeout(3600)
def test_a_year_of_films_stays_within_the_disk_and_nothing_unconfirmed_goes(tmp_path: Path) -> None:
    clock = Clock()
    engine = database.connect(f"sqlite:///{tmp_path / 'index.sqlite'}")
    database.migrate(engine)
    year = SimulatedYear(Holdings(Index(engine, clock), tmp_path / "data", clock), FILMS, say=print)
    year.run()
    assert year.most_bytes > year.capacity * 7 // 10, "the disk was never near its limit"
    assert year.waiting
    print(f"{FILMS} films, disk of {year.capacity} bytes, most used {year.most_bytes}")
    engine.dispose()
