"""The node from a wheel: what is not in the checkout's folder is there all the same."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from dicom_node.config.data_dir import DataDir
from dicom_node.config.settings import Settings
from tests.support import factories
from tests.support.peers import ROOT, Node, cli


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the packages of a wheel of this checkout, beside which its dependencies are installed."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    build = ["wheel", str(ROOT), "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder)]
    subprocess.run([*pip, *build], check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    place = folder / "site"
    install = ["install", str(wheel), "--no-deps", "--no-index", "--target", str(place)]
    subprocess.run([*pip, *install], check=True, capture_output=True)
    return place


@pytest.fixture
def from_wheel(installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Programs that are started now run from the wheel, in a folder of their own."""
    monkeypatch.setenv("PYTHONPATH", str(installed))
    monkeypatch.chdir(tmp_path)
    asked = [sys.executable, "-c", "import dicom_node, models, worker; print(models.__file__)"]
    said = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    assert Path(said.strip()).is_relative_to(installed)
    return tmp_path


def test_a_film_is_analysed(from_wheel: Path) -> None:
    factories.write(factories.film(), from_wheel / "film.dcm")
    listed = json.loads(cli("models", "list", "--json").stdout)
    assert any(row["bundle"].startswith("openi-findings-") for row in listed["bundles"])
    settings = {"DICOM_NODE_DATA_DIR": "node", "DICOM_NODE_WORKER__GATE": ""}
    done = cli("analyze", "film.dcm", "--out", "out", environment=settings)
    assert done.returncode == 0, done.stderr
    assert list((from_wheel / "out").rglob("*-sr.dcm"))


def test_the_page_has_its_templates_and_its_viewer(from_wheel: Path) -> None:
    DataDir(Settings(data_dir=from_wheel / "node")).prepare()
    with Node(from_wheel / "node", command="web") as web:
        for path in ("", "static/viewer/viewer.js", "static/page.css"):
            with urllib.request.urlopen(web.page + path, timeout=30) as answer:
                assert answer.status == 200
