"""The clock of a whole node jumps a day forth and back, and beyond the year 2038, while films arrive.

Run: ``python -m pytest tests/chaos -s -o python_files='chaos_*.py' -k clock``. It prints the seconds from
each jump until films that came after it were read and their results had arrived. What jumps is ``time.time``
of every process of the node, from which all its waits and leases come (libfaketime breaks ``time.sleep``).
"""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest

from tests.support.conservation import NodeState, Receptions
from tests.support.film_stream import FilmStream
from tests.support.kills import destination_of
from tests.support.peers import ROOT, Node, StoreSCP, until
from tests.support.tiny_bundle import write_served_bundle

SEED = int(os.environ.get("CHAOS_SEED", str(time.time_ns() % 1_000_000)))
DAY = 86_400
JUMPS = (DAY, 0, -DAY, 0, 13 * 365 * DAY, 0)
CLOCK = """
import time

def now(real=time.time):
    with open({offset!r}) as offset:
        return real() + float(offset.read() or 0)

time.time = now
"""
SECONDS = 240
"""Longest time after a jump until films are read and results arrive."""


@pytest.mark.peer
@pytest.mark.timeout(3600)
def test_films_are_read_and_results_leave_whatever_the_clock_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offset = tmp_path / "offset"
    offset.write_text(str(JUMPS[-1]))
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(CLOCK.format(offset=str(offset)))
    bundle = write_served_bundle(tmp_path / "bundle")
    state = NodeState(tmp_path / "node")
    with StoreSCP(tmp_path / "pacs", each=True) as pacs:
        with monkeypatch.context() as faked:
            faked.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "site"), str(ROOT)]))
            node = Node(
                tmp_path / "node",
                [destination_of(pacs)],
                ready_seconds=180,
                parallel=True,
                worker__bundle=bundle,
            )
        with node, FilmStream(tmp_path / "films", node.port, random.Random(SEED)) as stream:
            until(lambda: sum(state.outcomes().values()) >= 3, 60, "films are read")
            for jump in JUMPS:
                offset.write_text(str(jump))
                begun, results = time.monotonic(), len(pacs.files())
                known = sum(state.studies().values())
                until(
                    lambda known=known: sum(state.outcomes().values()) >= known + 2, SECONDS, "films are read"
                )
                until(lambda more=results + 2: len(pacs.files()) >= more, SECONDS, "results arrive")
                print(f"clock at {jump:+d} s: all before and 2 more after {time.monotonic() - begun:.1f} s")
            stream.stop()
            until(lambda: state.at_rest(len(stream.acknowledged)), SECONDS, "every study has an outcome")
            restarts = node.output.count("restarting in")
            assert node.stop() == 0
        received = Receptions.of(pacs.files())
    state.check_films(stream.acknowledged)
    state.check_fates(stream.acknowledged)
    state.check_audit()
    state.check_results(received)
    print(f"{len(stream.acknowledged)} films, {restarts} restarts, {received.repeats} results came again")
    assert restarts == 0
