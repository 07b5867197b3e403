"""Fixtures for tests of the page in a browser and as a server."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session", autouse=True)
def accounts_in_use(light_passwords: None) -> None:
    """Let all tests of this folder hash passwords with the least work."""
