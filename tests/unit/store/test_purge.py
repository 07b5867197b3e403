from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text, update

from dicom_node.store import database
from dicom_node.store.audit import IndexQueries
from dicom_node.store.deletion_lock import no_deletion
from dicom_node.store.index import Index
from dicom_node.store.pins import Pins
from dicom_node.store.prior_pairs import PriorPairing, PriorPairs
from dicom_node.store.prior_requests import PriorRequests
from dicom_node.store.purge import Purge
from dicom_node.store.received_instances import Admission
from dicom_node.store.retention_limits import RetentionLimits
from dicom_node.store.states import FileState, StudyState
from dicom_node.store.tables import access, commitment, instance, prior_request, study
from tests.support.clock import Clock
from tests.support.holdings import DAY, OWNER, Holdings

ALL = dict.fromkeys(
    ("films_days", "results_days", "maps_days", "unconfirmed_days", "trials_days", "priors_days"), 10.0
) | {"set_aside_days": 10.0}


@pytest.fixture
def held(index: Index, tmp_path: Path, clock: Clock) -> Holdings:
    return Holdings(index, tmp_path / "data", clock)


def went(purge: Purge) -> dict[tuple[str, str], int]:
    """Number of files that a purge says went, by setting and kind."""
    return {(each.setting, each.what): each.count for each in purge.run()}


def test_what_is_confirmed_and_old_goes_and_its_rows_stay(held: Holdings) -> None:
    held.film("1.1")
    held.end("1.1")
    held.confirm()
    held.clock.now += 9 * DAY
    assert went(held.purge(**ALL)) == {}
    held.clock.now += 2 * DAY
    expected = {("films_days", "films"): 1, ("results_days", "results"): 1, ("maps_days", "maps"): 1}
    previewed = {(each.setting, each.what): each.count for each in held.purge(**ALL).preview()}
    assert previewed == expected
    assert held.files() == (1, 1, 1)
    assert went(held.purge(**ALL)) == expected
    assert held.files() == (0, 0, 0)
    audit = held.audit()
    assert audit.conserved, audit.violations
    assert (audit.received, audit.fates["purged"], audit.fates["delivered"]) == (1, 1, 0)
    with held.index.engine.connect() as connection:
        row = connection.execute(select(instance)).one()
    assert (row.file_state, row.purged_by, row.size > 0, len(row.digest)) == (
        "PURGED",
        "films_days",
        True,
        64,
    )
    assert row.purged_at == held.clock.now
    assert went(held.purge(**ALL)) == {}


def _received(held: Holdings) -> None:
    held.film("1.1")


def _complete(held: Holdings) -> None:
    held.film("1.1")
    held.index.complete("1.1")


def _analysing(held: Holdings) -> None:
    _complete(held)
    assert held.leases.acquire("1.1", 1, OWNER, 1e9) is not None


def _waiting(held: Holdings) -> None:
    held.film("1.1")
    held.end("1.1")


def _sent(held: Holdings) -> None:
    _waiting(held)
    held.send()


def _confirmed_by_one_of_two(held: Holdings) -> None:
    held.film("1.1")
    held.end("1.1", destinations=("pacs", "archive"))
    held.confirm()


def _late_film(held: Holdings) -> None:
    _waiting(held)
    held.confirm()
    held.film("1.1", 2)


@pytest.mark.parametrize(
    "arrange", [_received, _complete, _analysing, _waiting, _sent, _confirmed_by_one_of_two, _late_film]
)
def test_nothing_that_waits_is_ever_purged(held: Holdings, arrange: Callable[[Holdings], None]) -> None:
    arrange(held)
    held.clock.now += 1000 * DAY
    before = held.files()
    limits = RetentionLimits(ALL, free_below=10**12, free_until=10**12, least_days=0)
    assert held.purge(limits, free=0).preview() == []
    assert went(held.purge(limits, free=0)) == {}
    assert held.files() == before
    assert held.audit().conserved


