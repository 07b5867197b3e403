from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.config.settings import Settings
from tests.support.doctor import settings_for


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_for(tmp_path / "data")
