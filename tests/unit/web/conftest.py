from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from tests.support.offline_node import OfflineNode


@pytest.fixture(scope="session", autouse=True)
def accounts_in_use(light_passwords: None) -> None:
    """Let all tests of this folder hash passwords with the least work."""


@pytest.fixture
def node(tmp_path: Path) -> Iterator[OfflineNode]:
    one = OfflineNode(tmp_path / "data")
    yield one
    one.close()


@pytest.fixture
def client(node: OfflineNode) -> Iterator[TestClient]:
    """HTTP client of the page."""
    with node.browser() as one:
        yield one


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """HTTP client of the page of an empty node."""
    node = OfflineNode(tmp_path_factory.mktemp("empty"))
    with node.browser() as one:
        yield one
    node.close()
