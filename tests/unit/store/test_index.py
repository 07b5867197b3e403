from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import select

from dicom_node.errors import StorageFailed
from dicom_node.store import database
from dicom_node.store.analysis_leases import AnalysisLeases
from dicom_node.store.audit import IndexQueries
from dicom_node.store.index import Index
from dicom_node.store.received_instances import Admission, ReceivedInstance
from dicom_node.store.states import StudyState
from dicom_node.store.tables import instance, metadata
from tests.support.clock import Clock
from tests.support.index_records import THIS_PROCESS, received_instance


def states(index: Index) -> list[tuple[StudyState, int]]:
    return [(row.state, row.revision) for row in IndexQueries(index.engine).studies()]


def test_the_same_instance_again_is_counted_and_changes_nothing(index: Index) -> None:
    assert index.add_instance(received_instance()) is Admission.NEW
    assert index.complete_due(0, 300) == 1
    assert index.add_instance(received_instance()) is Admission.REPEATED
    assert states(index) == [(StudyState.COMPLETE, 1)]
    with database.reading(index.engine) as connection:
        assert connection.execute(select(instance.c.receptions)).scalars().all() == [2]


def test_the_same_uid_with_other_bytes_is_kept_apart_and_opens_no_revision(index: Index) -> None:
    index.add_instance(received_instance())
    index.complete_due(0, 300)
    assert index.add_instance(received_instance(digest="b" * 64)) is Admission.SET_ASIDE
    assert states(index) == [(StudyState.COMPLETE, 1)]
    with database.reading(index.engine) as connection:
        rows = connection.execute(select(instance.c.digest, instance.c.set_aside)).all()
    assert [tuple(row) for row in rows] == [("a" * 64, ""), ("b" * 64, "conflict")]


def test_a_result_of_a_node_that_comes_back_opens_no_revision(index: Index) -> None:
    index.add_instance(received_instance())
    index.complete_due(0, 300)
    back = received_instance(sop="1.2.4", digest="c" * 64, own_result=True)
    assert index.add_instance(back) is Admission.SET_ASIDE
    assert states(index) == [(StudyState.COMPLETE, 1)]


@pytest.mark.parametrize(("seconds", "complete"), [(4.9, 0), (5.0, 1)])
def test_a_study_is_complete_after_its_quiet_time(
    index: Index, clock: Clock, seconds: float, complete: int
) -> None:
    index.add_instance(received_instance())
    clock.now += 3
    index.add_instance(received_instance(sop="1.2.4", digest="b" * 64))
    clock.now += seconds
    assert index.complete_due(5, 300) == complete


def test_a_study_that_never_rests_is_ended_by_force(index: Index, clock: Clock) -> None:
    for number in range(11):
        index.add_instance(received_instance(sop=f"1.2.{number + 10}", digest=f"{number:064x}"))
        clock.now += 1
    assert index.complete_due(5, 300) == 0
    assert index.complete_due(5, 10) == 1


def test_a_late_image_makes_a_new_revision(index: Index) -> None:
    index.add_instance(received_instance())
    index.complete_due(0, 300)
    index.add_instance(received_instance(sop="1.2.4", digest="b" * 64))
    assert states(index) == [(StudyState.RECEIVING, 2)]


def test_a_clock_set_back_does_not_keep_studies_waiting(index: Index, clock: Clock) -> None:
    index.add_instance(received_instance())
    clock.now -= 86400
    assert index.complete_due(5, 300) == 1
    assert len(index.take_queueable(300)) == 1


def test_a_queued_study_is_offered_again_only_when_it_seems_lost(index: Index, clock: Clock) -> None:
    index.add_instance(received_instance())
    index.complete_due(0, 300)
    assert index.take_queueable(300) == [("1.2", 1)]
    assert index.take_queueable(300) == []
    clock.now += 301
    assert index.take_queueable(300) == [("1.2", 1)]
    index.unqueue("1.2", 1)
    assert index.take_queueable(300) == [("1.2", 1)]


