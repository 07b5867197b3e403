"""With one destination odd, in each of many ways, 200 results reach a good one as fast as without it.

Run: ``python -m pytest tests/chaos -s -o python_files='chaos_*.py' -k odd``. It prints one line for each way:
the seconds without and with the odd destination, the shortest of some rounds each, and their ratio: on a
busy machine one round says little. Every odd peer runs in a process of its own. One that takes
its results all the same is work like any other: there, the seconds beside a plain one are what it is compared
with.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.odd_destinations import ODD, PLAIN, Deliveries, in_its_own_process
from tests.support.peers import StoreSCP, until
from tests.support.receiver import Receiver

RESULTS = int(os.environ.get("CHAOS_RESULTS", "200"))
ROUNDS = int(os.environ.get("CHAOS_ROUNDS", "5"))
RATIO = 0.9


def seconds_to_deliver(
    folder: Path, good: dict[str, Any], beside: Sequence[dict[str, Any]]
) -> tuple[float, bool]:
    """Seconds until the good destination has taken all results; whether another one took some meanwhile."""
    receiver = Receiver(folder / "receiver")
    try:
        deliveries = Deliveries(folder, receiver.index, [*beside, good], RESULTS)
        begun = time.monotonic()
        with deliveries:
            until(lambda: deliveries.arrived(good["name"]) == RESULTS, 120, "the good one has all")
            seconds = time.monotonic() - begun
            return seconds, any(deliveries.arrived(each["name"]) for each in beside)
    finally:
        receiver.__exit__()


@pytest.mark.peer
@pytest.mark.timeout(900)
@pytest.mark.parametrize("way", ODD)
def test_a_good_destination_is_served_as_fast_beside_an_odd_one(tmp_path: Path, way: str) -> None:
    without, beside, compared = [], [], "alone"
    with StoreSCP(tmp_path / "pacs") as pacs:
        good = {**pacs.destination, "confirm": "response"}
        for number in range(ROUNDS):
            with in_its_own_process(way) as odd:
                seconds, takes = seconds_to_deliver(tmp_path / f"beside{number}", good, [odd])
            beside.append(seconds)
            compared = "beside a plain one" if takes else "alone"
            with in_its_own_process(PLAIN) as plain:
                others = [plain] if takes else []
                without.append(seconds_to_deliver(tmp_path / f"without{number}", good, others)[0])
            ratio = min(without) / min(beside)
            if ratio >= RATIO:
                break
        print(f"{way}: {compared} {min(without):.2f} s, beside it {min(beside):.2f} s, ratio {ratio:.2f}")
    assert ratio >= RATIO, (without, beside)
