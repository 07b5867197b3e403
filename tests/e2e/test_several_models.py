"""Two primary models and a shadow in a running node: what leaves, what is kept, and a promotion."""

from __future__ import annotations

import re
import urllib.request
from collections import Counter
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from sklearn.metrics import cohen_kappa_score

from dicom_node.imaging.pixels import read_film
from dicom_node.results import codes, content_rules
from models.bundles.onnx_graph import write_graph
from models.bundles.predictor import Predictor
from models.labels.vocabulary import load_vocabulary
from models.processing.types import Film, Study
from tests.support.dicom_tools import storescu
from tests.support.film_file import write_films
from tests.support.peers import Node, StoreSCP, until
from tests.support.tiny_bundle import KEYS, write_named

FILMS = 100
SHIFTS = {"alpha": 0.0, "beta": 0.5, "gamma": 1.0}


@pytest.fixture
def bundles(tmp_path: Path) -> dict[str, Path]:
    return {name: write_graph(write_named(tmp_path, name, shift)).path for name, shift in SHIFTS.items()}


@pytest.fixture
def config(tmp_path: Path, bundles: dict[str, Path]) -> Path:
    path = tmp_path / "node.toml"
    roles = {"alpha": "primary", "beta": "primary", "gamma": "shadow"}
    path.write_text(
        "# three models\n"
        + "".join(
            f'[[models]]\nname = "{name}"\nbundle = "{bundles[name]}"\nrole = "{role}"\n'
            for name, role in roles.items()
        )
    )
    return path


def models_of(pacs: StoreSCP) -> dict[str, set[str]]:
    """Names of the models whose reports a destination holds, by study."""
    found: dict[str, set[str]] = {}
    for path in pacs.files():
        ds = dcmread(path)
        names = {
            str(item.TextValue or "")
            for item in content_rules.descendants(ds)
            if content_rules.name_of(item) == codes.ALGORITHM_NAME.value
        }
        assert len(names) == 1
        found.setdefault(str(ds.StudyInstanceUID), set()).update(names)
    return found


@pytest.mark.timeout(400)
def test_all_is_accounted_for_and_nothing_of_a_shadow_leaves_until_it_is_promoted(
    tmp_path: Path, config: Path, bundles: dict[str, Path]
) -> None:
    films = write_films(tmp_path / "films", FILMS, rows=128, columns=112)
    uids = [str(dcmread(path, stop_before_pixels=True).StudyInstanceUID) for path in films]
    half = FILMS // 2
    settings = {"results__objects": '["sr"]', "study__quiet_seconds": "0", "worker__runtime": "onnx"}
    with (
        StoreSCP(tmp_path / "pacs") as pacs,
        Node(tmp_path / "node", [pacs.destination], config=config, **settings) as node,
    ):
        assert storescu(node.port, films[:half]).returncode == 0
        status = node.settled(half, seconds=180)
        assert status["audit"]["conserved"]
        assert status["studies"]["REPORTED"] == half
        assert models_of(pacs) == {uid: {"alpha", "beta"} for uid in uids[:half]}
        check_cohort(page_of(node), films[:half], bundles)

        workers = set(node.children()["worker"])
        assert storescu(node.port, films[half : half + 20]).returncode == 0  # while the workers change
        promoted = node.cli("models", "promote", "gamma")
        assert promoted.returncode == 0, promoted.stderr
        assert promoted.stdout.endswith("gamma primary, alpha and beta shadow\n")
        assert "# three models" in config.read_text()
        until(lambda: not workers & set(node.children().get("worker", [])), 60, "workers that started again")
        assert storescu(node.port, films[half + 20 :]).returncode == 0
        status = node.settled(FILMS, seconds=180)
        assert status["audit"]["conserved"]
        assert status["studies"]["REPORTED"] == FILMS
        sets = Counter(frozenset(names) for names in models_of(pacs).values())
        assert set(sets) == {frozenset({"alpha", "beta"}), frozenset({"gamma"})}
        assert sets[frozenset({"gamma"})] >= FILMS - half - 20
        assert node.stop() == 0
    assert not re.search(r"ended with|Traceback", node.output)
    trail = "".join(path.read_text() for path in (tmp_path / "node" / "audit").rglob("*.*"))
    assert "models: gamma primary, alpha and beta shadow" in trail


def page_of(node: Node) -> str:
    """Text of the cohort page, without its tags."""
    with urllib.request.urlopen(f"{node.page}cohort") as answer:
        return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", answer.read().decode())))


def check_cohort(page: str, films: list[Path], bundles: dict[str, Path]) -> None:
    """Compare the figures on the cohort page with those that are computed from the films."""
    shown, shadow = (_predictions(films, bundles[name]) for name in ("alpha", "gamma"))
    assert f"Shadow: gamma 0.0.1 beside alpha 0.0.1 {len(films)} studies that both have read" in page
    names = {label.key: label.name for label in load_vocabulary().select(KEYS)}
    for key in KEYS:
        one, other = shown[key], shadow[key]
        said = re.search(
            rf"{re.escape(names[key])}(?: scores, not calibrated)? {len(films)} (\d+) % (\d+) % "
            r"(\S+)(?: -?\d\.\d\d to -?\d\.\d\d)? ([+-]\d\.\d{3})",
            page,
        )
        assert said, (key, page)
        assert int(said[1]) == round(100 * np.mean(other["present"]))
        assert int(said[2]) == round(100 * np.mean(one["present"]))
        difference = np.mean(other["value"]) - np.mean(one["value"])
        assert float(said[4]) == pytest.approx(difference, abs=6e-4)
        if said[3] != "–":
            kappa = cohen_kappa_score(one["present"], other["present"])
            assert float(said[3]) == pytest.approx(kappa, abs=6e-3)


def _predictions(films: list[Path], bundle: Path) -> dict[str, dict[str, list[float]]]:
    predictor = Predictor.load(bundle, runtime="onnx")
    found: dict[str, dict[str, list[float]]] = {key: {"present": [], "value": []} for key in KEYS}
    for path in films:
        pixels = read_film(path, max_pixels=10**8).pixels
        (prediction,) = predictor.predict([Study((Film(path.name, pixels),), None)])
        for entry in prediction.findings:
            found[entry.key]["present"].append(entry.present)
            value = entry.score if entry.probability is None else entry.probability
            found[entry.key]["value"].append(value)
    return found
