"""Fixtures for all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests.support.peers import leave_own_programs

# A busy machine may need long for one example: the duration says nothing about the code.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")

# As every command of the node does: keys and passwords that a test writes are for this user alone.
os.umask(0o077)

leave_own_programs()


@pytest.fixture(scope="session")
def films_root() -> Path:
    """Folder of the research films (CXR_TEST_DATA); tests that use it carry the marker `films`."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    root = Path(os.environ.get("CXR_TEST_DATA") or default)
    if not (root / "dicom").is_dir():
        pytest.skip(f"no research films in {root}: set CXR_TEST_DATA")
    return root


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """Browser of playwright: Chromium; tests that use it carry the marker `peer`."""
    from tests.support.browser import launched

    with launched() as browser:
        yield browser