@pytest.mark.parametrize("state", [StudyState.REPORTED, StudyState.SKIPPED, StudyState.FAILED])
def test_what_nothing_will_confirm_goes_after_an_age_of_its_own(held: Holdings, state: StudyState) -> None:
    held.film("1.1")
    held.end("1.1", state, destinations=())
    held.film("1.2")
    held.end("1.2", state)
    held.reject()
    held.clock.now += 11 * DAY
    confirmed_only = {name: 1.0 for name in ALL if name != "unconfirmed_days"}
    assert went(held.purge(**confirmed_only)) == {}
    assert went(held.purge(RetentionLimits({}, 10**12, 10**12, 0), free=0)) == {}
    assert went(held.purge(**ALL)) == {("unconfirmed_days", what): 2 for what in ("films", "results", "maps")}
    audit = held.audit()
    assert audit.conserved, audit.violations
    assert audit.fates["purged"] == 2


def test_a_rejected_result_that_was_purged_is_not_tried_again(held: Holdings) -> None:
    held.film("1.1")
    held.end("1.1")
    held.reject()
    held.clock.now += 11 * DAY
    held.purge(**ALL).run()
    assert held.queue.retry() == 0
    assert held.queue.take("pacs", OWNER, 60) == []
    assert held.index.retry(states=[StudyState.REPORTED]) == 0
    assert held.audit().conserved


def test_each_kind_of_film_has_its_own_age(held: Holdings) -> None:
    held.trial("1.1")
    held.end("1.1", destinations=())
    held.film("1.2", own_result=True)
    held.end("1.2", StudyState.SKIPPED, results=0, destinations=())
    PriorRequests(held.index.engine, held.clock).record("1.3", source_ae="PACS", move_destination="NODE")
    assert held.film("1.3", moved_for="NODE") is Admission.PRIOR
    held.clock.now += 11 * DAY
    assert held.audit().fates["set_aside"] == 1
    assert went(held.purge(films_days=1)) == {}
    assert went(held.purge(trials_days=10)) == {("trials_days", w): 1 for w in ("films", "results", "maps")}
    assert went(held.purge(set_aside_days=10)) == {("set_aside_days", "films"): 1}
    assert went(held.purge(priors_days=10)) == {("priors_days", "films"): 1}
    assert held.files()[0] == 0
    audit = held.audit()
    assert (audit.conserved, audit.fates["purged"], audit.set_aside) == (True, 3, {})


def test_a_pinned_study_stays_until_it_is_unpinned(held: Holdings) -> None:
    held.film("1.1")
    held.end("1.1")
    held.confirm()
    pins = Pins(held.index.engine, held.clock)
    assert pins.pin(["1.1", "1.9"]) == ["1.9"]
    assert pins.pinned() == ["1.1"]
    held.clock.now += 11 * DAY
    limits = RetentionLimits(ALL, 10**12, 10**12, 0)
    assert went(held.purge(limits, free=0)) == {}
    assert pins.unpin(["1.1"]) == []
    assert len(went(held.purge(**ALL))) == 3


def test_a_prior_in_use_stays(held: Holdings) -> None:
    held.film("1.1")
    held.end("1.1")
    held.confirm()
    held.clock.now += 11 * DAY
    held.film("1.2")
    held.index.complete("1.2")
    with database.reading(held.index.engine) as connection:
        key = connection.execute(select(study.c.id).where(study.c.study_instance_uid == "1.2")).scalar_one()
    pairs = PriorPairs(held.index.engine, held.clock)
    pairs.pair(key, 1, PriorPairing("1.1", pairs.film_files("1.1")))
    assert went(held.purge(**ALL)) == {}
    held.end("1.2")
    held.confirm()
    assert went(held.purge(**ALL))["films_days", "films"] == 1
    assert pairs.film_files("1.1") == ()
    kept = pairs.get(key, 1)
    assert kept is not None
    assert [str(each).partition(" by ")[2] for each in kept.purged_films] == ["retention.films_days"]


