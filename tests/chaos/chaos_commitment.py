"""Archives that take, lose, forget and answer wrongly, in each of many ways and in all of them at once.

Run: ``python -m pytest tests/chaos -s -o python_files='chaos_*.py' -k commitment``. It prints one line for
each way: how often each mistake was made, and how often results were sent and asked about.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.support.faulty_archive import FAULTS
from tests.support.faulty_deliveries import deliver_to_faulty_archives

RESULTS = int(os.environ.get("CHAOS_ARCHIVE_RESULTS", "6"))
SEED = int(os.environ.get("CHAOS_SEED", str(time.time_ns() % 1_000_000)))


@pytest.mark.peer
@pytest.mark.timeout(900)
@pytest.mark.parametrize("faults", [*((fault,) for fault in FAULTS), FAULTS], ids=[*FAULTS, "all"])
def test_commitment_confirms_what_archives_promised_and_nothing_else(
    tmp_path: Path, faults: tuple[str, ...]
) -> None:
    print(f"seed {SEED}")
    print(deliver_to_faulty_archives(tmp_path, 30, RESULTS, SEED, faults, times=2))
