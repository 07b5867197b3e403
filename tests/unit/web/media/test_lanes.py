"""Lanes: who decodes much does not keep others from decoding."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from dicom_node.config.sections import WorkerSettings
from dicom_node.web.media import lanes as module
from dicom_node.web.media.lanes import Busy, Lanes
from tests.support.peers import until


@pytest.fixture
def lanes() -> Iterator[Lanes]:
    one = Lanes(WorkerSettings(), 2**30, 2, "test")
    yield one
    one.close()


def soon() -> float:
    return time.monotonic() + 20


def test_a_film_does_not_wait_for_another_that_takes_long(lanes: Lanes) -> None:
    ended = threading.Event()
    with ThreadPoolExecutor() as others:
        slow = others.submit(lanes.run, lambda _: ended.wait(20), soon())
        assert lanes.run(lambda _: "quick", soon()) == "quick"
        ended.set()
        assert slow.result(20)


def test_more_than_a_few_that_wait_are_sent_away(lanes: Lanes) -> None:
    ended = threading.Event()
    most = 2 + module._WAITING
    with ThreadPoolExecutor(most) as others:
        held = [others.submit(lanes.run, lambda _: ended.wait(20), soon()) for _ in range(most)]

        def refused() -> bool:
            try:
                lanes.run(lambda _: None, time.monotonic() + 0.01)
            except Busy as error:
                return "too many" in str(error)
            return False

        until(refused, 20, "all places taken")
        ended.set()
        assert all(each.result(20) for each in held)
    assert lanes.run(lambda _: "room again", soon()) == "room again"


def test_an_answer_has_its_time(lanes: Lanes) -> None:
    ended = threading.Event()
    began = time.monotonic()
    with pytest.raises(Busy, match="too long"):
        lanes.run(lambda _: ended.wait(20), time.monotonic() + 0.1)
    assert time.monotonic() - began < 10
    with pytest.raises(Busy):
        lanes.run(lambda _: None, time.monotonic() - 1)
    ended.set()


def test_an_error_is_that_of_the_work(lanes: Lanes) -> None:
    def broken(_: object) -> None:
        raise LookupError("film")

    for _ in range(2 * (2 + module._WAITING)):  # places are given back
        with pytest.raises(LookupError):
            lanes.run(broken, soon())
