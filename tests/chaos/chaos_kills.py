"""Many processes killed at random moments while films arrive; nothing is lost, no result is said twice.

Run: ``python -m pytest tests/chaos -s -o python_files='chaos_*.py' -k kills``. It prints the seed and what
was killed. ``CHAOS_KILLS`` is the number of kills of parts (default 1,000), which run as in ``serve`` but
with a small model; ``CHAOS_NODE_KILLS`` is the number of kills (default 40) of a whole ``dicom-node serve``
with the shipped model: of one of its processes, of its supervisor, or of all at once. ``CHAOS_SEED`` is the
seed.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.conservation import NodeState, Receptions
from tests.support.film_stream import AcknowledgedFilm, FilmStream
from tests.support.kills import destination_of, kill_node, kill_parts
from tests.support.peers import Node, StoreSCP, free_port, until

KILLS = int(os.environ.get("CHAOS_KILLS", "1000"))
NODE_KILLS = int(os.environ.get("CHAOS_NODE_KILLS", "40"))
SEED = int(os.environ.get("CHAOS_SEED", str(time.time_ns() % 1_000_000)))


def check(
    data_dir: Path, pacs: StoreSCP, films: Mapping[str, AcknowledgedFilm], killed: Counter[str]
) -> None:
    """Assert that nothing was lost or said twice, and print what was counted."""
    received = Receptions.of(pacs.files())
    state = NodeState(data_dir)
    state.check_films(films)
    state.check_fates(films)
    state.check_audit()
    state.check_results(received)
    print(f"seed {SEED}: {sum(killed.values())} kills: {dict(killed)}")
    print(f"{len(films)} films acknowledged, none lost; studies: {dict(state.studies())}")
    print(f"{len(received.digests)} results arrived, {received.repeats} again and the same to the byte")


@pytest.mark.peer
@pytest.mark.timeout(7200)
def test_nothing_is_lost_or_said_twice_whatever_part_is_killed(tmp_path: Path) -> None:
    killed: Counter[str] = Counter()
    with StoreSCP(tmp_path / "pacs", each=True) as pacs:
        films = kill_parts(tmp_path, tmp_path / "node", pacs, random.Random(SEED), KILLS, killed)
        check(tmp_path / "node", pacs, films, killed)


@pytest.mark.peer
@pytest.mark.timeout(7200)
def test_nothing_is_lost_or_said_twice_when_a_whole_node_is_killed(tmp_path: Path) -> None:
    chosen, port, killed = random.Random(SEED), str(free_port()), Counter[str]()
    data_dir = tmp_path / "node"
    with StoreSCP(tmp_path / "pacs", each=True) as pacs:
        with FilmStream(tmp_path / "films", int(port), chosen) as films:
            kill_node(data_dir, pacs, port, chosen, NODE_KILLS, killed)
        state = NodeState(data_dir)
        with Node(
            data_dir, [destination_of(pacs)], ready_seconds=180, parallel=True, worker__max_attempts="50"
        ) as node:
            until(lambda: state.at_rest(len(films.acknowledged)), 900, "every study has an outcome")
            assert node.cli("status", "--audit", "--read-files").returncode == 0
            assert node.stop() == 0
        check(data_dir, pacs, films.acknowledged, killed)