def test_a_prior_that_was_just_asked_for_stays(held: Holdings) -> None:
    requests = PriorRequests(held.index.engine, held.clock)
    requests.record("1.3", source_ae="PACS", move_destination="NODE")
    held.film("1.3", moved_for="NODE")
    held.clock.now += 1800
    assert went(held.purge(priors_days=0.001)) == {}
    held.clock.now += 1801
    assert went(held.purge(priors_days=0.001)) == {("priors_days", "films"): 1}
    with database.reading(held.index.engine) as connection:
        assert connection.execute(select(prior_request)).first() is not None


def test_too_little_free_space_takes_the_oldest_confirmed_files_until_there_is_enough(held: Holdings) -> None:
    for number in range(1, 9):
        held.film(f"1.{number}", size=1000)
        held.end(f"1.{number}", size=100)
        held.confirm()
        held.clock.now += DAY
    held.film("1.99", size=1000)
    held.end("1.99", destinations=())
    held.clock.now += DAY

    def free() -> int:
        return 30_000 - sum(path.stat().st_size for path in held.folder.rglob("*") if path.is_file())

    before = free()
    limits = RetentionLimits({}, free_below=before + 1, free_until=before + 2500)
    work = Purge(
        held.index.engine,
        held.spool,
        held.results,
        held.maps.root,
        held.folder / "thumbnails",
        limits,
        clock=held.clock,
        free=free,
    )
    previewed = work.preview()
    assert {each.setting for each in previewed} == {"free_bytes_below"}
    went = {each.what: (each.count, each.size) for each in work.run()}
    assert went == {each.what: (each.count, each.size) for each in previewed}
    assert before + 2500 <= free() < before + 4000
    states = held.states()
    gone = [uid for uid, state in states.items() if state is FileState.PURGED]
    assert gone == ["1.1.1", "1.2.1"]
    assert states["1.99.1"] is FileState.KEPT
    assert held.audit().conserved
    assert work.run() == []


def test_nothing_young_goes_for_free_space(held: Holdings) -> None:
    held.film("1.1")
    held.end("1.1")
    held.confirm()
    held.clock.now += DAY / 2
    limits = RetentionLimits({}, 10**12, 10**12, least_days=1)
    assert went(held.purge(limits, free=0)) == {}
    held.clock.now += DAY / 2
    assert len(went(held.purge(limits, free=0))) == 3


def purged(held: Holdings, uid: str = "1.1", films: int = 1) -> None:
    for number in range(1, films + 1):
        held.film(uid, number)
    held.end(uid)
    held.confirm()
    held.clock.now += 11 * DAY
    held.purge(**ALL).run()
    assert held.files()[0] == 0


def test_a_purged_film_that_comes_again_is_stored_again_and_its_report_stands(held: Holdings) -> None:
    purged(held)
    with held.index.engine.begin() as connection:
        connection.execute(update(instance).values(size=instance.c.size - 20))
    assert held.film("1.1") is Admission.RESTORED
    assert held.states() == {"1.1.1": FileState.KEPT}
    assert held.files()[0] == 1
    audit = held.audit()
    assert (audit.conserved, audit.received, audit.fates["delivered"]) == (True, 1, 1)
    (row,) = IndexQueries(held.index.engine).studies()
    assert (row.state, row.revision) == (StudyState.REPORTED, 1)
    # Another sender's file meta has another length, and is whole all the same.
    with held.index.engine.connect() as connection:
        row = connection.execute(select(instance.c.size, instance.c.file)).one()
    assert row.size == held.spool.path(row.file).stat().st_size
    # Its age counts from the new reception.
    assert ("films_days", "films") not in went(held.purge(**ALL))
    assert held.film("1.1") is Admission.REPEATED


