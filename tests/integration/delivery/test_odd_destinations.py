"""A destination that is odd, in each of many ways, harms neither the sender nor the good one beside it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from dicom_node.store.states import ResultState
from tests.support.odd_archive import OddArchive
from tests.support.odd_destinations import ODD, Deliveries
from tests.support.peers import until
from tests.support.receiver import Receiver

RESULTS = 8
TAKEN = {
    "accepts without a maximum length",
    "answers another message ID",
    "claims a data set",
    "answers late",
}
REJECTED = {"answers 0122", "answers C000"}


@pytest.fixture
def index(tmp_path: Path):
    receiver = Receiver(tmp_path / "receiver")
    yield receiver.index
    receiver.__exit__()


@pytest.mark.parametrize("way", ODD)
def test_an_odd_destination_harms_no_other_and_says_what_is_wrong(tmp_path: Path, index, way: str) -> None:
    with OddArchive() as good, ODD[way]() as odd:
        beside = {**good.destination, "name": "good"}
        with Deliveries(tmp_path, index, [odd, beside], RESULTS) as deliveries:
            until(lambda: deliveries.arrived("good") == RESULTS, 15, "the good one has all")
            assert sorted(good.stored) == sorted(deliveries.uids)
            if way in TAKEN:
                until(lambda: deliveries.arrived("odd") == RESULTS, 15, "the odd one has all")
                assert deliveries.error("odd") == ""
            elif way in REJECTED:
                rejected = ResultState.REJECTED
                until(lambda: deliveries.count("odd", rejected) == RESULTS, 15, "all are rejected")
            else:
                until(lambda: deliveries.error("odd"), 15, "the error is recorded")
                assert "\n" not in deliveries.error("odd")
                waiting = (ResultState.ENCODED, ResultState.REJECTED)
                assert deliveries.count("odd", *waiting) == RESULTS
            assert all(thread.is_alive() for thread in deliveries.threads)


def test_the_threads_of_ended_associations_end(tmp_path: Path, index) -> None:
    before = threading.active_count()
    with OddArchive() as good, ODD["aborts at C-STORE"]() as odd:
        with Deliveries(tmp_path, index, [odd, {**good.destination, "name": "good"}], RESULTS) as deliveries:
            until(lambda: deliveries.error("odd"), 15, "the error is recorded")
        until(lambda: threading.active_count() <= before + 6, 10, "no thread is left")
