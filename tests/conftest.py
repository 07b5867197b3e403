"""Fixtures that every test may use."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import hypothesis
import pytest

# What a busy machine takes for one example says nothing of the code.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")

# An activated environment puts pynetdicom's storescp before DCMTK's, which the tests mean.
_OWN = Path(sys.executable).parent
os.environ["PATH"] = os.pathsep.join(
    folder for folder in os.environ["PATH"].split(os.pathsep) if Path(folder) != _OWN
)


@pytest.fixture(scope="session")
def films_root() -> Path:
    """Folder of the research films (CXR_TEST_DATA); tests that need it carry the `films` marker."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    root = Path(os.environ.get("CXR_TEST_DATA") or default)
    if not (root / "dicom").is_dir():
        pytest.skip(f"no research films in {root}: set CXR_TEST_DATA")
    return root