def test_a_study_without_a_report_is_read_when_its_purged_film_comes_again(held: Holdings) -> None:
    held.film("1.1")
    held.end("1.1", StudyState.FAILED, destinations=())
    held.clock.now += 11 * DAY
    held.purge(**ALL).run()
    assert held.index.retry() == 0  # without the film it would fail again
    assert held.film("1.1") is Admission.RESTORED
    (row,) = IndexQueries(held.index.engine).studies()
    assert (row.state, row.revision) == (StudyState.RECEIVING, 2)
    assert held.audit().fates["waiting"] == 1


def test_other_bytes_under_the_uid_of_a_purged_film_are_a_conflict(held: Holdings) -> None:
    purged(held)
    assert held.film("1.1", content="other") is Admission.SET_ASIDE
    assert held.audit().conserved


def test_a_late_film_finds_that_the_others_were_purged(held: Holdings) -> None:
    purged(held, films=2)
    held.film("1.1", 3)
    held.index.complete("1.1")
    lease = held.leases.acquire("1.1", 2, OWNER, 60)
    assert lease is not None
    assert [entry.sop_instance_uid for entry in lease.instances] == ["1.1.3"]
    assert len(lease.purged) == 2


def test_a_purged_prior_can_be_fetched_again(held: Holdings) -> None:
    requests = PriorRequests(held.index.engine, held.clock)
    requests.record("1.3", source_ae="PACS", move_destination="NODE")
    held.film("1.3", moved_for="NODE")
    held.clock.now += 11 * DAY
    assert went(held.purge(priors_days=10)) == {("priors_days", "films"): 1}
    requests.record("1.3", source_ae="PACS", move_destination="NODE")
    assert held.film("1.3", moved_for="NODE") is Admission.RESTORED
    assert len(PriorPairs(held.index.engine, held.clock).film_files("1.3")) == 1
    assert held.audit().fates["prior"] == 1


def test_equal_heat_maps_of_two_studies_are_one_file_that_stays_for_the_other(held: Holdings) -> None:
    for uid in ("1.1", "1.2"):
        held._numbers = iter(range(1000 + int(uid[-1]) * 256, 9999, 128))  # type: ignore[assignment]
        held.film(uid)
        held.end(uid, results=1)
    assert held.files()[2] == 1
    held.confirm()
    Pins(held.index.engine, held.clock).pin(["1.2"])
    held.clock.now += 11 * DAY
    assert went(held.purge(maps_days=10)) == {("maps_days", "maps"): 1}
    assert held.files()[2] == 1
    Pins(held.index.engine, held.clock).unpin(["1.2"])
    assert went(held.purge(maps_days=10)) == {("maps_days", "maps"): 1}
    assert held.files()[2] == 0


def test_nothing_goes_while_a_backup_copies_files(held: Holdings) -> None:
    purge = held.purge(**ALL)
    held.film("1.1")
    held.end("1.1")
    held.confirm()
    held.clock.now += 11 * DAY
    with no_deletion(held.folder):
        assert went(purge) == {}
        assert held.files() == (1, 1, 1)
    assert sum(went(purge).values()) == 3
    assert held.files() == (0, 0, 0)


def test_each_study_is_told_with_the_rule_before_its_files_go(held: Holdings) -> None:
    for uid in ("1.1", "1.2"):
        held.film(uid)
        held.end(uid)
    held.confirm()
    held.clock.now += 11 * DAY
    told: list[tuple[str, str, int]] = []
    held.purge(films_days=10.0).run(erasing=lambda uid, setting: told.append((uid, setting, held.files()[0])))
    assert sorted(told) == [("1.1", "films_days", 2), ("1.2", "films_days", 2)], "while the films are there"
    assert held.files()[0] == 0


class Killed(BaseException):
    """Stands for SIGKILL: nothing of the node catches it."""


