from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from dicom_node.cli import doctor as module
from dicom_node.cli.checks import installed, storage
from dicom_node.cli.checks.check import Check
from dicom_node.cli.doctor import doctor, run_checks
from dicom_node.config.settings import Settings, load_settings
from tests.support.doctor import settings_for


def test_everything_is_looked_at_and_nothing_is_changed(tmp_path: Path) -> None:
    settings = settings_for(tmp_path / "data")
    names = [check.name for check in run_checks(settings)]
    assert len(set(names)) == len(names)
    assert {
        "dicom-node", "python", "extra worker", "extra worker-light", "extra embedded", "extra postgresql",
        "extra train",
        "data_dir", "private files", "free space", "database", "broker", "dicom port", "web port",
        "destinations", "decoder", "device", "runtime of the bundle", "runtime of the gate", "bundle",
        "similar cases", "gate",
        "tool dciodvfy", "tool Orthanc", "tool storescu", "tool dsrdump",
    } == set(names)  # fmt: skip
    assert not settings.data_dir.exists()


def test_a_check_that_failed_must_say_what_to_do() -> None:
    with pytest.raises(ValueError, match="what to do"):
        Check("disk", ok=False, found="full")
    with pytest.raises(ValueError, match="what was found"):
        Check("disk", ok=True, found="")


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> typer.Typer:
    for name, value in {
        "DATA_DIR": tmp_path,
        "DICOM__PORT": 0,
        "WEB__PORT": 0,
        "DICOM__MIN_FREE_BYTES": 0,
    }.items():
        monkeypatch.setenv(f"DICOM_NODE_{name}", str(value))
    monkeypatch.setattr(module, "settings_of", lambda _ctx: load_settings())
    monkeypatch.setattr(module, "CHECKS", (installed.python, storage.data_dir, storage.free_space))
    one_command = typer.Typer()
    one_command.command()(doctor)
    return one_command


def test_the_command_ends_with_0_when_nothing_essential_failed(app: typer.Typer) -> None:
    answer = CliRunner().invoke(app, [])
    assert answer.exit_code == 0
    assert "everything essential is in order" in answer.stdout
    assert "Research use only" in answer.stdout


def test_the_command_ends_with_1_and_says_what_to_do(
    app: typer.Typer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DICOM_NODE_DICOM__MIN_FREE_BYTES", str(2**60))
    answer = CliRunner().invoke(app, [], env={"COLUMNS": "200"})
    assert answer.exit_code == 1
    assert "FAILED" in answer.stdout
    assert "→ free space, or lower dicom.min_free_bytes" in answer.stdout
    assert "1 failed" in answer.stdout


def test_json_has_every_check(app: typer.Typer) -> None:
    answer = json.loads(CliRunner().invoke(app, ["--json"]).stdout)
    assert answer["healthy"] is True
    assert [check["name"] for check in answer["checks"]] == ["dicom-node", "python", "data_dir", "free space"]
    assert set(answer["checks"][0]) == {"name", "ok", "found", "remedy"}


def test_markup_in_what_was_found_is_printed_as_it_is(
    app: typer.Typer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        module, "CHECKS", (lambda _: [Check("x", ok=None, found="[red]no[/red]", remedy="[[a]]")],)
    )
    answer = CliRunner().invoke(app, [])
    assert "[red]no[/red]" in answer.stdout
    assert "[[a]]" in answer.stdout


def test_a_check_that_breaks_is_a_failed_check(app: typer.Typer, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_settings: Settings) -> Iterator[Check]:
        raise UnicodeError("label empty or too long")
        yield

    monkeypatch.setattr(module, "CHECKS", (broken, storage.free_space))
    answer = CliRunner().invoke(app, ["--json"])
    assert answer.exit_code == 1
    checks = {check["name"]: check for check in json.loads(answer.stdout)["checks"]}
    assert checks["free space"]["ok"] is True
    assert checks["broken"]["ok"] is False
    assert "UnicodeError: label empty or too long" in checks["broken"]["found"]
