"""Real films of pydicom-data."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def cr_films() -> list[Path]:
    """The real CR film of pydicom-data, uncompressed and JPEG 2000."""
    from pydicom.data import get_testdata_file

    return [Path(str(get_testdata_file(name, download=False))) for name in ("RG1_UNCR.dcm", "RG1_J2KR.dcm")]
