"""A broker that fails in each of some ways while films arrive: all that was accepted is read after it.

Run: ``python -m pytest tests/chaos -s -o python_files='chaos_*.py' -k broker``. It prints one line for each
way: films that were accepted while it lasted, and the seconds from its end to the first outcome and to rest.
``CHAOS_SECONDS`` is how long the broker is broken.
"""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest

from tests.support.broken_broker import BROKEN, Broker
from tests.support.conservation import NodeState, Receptions
from tests.support.film_stream import FilmStream
from tests.support.kills import destination_of
from tests.support.peers import Node, StoreSCP, until
from tests.support.tiny_bundle import write_served_bundle

SECONDS = float(os.environ.get("CHAOS_SECONDS", "40"))
SEED = int(os.environ.get("CHAOS_SEED", str(time.time_ns() % 1_000_000)))
SAID, SAID_AGAIN = "the broker does not answer", "the broker answers again"


@pytest.mark.peer
@pytest.mark.timeout(900)
@pytest.mark.parametrize("way", BROKEN)
def test_what_was_accepted_is_read_when_the_broker_is_well_again(tmp_path: Path, way: str) -> None:
    bundle = write_served_bundle(tmp_path / "bundle")
    state = NodeState(tmp_path / "node")
    with (
        Broker(tmp_path) as broker,
        StoreSCP(tmp_path / "pacs", each=True) as pacs,
        Node(
            tmp_path / "node",
            [destination_of(pacs)],
            broker_url=broker.url,
            ready_seconds=180,
            parallel=True,
            worker__bundle=bundle,
        ) as node,
        FilmStream(tmp_path / "films", node.port, random.Random(SEED)) as stream,
    ):
        until(lambda: sum(state.outcomes().values()) >= 5, 60, "films are read")
        before = len(stream.acknowledged)
        with BROKEN[way](broker):
            time.sleep(SECONDS)
        accepted = len(stream.acknowledged) - before
        healed, read = time.monotonic(), sum(state.outcomes().values())
        until(lambda: sum(state.outcomes().values()) > read, 120, "films are read again")
        first = time.monotonic() - healed
        stream.stop()
        until(lambda: state.at_rest(len(stream.acknowledged)), 240, "every study has an outcome")
        rest = time.monotonic() - healed
        assert node.stop() == 0
        received = Receptions.of(pacs.files())
    said, again = node.output.count(SAID), node.output.count(SAID_AGAIN)
    restarts = node.output.count("restarting in")
    print(
        f"{way}: {accepted} films accepted meanwhile, first outcome after {first:.1f} s, rest after "
        f"{rest:.1f} s; said {said} and {again} times, {restarts} restarts"
    )
    assert accepted > 0
    state.check_films(stream.acknowledged)
    state.check_fates(stream.acknowledged)
    state.check_audit()
    state.check_results(received)
    assert "Traceback" not in node.output, node.output[node.output.find("Traceback") - 400 :][:2500]
    assert said == again <= 1
