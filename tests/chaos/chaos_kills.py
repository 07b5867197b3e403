"""Many processes killed at random moments while films arrive; nothing is lost, no result is said twice.

Run: ``python -m pytest tests/chaos -s -o python_files='chaos_*.py' -k kills``. It prints the seed and what
was killed. ``CHAOS_KILLS`` is the number of kills (default 1,000), ``CHAOS_SEED`` the seed;
``CHAOS_NODE_KILLS`` of the kills (default one in 25) are of a whole ``dicom-node serve`` with the shipped
model: of one of its processes, of its supervisor, or of all at once.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.support.conservation import NodeState, Receptions
from tests.support.film_stream import FilmStream
from tests.support.kills import destination_of, kill_node, kill_parts
from tests.support.peers import Node, StoreSCP, free_port, until

KILLS = int(os.environ.get("CHAOS_KILLS", "1000"))
NODE_KILLS = int(os.environ.get("CHAOS_NODE_KILLS", str(KILLS // 25)))
SEED = int(os.environ.get("CHAOS_SEED", str(time.time_ns() % 1_000_000)))


@pytest.mark.peer
@pytest.mark.timeout(7200)
def test_nothing_is_lost_or_said_twice_whatever_is_killed(tmp_path: Path) -> None:
    print(f"seed {SEED}")
    chosen = random.Random(SEED)
    killed: Counter[str] = Counter()
    data_dir = tmp_path / "node"
    with StoreSCP(tmp_path / "pacs", each=True) as pacs:
        begun = time.monotonic()
        films = kill_parts(tmp_path, data_dir, pacs, chosen, KILLS - NODE_KILLS, killed)
        state = NodeState(data_dir)
        print(
            f"parts, after {time.monotonic() - begun:.0f} s: {sum(killed.values())} kills, "
            f"{len(films)} films, {pacs.receptions()} receptions, {dict(state.studies())}"
        )
        port = str(free_port())
        with FilmStream(tmp_path / "later", int(port), chosen, pause=1) as later:
            kill_node(data_dir, pacs, port, chosen, NODE_KILLS, killed)
        films |= later.acknowledged
        with Node(data_dir, [destination_of(pacs)], worker__max_attempts="50") as node:
            until(lambda: state.at_rest(len(films)), 900, "every study has an outcome, every result left")
            assert node.cli("status", "--audit", "--read-files").returncode == 0
            assert node.stop() == 0
        received = Receptions.of(pacs.files())
    state.check_films(films)
    state.check_fates(films)
    state.check_audit()
    state.check_results(received)
    print(f"{sum(killed.values())} kills: {dict(killed)}")
    print(f"{len(films)} films acknowledged, none lost; studies: {dict(state.studies())}")
    print(f"{len(received.digests)} results arrived, {received.repeats} again and the same to the byte")