def test_a_backlog_is_queued_once(index: Index, clock: Clock) -> None:
    """Only a study whose turn in the queue has passed has lost its message."""
    leases = AnalysisLeases(index.engine, clock)
    for number in range(3):
        index.add_instance(received_instance(f"1.3.{number}", f"1.2.{number}", f"{number:064x}"))
        clock.now += 1
        index.complete_due(0, 300)
        assert index.take_queueable(300) == [(f"1.2.{number}", 1)]
    assert leases.acquire("1.2.0", 1, THIS_PROCESS, 1e6) is not None
    clock.now += 3600
    assert index.take_queueable(300, messages_wait=True) == []
    assert leases.acquire("1.2.2", 1, THIS_PROCESS, 1e6) is not None
    assert index.take_queueable(300, messages_wait=True) == [("1.2.1", 1)]
    assert index.take_queueable(300, messages_wait=True) == []
    clock.now -= 86400  # a clock that was set back keeps no study waiting
    assert index.take_queueable(300, messages_wait=True) == [("1.2.1", 1)]


def test_the_index_outlives_its_process(index: Index, address: str) -> None:
    index.add_instance(received_instance())
    index.complete_due(0, 300)
    again = Index.open(address)
    assert states(again) == [(StudyState.COMPLETE, 1)]
    again.close()


@pytest.mark.parametrize("address", ["sqlite"], indirect=True)
def test_sqlite_commits_are_durable(index: Index) -> None:
    with index.engine.connect().execution_options(reading=True) as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2


def test_an_index_that_cannot_be_opened_is_one_sentence(tmp_path: object) -> None:
    with pytest.raises(StorageFailed, match="unable to open database file"):
        Index.open("sqlite:////nonexistent/folder/index.sqlite")


def test_the_migrations_make_the_tables(index: Index) -> None:
    with index.engine.connect().execution_options(reading=True) as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_writers_in_many_threads_wait_for_each_other(index: Index) -> None:
    def add(number: int) -> Admission:
        return index.add_instance(received_instance(sop=f"1.2.{number % 40}", digest=f"{number % 40:064x}"))

    with ThreadPoolExecutor(8) as pool:
        admissions = list(pool.map(add, range(80)))
    assert admissions.count(Admission.NEW) == 40
    assert admissions.count(Admission.REPEATED) == 40


def test_an_instance_that_cannot_be_added_keeps_no_other_of_its_group_out(index: Index) -> None:
    good = [received_instance(sop=f"1.2.{number}", digest=f"{number:064x}") for number in range(4)]
    bad = received_instance(sop="1.2.9", digest="9" * 64, size=10**30)  # no database takes such a number
    outcomes = index._add_group([*good[:2], bad, *good[2:]])
    assert [each for each in outcomes if each is not outcomes[2]] == [Admission.NEW] * 4
    assert isinstance(outcomes[2], Exception)
    with database.reading(index.engine) as connection:
        kept = connection.execute(select(instance.c.sop_instance_uid)).scalars().all()
    assert sorted(kept) == [f"1.2.{number}" for number in range(4)]


def test_the_same_instance_twice_in_a_group_is_one_row_and_other_bytes_are_a_conflict(index: Index) -> None:
    one, other = received_instance(), received_instance(digest="b" * 64)
    assert index._add_group([one, other, one]) == [Admission.NEW, Admission.SET_ASIDE, Admission.REPEATED]
    with database.reading(index.engine) as connection:
        rows = connection.execute(
            select(instance.c.digest, instance.c.set_aside, instance.c.receptions)
        ).all()
    assert sorted(tuple(row) for row in rows) == [("a" * 64, "", 2), ("b" * 64, "conflict", 1)]
    assert states(index) == [(StudyState.RECEIVING, 1)]


def test_a_group_that_finds_no_database_fails_at_once_and_not_one_by_one(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[int] = []

    def fail(group: Sequence[ReceivedInstance]) -> list[Admission]:
        tries.append(len(group))
        raise StorageFailed("database: the server closed the connection")

    monkeypatch.setattr(index, "_add", fail)
    outcomes = index._add_group([received_instance(), received_instance(sop="1.2.4", digest="b" * 64)])
    assert all(isinstance(each, StorageFailed) for each in outcomes)
    assert tries == [2]
