"""One result that its destination never takes keeps no other result waiting."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import select

from dicom_node.store import database
from dicom_node.store.index import Index
from dicom_node.store.states import ResultState
from dicom_node.store.tables import delivery
from tests.support.dicomweb_service import running_service
from tests.support.odd_archive import OddArchive, Talk
from tests.support.odd_destinations import Deliveries
from tests.support.peers import until
from tests.support.receiver import Receiver

RESULTS = 20

WAYS: dict[str, Callable[[Talk], object]] = {
    "A700": lambda talk: talk.answer(0xA700),
    "0110": lambda talk: talk.answer(0x0110),
    "C000": lambda talk: talk.answer(0xC000),
    "abort": Talk.abort,
    "close": Talk.close,
    "release": Talk.release,
    "no answer": lambda talk: None,
    "an answer that cannot be read": lambda talk: talk.say(talk.data(b"\0\0\0\1\xff\xff\xff\x7f")),
}


@pytest.fixture
def index(tmp_path: Path):
    receiver = Receiver(tmp_path / "receiver")
    yield receiver.index
    receiver.__exit__()


def fate(index: Index, *columns: str) -> list[tuple[object, ...]]:
    """Columns of the deliveries, the oldest first."""
    query = select(*(delivery.c[name] for name in columns)).order_by(delivery.c.id)
    with database.reading(index.engine) as connection:
        return [tuple(row) for row in connection.execute(query)]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("place", [0, 7])
def test_the_results_beside_one_that_is_never_taken_arrive(
    tmp_path: Path, index: Index, way: str, place: int
) -> None:
    poison: list[str] = []

    def answer(talk: Talk) -> None:
        (WAYS[way] if talk.archive.stored[-1] in poison else Talk.answer)(talk)

    with OddArchive(stored=answer) as archive:
        deliveries = Deliveries(tmp_path, index, [archive.destination], RESULTS, backoff_seconds=1)
        poison.append(deliveries.uids[place])
        with deliveries:
            until(lambda: deliveries.arrived("odd") == RESULTS - 1, 20, "all others have arrived")
            tried = archive.stored.count(poison[0])
        state, attempts, error = fate(index, "state", "attempts", "error")[place]
        assert state == ("REJECTED" if way == "C000" else "ENCODED")
        assert 1 <= int(str(attempts)) <= tried + 1
        assert error


def test_several_that_are_never_taken_let_the_others_through(tmp_path: Path, index: Index) -> None:
    poison: list[str] = []

    def answer(talk: Talk) -> None:
        talk.answer(0xA700 if talk.archive.stored[-1] in poison else 0)

    with OddArchive(stored=answer) as archive:
        deliveries = Deliveries(tmp_path, index, [archive.destination], RESULTS, backoff_seconds=1)
        poison += deliveries.uids[:9]
        with deliveries:
            until(lambda: deliveries.arrived("odd") == RESULTS - 9, 30, "all others have arrived")


def test_an_archive_without_room_is_not_asked_about_every_result(tmp_path: Path, index: Index) -> None:
    with OddArchive(stored=lambda talk: talk.answer(0xA700)) as archive:
        settings = {"backoff_seconds": 60.0}
        with Deliveries(tmp_path, index, [archive.destination], RESULTS, **settings) as deliveries:
            until(lambda: deliveries.error("odd"), 10, "the archive has answered")
            until(lambda: len(archive.stored) == 3, 10, "some were tried")
            until(lambda: all(error for (error,) in fate(index, "error")), 10, "the destination pauses")
        assert len(archive.stored) == 3
        assert sorted(fate(index, "attempts")) == [(0,)] * (RESULTS - 3) + [(1,)] * 3


def test_an_archive_that_refuses_everything_is_not_given_everything(tmp_path: Path, index: Index) -> None:
    refusing = threading.Event()
    refusing.set()
    with OddArchive(stored=lambda talk: talk.answer(0x0122 if refusing.is_set() else 0)) as archive:
        settings = {"backoff_seconds": 1.0}
        with Deliveries(tmp_path, index, [archive.destination], RESULTS, **settings) as deliveries:
            until(lambda: len(archive.stored) == 10, 10, "some were tried")
            until(lambda: all(error for (error,) in fate(index, "error")), 10, "the destination pauses")
            assert deliveries.count("odd", ResultState.REJECTED) == 10
            until(lambda: len(archive.stored) == 11, 20, "it is tried again with one result")
            refusing.clear()
            until(lambda: deliveries.count("odd", ResultState.ENCODED) == 0, 20, "all others were sent")
        rejected = deliveries.count("odd", ResultState.REJECTED)
        assert 11 <= rejected <= 12, "one for each time that it was tried"
        assert deliveries.arrived("odd") == RESULTS - rejected


def test_the_results_beside_one_that_a_web_service_never_takes_arrive(tmp_path: Path, index: Index) -> None:
    with running_service() as service:
        odd = {"name": "odd", "kind": "dicomweb", "url": service.url, "confirm": "response"}
        deliveries = Deliveries(tmp_path, index, [odd], RESULTS, backoff_seconds=1)
        service.refused = deliveries.uids[0].encode()
        with deliveries:
            until(lambda: deliveries.arrived("odd") == RESULTS - 1, 20, "all others have arrived")
        assert "STOW-RS answered 500" in str(fate(index, "error")[0])


@pytest.mark.parametrize("how", ["missing", "truncated", "zeroed", "flipped"])
def test_a_file_that_cannot_be_read_waits_for_another_try(tmp_path: Path, index: Index, how: str) -> None:
    with OddArchive() as archive:
        deliveries = Deliveries(tmp_path, index, [archive.destination], RESULTS, backoff_seconds=0.5)
        (damaged, *_) = [
            path
            for path in (tmp_path / "results").rglob("*.dcm")
            if deliveries.uids[3].encode() in path.read_bytes()
        ]
        content = damaged.read_bytes()
        if how == "missing":
            damaged.unlink()
        else:
            flipped = content[:-1] + bytes([content[-1] ^ 1])
            changed = {"truncated": content[:-9], "zeroed": bytes(len(content)), "flipped": flipped}
            damaged.write_bytes(changed[how])
        with deliveries:
            until(lambda: deliveries.arrived("odd") == RESULTS - 1, 20, "all others have arrived")
            assert deliveries.count("odd", ResultState.ENCODED) == 1
            until(lambda: "replay --mend" in deliveries.error("odd"), 10, "the reason is shown")
            damaged.write_bytes(content)
            until(lambda: deliveries.arrived("odd") == RESULTS, 20, "it has arrived as well")
