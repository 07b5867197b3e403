from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from tests.support.web_node import StillNode


@pytest.fixture
def node(tmp_path: Path) -> Iterator[StillNode]:
    one = StillNode(tmp_path / "data")
    yield one
    one.close()


@pytest.fixture
def client(node: StillNode) -> Iterator[TestClient]:
    """A browser of the page; its audits run."""
    with node.browser() as one:
        yield one


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A browser of the page of a node that has received nothing."""
    node = StillNode(tmp_path_factory.mktemp("empty"))
    with node.browser() as one:
        yield one
    node.close()
