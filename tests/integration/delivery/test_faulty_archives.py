"""Archives that take, lose, forget and answer wrongly; ``make chaos`` has more of them, and for longer."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.faulty_archive import FAULTS
from tests.support.faulty_deliveries import deliver_to_faulty_archives


@pytest.mark.peer
def test_whatever_mistakes_archives_make_what_they_promise_is_confirmed(tmp_path: Path) -> None:
    deliver_to_faulty_archives(tmp_path, archives=4, results=6, seed=14, faults=FAULTS, times=1)
