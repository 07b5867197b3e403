"""Node with three films, a result, and a study in the hands of a worker; and the folder of its backups."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.stored_node import StoredNode


@pytest.fixture
def node(tmp_path: Path) -> Iterator[StoredNode]:
    node = StoredNode(tmp_path / "node")
    node.fill()
    yield node
    node.close()


@pytest.fixture
def backups(tmp_path: Path) -> Path:
    return tmp_path / "backups"