@pytest.mark.parametrize("steps", range(1, 13))
def test_a_kill_at_any_step_is_finished_by_the_next_run(
    held: Holdings, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    """The steps are: each beginning and end of a transaction, and each removal of a file."""
    for number in (1, 2):
        held.film("1.1", number)
    held.end("1.1", results=2)
    held.confirm()
    held.clock.now += 11 * DAY
    left = [steps]

    def step() -> None:
        left[0] -= 1
        if left[0] == 0:
            raise Killed

    real_unlink, real_writing = Path.unlink, database.writing

    def unlink(path: Path, *, missing_ok: bool = False) -> None:
        step()
        real_unlink(path, missing_ok=missing_ok)
        step()

    class Writing:
        def __init__(self, engine: Any) -> None:
            self._real = real_writing(engine)

        def __enter__(self) -> Any:
            step()
            return self._real.__enter__()

        def __exit__(self, *error: object) -> Any:
            done = self._real.__exit__(*error)
            step()
            return done

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", unlink)
        patched.setattr(database, "writing", Writing)
        with pytest.raises(Killed):
            held.purge(**ALL).run()
    # Whatever is missing on the disk, its row says so.
    audit = held.audit()
    assert audit.conserved, audit.violations
    assert audit.received == audit.fates["delivered"] + audit.fates["purged"] == 2
    held.purge(**ALL).run()
    assert held.files() == (0, 0, 0)
    assert set(held.states().values()) == {FileState.PURGED}
    assert held.audit().conserved


@pytest.mark.parametrize("after", [False, True])
def test_a_film_that_arrives_while_its_purge_goes_on_is_there_afterwards(
    held: Holdings, monkeypatch: pytest.MonkeyPatch, *, after: bool
) -> None:
    """Before or after the reception's change of the row, the whole purge of the film happens."""
    held.film("1.1")
    held.end("1.1")
    held.confirm()
    held.clock.now += 11 * DAY
    real = held.index.add_instance

    def add_instance(received: Any) -> Admission:
        monkeypatch.undo()
        admission = real(received) if after else None
        held.purge(**ALL).run()
        assert held.files()[0] == 0
        return admission or real(received)

    monkeypatch.setattr(held.index, "add_instance", add_instance)
    assert held.film("1.1") is Admission.RESTORED
    assert held.files()[0] == 1
    assert held.audit().conserved


def test_films_that_arrive_again_and_again_beside_the_purge_are_never_lost(held: Holdings) -> None:
    """Threads send the same films while another one purges: what is KEPT in the end is on the disk."""
    for number in range(1, 9):
        held.film("1.1", number)
    held.end("1.1")
    held.confirm()
    held.clock.now += 11 * DAY
    errors: list[BaseException] = []
    stop = threading.Event()

    def guarded(work: Callable[[], object]) -> None:
        try:
            while not stop.is_set():
                work()
        except BaseException as error:  # noqa: BLE001 - shown by the assertion below
            errors.append(error)

    def resend() -> None:
        for number in range(1, 9):
            held.film("1.1", number)

    def age() -> None:
        # As if each film had come long ago, so that the purge wants it again at once.
        # Updates of all rows and a purge may lock them in different orders (PostgreSQL); one of them goes on.
        with contextlib.suppress(database.Deadlock):
            with database.writing(held.index.engine) as connection:
                connection.execute(update(instance).values(received_at=held.clock.now - 11 * DAY))
            held.purge(**ALL).run()

    threads = [threading.Thread(target=guarded, args=(work,)) for work in (resend, age, age)]
    for thread in threads:
        thread.start()
    threads[0].join(3)
    stop.set()
    for thread in threads:
        thread.join(60)
    assert not errors
    held.purge(RetentionLimits()).finish()
    audit = held.audit()
    assert audit.conserved, audit.violations
    assert audit.received == 8
    assert held.files()[0] == list(held.states().values()).count(FileState.KEPT)


def test_a_file_that_cannot_be_removed_is_tried_again(
    held: Holdings, monkeypatch: pytest.MonkeyPatch
) -> None:
    held.film("1.1")
    held.end("1.1")
    held.confirm()
    held.clock.now += 11 * DAY

    def unlink(_path: Path, **_options: object) -> None:
        raise PermissionError(1, os.strerror(1))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", unlink)
        work = held.purge(**ALL)
        assert work.run() == []
        assert "Operation not permitted" in str(work.stuck)
    assert held.audit().conserved
    work.run()
    assert work.stuck is None
    assert held.files() == (0, 0, 0)


def forty_due(held: Holdings) -> None:
    """Forty confirmed films that are old enough to go."""
    for number in range(40):
        held.film(f"1.{number}")
        held.end(f"1.{number}")
    held.confirm()
    held.clock.now += 11 * DAY


def test_a_file_that_cannot_be_removed_keeps_no_other(
    held: Holdings, monkeypatch: pytest.MonkeyPatch
) -> None:
    forty_due(held)
    real, kept = Path.unlink, sorted(held.spool.names())[0]

    def unlink(path: Path, *, missing_ok: bool = False) -> None:
        if str(path).endswith(kept):
            raise PermissionError(1, os.strerror(1))
        real(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink)
    work = held.purge(**ALL)
    for _ in range(2):
        work.run()
        assert held.files() == (1, 0, 0)
        assert "Operation not permitted" in str(work.stuck)
    assert held.audit().conserved


def test_a_disk_on_which_nothing_can_be_removed_ends_the_run(
    held: Holdings, monkeypatch: pytest.MonkeyPatch
) -> None:
    forty_due(held)

    def unlink(_path: Path, **_options: object) -> None:
        raise OSError(30, os.strerror(30))

    monkeypatch.setattr(Path, "unlink", unlink)
    work = held.purge(**ALL)
    for _ in range(3):
        with pytest.raises(database.StorageFailed, match="Read-only file system"):
            work.run()
    with held.index.engine.connect() as connection:
        states = connection.execute(select(instance.c.file_state)).scalars().all()
    assert states.count("PURGING") < 40


def test_the_thumbnail_of_a_purged_film_goes_with_it(held: Holdings) -> None:
    held.film("1.1")
    held.end("1.1")
    held.confirm()
    (name,) = held.spool.names()
    digest = Path(name).stem
    small = held.folder / "thumbnails" / digest[:2] / f"{digest}.png"
    small.parent.mkdir(parents=True)
    small.touch()
    held.clock.now += 11 * DAY
    held.purge(**ALL).run()
    assert not small.exists()


def test_rows_of_purged_films_are_counted_when_they_are_old_themselves(held: Holdings) -> None:
    purged(held, films=3)
    with database.writing(held.index.engine) as connection:
        connection.execute(
            commitment.insert().values(transaction_uid="2.25.1", destination="pacs", asked_at=0)
        )
        for at in (0.0, held.clock.now):
            connection.execute(access.insert().values(at=at, reader="r", address="a", action="study"))
    held.clock.now += 100 * DAY
    assert went(held.purge(audit_days=99, accesses_days=101)) == {
        ("accesses_days", "accesses"): 1,
        ("audit_days", "audit"): 3,
    }
    audit = held.audit()
    assert (audit.conserved, audit.received, audit.fates["purged"]) == (True, 3, 3)
    assert IndexQueries(held.index.engine).received() == 3
    with held.index.engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM instance")).scalar_one() == 0
        assert connection.execute(text("SELECT count(*) FROM commitment")).scalar_one() == 0


def test_the_audit_says_when_a_purge_left_no_trace(held: Holdings) -> None:
    purged(held)
    with database.writing(held.index.engine) as connection:
        connection.execute(update(instance).values(purged_by=""))
    assert any("not recorded when and by which rule" in each for each in held.audit().violations)


def test_a_purge_beside_the_audit_is_no_loss(held: Holdings, monkeypatch: pytest.MonkeyPatch) -> None:
    held.film("1.1")
    held.end("1.1")
    held.confirm()
    held.clock.now += 11 * DAY
    real = held.spool.path

    def path(name: str) -> Path:
        held.purge(**ALL).run()  # after the audit has read the rows
        return real(name)

    monkeypatch.setattr(held.spool, "path", path)
    assert held.audit().conserved
    assert held.files() == (0, 0, 0)
