from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.config import settings_watch
from dicom_node.config.settings import load_settings
from dicom_node.config.settings_watch import SettingsWatch

ONE = '[[models]]\nname = "a"\nbundle = "openi-findings"\n'
TWO = ONE + '[[models]]\nname = "b"\nbundle = "openi-groups"\nrole = "shadow"\n'


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(settings_watch, "_SECONDS", 0.0)
    path = tmp_path / "node.toml"
    path.write_text(ONE)
    return path


def write(config: Path, text: str) -> None:
    """Replace the file, as editors and `models promote` do."""
    draft = config.with_suffix(".new")
    draft.write_text(text)
    draft.replace(config)


def test_other_models_are_taken_once(config: Path) -> None:
    watch = SettingsWatch(config, load_settings(config))
    assert not watch.models_changed()
    write(config, TWO)
    assert watch.models_changed()
    assert not watch.models_changed()
    write(config, TWO + "# nothing\n")
    assert not watch.models_changed()
    write(config, ONE)
    assert watch.models_changed()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            TWO + "[dicom]\nport = 11113\n",
            "the configuration file was changed in dicom: start the node again",
        ),
        ("[[models]\n", "is not taken: "),
        ('[[models]]\nname = "a"\n', "give either bundle or url"),
        (ONE.replace("openi-findings", "gone"), "names other models, which are not taken: gone is gone"),
    ],
)
def test_a_change_that_cannot_be_taken_is_said_once_and_the_node_goes_on(
    config: Path, caplog: pytest.LogCaptureFixture, text: str, said: str
) -> None:
    watch = SettingsWatch(
        config,
        load_settings(config),
        lambda now: "gone is gone" if now.models[0].bundle == "gone" else "",
    )
    write(config, text)
    assert not watch.models_changed()
    assert not watch.models_changed()
    (record,) = caplog.records
    assert said in record.getMessage()
    write(config, TWO)
    assert watch.models_changed()


def test_a_file_that_goes_away_changes_nothing(config: Path) -> None:
    watch = SettingsWatch(config, load_settings(config))
    config.unlink()
    assert not watch.models_changed()
    assert not SettingsWatch(None, load_settings()).models_changed()
