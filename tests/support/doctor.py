"""Single checks of ``dicom-node doctor``, and hosts on which packages are missing."""

from __future__ import annotations

import builtins
import importlib.metadata
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from dicom_node.cli.checks.check import Check
from dicom_node.config.settings import Settings


def settings_for(folder: Path, **changes: object) -> Settings:
    """Settings with a data directory, free ports and no limit on free disk space."""
    values: dict[str, Any] = {
        "data_dir": folder,
        "dicom": {"port": 0, "min_free_bytes": 0},
        "web": {"port": 0},
        **changes,
    }
    return Settings(**values)


def check_named(look: Callable[[Settings], Iterable[Check]], settings: Settings, name: str) -> Check:
    """Run a group of checks and return the one with this name."""
    (check,) = [each for each in look(settings) if each.name == name]
    return check


def hide_packages(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Make packages appear as not installed."""
    real_import, real_version = builtins.__import__, importlib.metadata.version

    def importing(name: str, *rest: Any, **more: Any) -> Any:
        if name.partition(".")[0] in names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real_import(name, *rest, **more)

    def version(name: str) -> str:
        if name in names:
            raise importlib.metadata.PackageNotFoundError(name)
        return real_version(name)

    monkeypatch.setattr(builtins, "__import__", importing)
    monkeypatch.setattr(importlib.metadata, "version", version)
