from __future__ import annotations

import logging
from pathlib import Path

import pytest
from sqlalchemy import update

from dicom_node.store.files import Spool
from dicom_node.store.index import Index
from dicom_node.store.received_instances import Admission
from dicom_node.store.states import FileState
from dicom_node.store.storage_check import StorageCheck, StorageWatch, read_summary
from dicom_node.store.stored_damage import Part
from dicom_node.store.tables import instance
from tests.support.clock import Clock
from tests.support.index_records import received_instance
from tests.support.part10 import part10


class Stored:
    """Index and spool with a few small films."""

    def __init__(self, index: Index, spool: Spool, results: Spool, clock: Clock) -> None:
        self.index, self.spool, self.clock = index, spool, clock
        self.check = StorageCheck(index.engine, spool, results, clock)

    def receive(self, number: int) -> tuple[Path, Admission]:
        stored = self.spool.keep(part10(b"film %d" % number))
        admission = self.index.add_instance(
            received_instance(
                f"1.2.{number}", digest=stored.digest, size=stored.size, file=stored.name,
                placed_at=self.clock.now if stored.placed_at else 0.0,
            )
        )  # fmt: skip
        return self.spool.path(stored.name), admission


@pytest.fixture
def stored(index: Index, spool: Spool, tmp_path: Path, clock: Clock) -> Stored:
    results = Spool(tmp_path / "results")
    results.prepare(alone=True)
    return Stored(index, spool, results, clock)


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")


def test_every_file_is_read_in_turn(stored: Stored) -> None:
    paths = [stored.receive(number)[0] for number in range(5)]
    assert read_summary(stored.index.engine).checked_at is None
    damage(paths[4])
    assert [stored.check.check(Part.RECEIVED, 2) for _ in range(3)] == [2, 2, 1]
    summary = read_summary(stored.index.engine)
    assert (summary.files, summary.checked_at) == (5, stored.clock.now)
    (found,) = summary.damages
    assert (found.part, Path(found.file).name) == (Part.RECEIVED, paths[4].name)
    damage(paths[0])
    stored.check.check(Part.RECEIVED, 2)  # the first ones again
    assert len(read_summary(stored.index.engine).damages) == 2
    assert stored.check.check(Part.RESULTS, 2) == 0


def test_a_film_that_came_under_a_clock_that_was_ahead_is_repaired_too(stored: Stored) -> None:
    path, _ = stored.receive(1)
    with stored.index.engine.begin() as connection:
        connection.execute(update(instance).values(received_at=stored.clock.now + 1e7))
    assert stored.receive(1)[1] is Admission.REPEATED
    path.unlink()
    assert stored.receive(1)[1] is Admission.REPAIRED


def test_damage_is_logged_once_and_ends_when_the_film_is_sent_again(
    stored: Stored, caplog: pytest.LogCaptureFixture
) -> None:
    path, admission = stored.receive(1)
    assert admission is Admission.NEW
    damage(path)
    with caplog.at_level(logging.ERROR):
        for _ in range(4):
            stored.check.check(Part.RECEIVED, 1)
    assert len(caplog.records) == 1
    assert "damaged" in caplog.text
    stored.clock.now += 10
    assert stored.receive(1)[1] is Admission.REPAIRED
    assert read_summary(stored.index.engine).damages == ()
    assert stored.receive(1)[1] is Admission.REPEATED
    path.unlink()
    with caplog.at_level(logging.ERROR):
        for _ in range(4):
            stored.check.check(Part.RECEIVED, 1)
    assert [entry.reason for entry in read_summary(stored.index.engine).damages] == ["it is missing"]
    assert len(caplog.records) == 2


def test_files_that_are_mended_by_hand_count_as_mended(stored: Stored) -> None:
    path, _ = stored.receive(1)
    content = path.read_bytes()
    damage(path)
    stored.check.check(Part.RECEIVED, 1)
    path.write_bytes(content)
    for _ in range(2):
        stored.check.check(Part.RECEIVED, 1)
    assert read_summary(stored.index.engine).damages == ()


def test_the_files_of_a_day_are_spread_over_the_day(stored: Stored) -> None:
    for number in range(10):
        stored.receive(number)
    removed: list[int] = []
    watch = StorageWatch(stored.check, None, 48, lambda: removed.append(1) or 0)
    for _ in range(10):
        watch.turn(30)
    assert read_summary(stored.index.engine).files == 0  # one in half an hour
    for _ in range(55):
        watch.turn(30)
    assert read_summary(stored.index.engine).files == 1
    assert removed == [1]
    idle = StorageWatch(stored.check, None, 0, lambda: 0)
    idle.turn(86400)
    assert read_summary(stored.index.engine).files == 1


def test_a_purged_file_is_not_missed(stored: Stored) -> None:
    path, _ = stored.receive(1)
    path.unlink()
    with stored.index.engine.begin() as connection:
        connection.execute(update(instance).values(file_state=FileState.PURGED))
    assert stored.check.check(Part.RECEIVED, 5) == 0
    assert read_summary(stored.index.engine).damages == ()
