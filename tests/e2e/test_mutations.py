"""Films and associations damaged at random, against a whole node; ``make chaos`` sends 10,000 of each."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.mutation_run import MutationRun

COUNT = 150


@pytest.mark.peer
@pytest.mark.timeout(400)
def test_each_damaged_film_and_association_is_accounted_for(tmp_path: Path) -> None:
    run = MutationRun(tmp_path, 15)
    run.run(COUNT, COUNT)
    assert sum(run.answers["films"].values()) == COUNT
    assert sum(run.answers["associations"].values()) == COUNT
    # The damage reaches both sides of the door, and past it.
    assert {"0000", "C000"} <= {status[:1] + "000" for status in run.answers["films"]}
    assert {"REPORTED", "SKIPPED"} <= set(run.outcomes())
    assert {"aborted", "rejected", "released"} <= set(run.answers["associations"])
