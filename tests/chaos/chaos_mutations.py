"""Films and associations damaged at random, against a whole node: each is accounted for, no process ends.

Run: ``python -m pytest tests/chaos -s -o python_files='chaos_*.py' -k mutations``. It prints the seed and the
number of each answer and outcome. ``CHAOS_FILMS`` and ``CHAOS_ASSOCIATIONS`` are the numbers of films and of
PDU streams (default 10,000 each), ``CHAOS_SEED`` is the seed; the films of ``CXR_TEST_DATA`` are damaged too.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.support.mutation_run import MutationRun

FILMS = int(os.environ.get("CHAOS_FILMS", "10000"))
ASSOCIATIONS = int(os.environ.get("CHAOS_ASSOCIATIONS", "10000"))
SEED = int(os.environ.get("CHAOS_SEED", str(time.time_ns() % 1_000_000)))


@pytest.mark.peer
@pytest.mark.timeout(14400)
def test_each_of_many_damaged_films_and_associations_is_accounted_for(tmp_path: Path) -> None:
    folder = os.environ.get("CXR_TEST_DATA")
    run = MutationRun(tmp_path, SEED, Path(folder, "dicom") if folder else None)
    print(f"seed {SEED}")
    try:
        run.run(FILMS, ASSOCIATIONS)
    finally:
        for what, counted in run.answers.items():
            print(f"{what}: {dict(counted.most_common())}")
        print(f"what became of stored films: {dict(run.outcomes().most_common())}")
