"""What the node is made of: the lock, the SBOM, the licences, and the search for known weaknesses."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.support.peers import ROOT

BIN = Path(sys.executable).parent


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def recipe(target: str) -> str:
    """Commands of a target of the Makefile."""
    done = subprocess.run(
        ["make", "-n", target, f"VENV={BIN.parent}"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.fixture(scope="module")
def sbom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SBOM of this environment, made without a network."""
    path = tmp_path_factory.mktemp("sbom") / "sbom.cdx.json"
    away = {"HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}
    subprocess.run(
        [
            *(BIN / "cyclonedx-py", "environment", "--pyproject", "pyproject.toml", "--output-reproducible"),
            *("--of", "JSON", "-o", path, sys.executable),
        ],
        cwd=ROOT,
        env=os.environ | away,
        check=True,
        capture_output=True,
    )
    return path


def test_the_sbom_names_every_installed_distribution(sbom: Path) -> None:
    found: dict[str, Any] = json.loads(sbom.read_text())
    assert (found["bomFormat"], found["specVersion"]) == ("CycloneDX", "1.6")
    assert found["metadata"]["component"]["name"] == "dicom-node"
    versions = {plain(each["name"]): each.get("version") for each in found["components"]}
    installed = {plain(each.metadata["Name"]): each.version for each in importlib.metadata.distributions()}
    installed.pop("dicom-node")
    for name in ("torch", "pydicom", "pynetdicom", "celery", "fastapi"):
        assert versions[name] == installed[name]
    assert set(versions) >= set(installed)


def test_the_licences_are_a_table(sbom: Path) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "deploy" / "licences", sbom], capture_output=True, text=True, check=True
    )
    rows = done.stdout.splitlines()[2:]
    assert len(rows) == len(json.loads(sbom.read_text())["components"])
    assert all(re.fullmatch(r"\| [^|]+ \| [^|]* \| [^|]+ \|", row) for row in rows)
    assert any(row.startswith("| pydicom |") and "MIT" in row for row in rows)
    unstated = [row for row in rows if "not stated" in row]
    assert len(unstated) < len(rows) / 10, unstated


def test_make_runs_what_the_tests_run() -> None:
    assert "cyclonedx-py environment --pyproject pyproject.toml" in recipe("sbom")
    assert "deploy/licences build/sbom.cdx.json" in recipe("sbom")
    assert "deploy/audit-deps" in recipe("audit-deps")


def test_the_lock_pins_every_dependency_and_names_no_address() -> None:
    head, *lines = (ROOT / "requirements.lock").read_text().splitlines()
    assert head.startswith("# ")
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9][\w.+!]*", line) for line in lines)
    locked = [line.split("==")[0] for line in lines]
    assert locked == sorted(set(locked))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *(one for many in project["optional-dependencies"].values() for one in many),
    ]
    names = {plain(re.split(r"[\[<>=~! ]", line)[0]) for line in wanted} - {"dicom-node"}
    assert names <= set(locked)


@pytest.mark.parametrize(
    ("says", "code", "expected"),
    [
        ("No known vulnerabilities found", 0, 0),
        ("Found 1 known vulnerability in 1 package", 1, 1),
        ("requests.exceptions.ConnectionError: Max retries exceeded", 1, 2),
        ("six  Dependency not found on PyPI and could not be audited: six (1.17.0)", 0, 2),
    ],
)
def test_a_search_for_weaknesses_that_reached_nothing_is_not_taken_for_a_clean_one(
    tmp_path: Path, says: str, code: int, expected: int
) -> None:
    fake = tmp_path / "pip-audit"
    fake.write_text(f"#!/bin/sh\necho '{says}' >&2\nexit {code}\n")
    fake.chmod(0o755)
    done = subprocess.run(
        [ROOT / "deploy" / "audit-deps", fake], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == expected
    assert ("nothing was checked" in done.stderr) == (expected == 2)
