from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.config.promotion import promote
from dicom_node.config.settings import load_settings
from dicom_node.errors import ConfigurationError

TEXT = """# our node
[[models]]
name = "now"  # since May
bundle = "openi-findings"

[[models]]
name = "next"
bundle = "openi-groups"
role = "shadow"  # looked at
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "node.toml"
    path.write_text(TEXT)
    path.chmod(0o640)
    return path


def roles(config: Path) -> dict[str, str]:
    return {each.name: each.role.value for each in load_settings(config).models}


def test_a_shadow_becomes_primary_and_back(config: Path) -> None:
    assert str(promote(config, load_settings(config), "next", beside=False)) == "next primary, now shadow"
    assert roles(config) == {"now": "shadow", "next": "primary"}
    promote(config, load_settings(config), "now", beside=False)
    assert roles(config) == {"now": "primary", "next": "shadow"}


def test_comments_mode_and_everything_else_stay(config: Path) -> None:
    promote(config, load_settings(config), "next", beside=True)
    assert roles(config) == {"now": "primary", "next": "primary"}
    for comment in ("# our node", "# since May", "# looked at"):
        assert comment in config.read_text()
    assert config.stat().st_mode & 0o777 == 0o640
    assert [each.name for each in config.parent.iterdir()] == ["node.toml"]


def test_a_name_that_is_none_and_a_model_that_is_primary_are_refused(config: Path) -> None:
    with pytest.raises(ConfigurationError, match="no model of the settings is named 'nxt': now, next"):
        promote(config, load_settings(config), "nxt", beside=False)
    with pytest.raises(ConfigurationError, match="the model now is primary already"):
        promote(config, load_settings(config), "now", beside=False)
    assert config.read_text() == TEXT


def test_an_entry_of_a_variable_is_not_changed_in_the_file(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(
        "DICOM_NODE_MODELS", '[{"name":"a","bundle":"x"},{"name":"b","bundle":"y","role":"shadow"}]'
    )
    with pytest.raises(ConfigurationError, match=r"has no \[\[models\]\] named 'b': a variable sets it"):
        promote(config, load_settings(config), "b", beside=False)
