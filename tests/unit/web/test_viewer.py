"""The viewer's bundle is what its source makes, and it ships with the package."""

from __future__ import annotations

import filecmp
import hashlib
import json
import os
import re
import shutil
import sys
import tomllib
from pathlib import Path
from subprocess import run

import pytest

ROOT = Path(__file__).resolve().parents[3]
SOURCE = ROOT / "dicom_node" / "web" / "viewer"
BUILT = ROOT / "dicom_node" / "web" / "static" / "viewer"


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_manifest_names_the_sources_and_the_files_as_they_are() -> None:
    manifest = json.loads((BUILT / "manifest.json").read_text())
    present = {file.relative_to(SOURCE).as_posix() for file in (SOURCE / "src").iterdir()}
    present |= {"package-lock.json", "package.json", "tsconfig.json", "vite.config.js"}
    assert manifest["sources"] == {name: sha256(SOURCE / name) for name in present}, "run make viewer"
    built = {file.name for file in BUILT.iterdir()} - {"manifest.json"}
    assert manifest["built"] == {name: sha256(BUILT / name) for name in built}, "run make viewer"
    assert {"viewer.js", "viewer.css", "LICENSES.md"} <= built


def test_every_file_ships_with_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["dicom_node"]
    package = ROOT / "dicom_node"
    shipped = {file for pattern in patterns for file in package.glob(pattern)}
    assert set(BUILT.iterdir()) <= shipped


def test_the_viewer_takes_no_key_of_the_page_around_it() -> None:
    page = (BUILT.parent / "page.js").read_text()
    of_page = set(re.findall(r"event\.key === \"(.+?)\"", page))
    assert {"j", "k", "/"} <= of_page
    of_viewer = re.findall(
        r"^\s+.*\['(.+?)', (?:\(viewer|HELD)", (SOURCE / "src" / "keys.ts").read_text(), re.MULTILINE
    )
    assert len(of_viewer) > 30
    assert len(of_viewer) == len(set(of_viewer))
    assert not of_page & set(of_viewer)


def test_the_lock_file_names_no_host() -> None:
    lock = json.loads((SOURCE / "package-lock.json").read_text())
    packages = [entry for name, entry in lock["packages"].items() if name]
    assert packages
    assert all("resolved" not in entry and "integrity" in entry for entry in packages)


@pytest.mark.timeout(900)
def test_building_anew_elsewhere_gives_the_same_bytes(tmp_path: Path) -> None:
    shutil.copytree(SOURCE, tmp_path / "viewer", ignore=shutil.ignore_patterns("node_modules"))
    programs = Path(sys.executable).parent
    for command in ("ci", "run build"):
        done = run(
            [programs / "npm", *command.split()],
            cwd=tmp_path / "viewer",
            env={**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    again = tmp_path / "static" / "viewer"
    names = sorted(file.name for file in BUILT.iterdir())
    assert sorted(file.name for file in again.iterdir()) == names
    assert filecmp.cmpfiles(BUILT, again, names, shallow=False) == (names, [], [])
