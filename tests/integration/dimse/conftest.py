"""Fixtures for tests of the Storage SCP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.peers import until
from tests.support.receiver import Receiver


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    """Receiver with short deadlines; at the end every association must be over."""
    with Receiver(
        tmp_path / "receiver",
        association_seconds=1,
        pdu_seconds=1,
        idle_seconds=3,
        max_instance_bytes=1 << 20,
        max_associations=8,
    ) as running:
        yield running
        until(running.idle, 10, "no thread and no temporary file is left")
