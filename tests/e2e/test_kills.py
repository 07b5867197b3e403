"""Processes killed at random moments while films arrive; ``make chaos`` kills a thousand."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from tests.support.conservation import NodeState, Receptions
from tests.support.kills import kill_parts
from tests.support.peers import StoreSCP

KILLS = 40


@pytest.mark.peer
@pytest.mark.timeout(400)
def test_no_kill_loses_a_film_or_says_a_result_twice(tmp_path: Path) -> None:
    killed: Counter[str] = Counter()
    with StoreSCP(tmp_path / "pacs", each=True) as pacs:
        films = kill_parts(tmp_path, tmp_path / "node", pacs, random.Random(20), KILLS, killed)
        received = Receptions.of(pacs.files())
    assert sum(killed.values()) >= KILLS
    assert films
    state = NodeState(tmp_path / "node")
    state.check_films(films)
    state.check_fates(films)
    state.check_audit()
    state.check_results(received)
