"""The gate gives the same verdicts in ONNX Runtime as in torch."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.bundles.manifest import GRAPH
from models.errors import BundleError, UsageError
from models.gate.graph import write_gate_graph
from models.gate.model import Gate, amend_gate, write_gate
from models.processing.types import Film
from tests.support.drawn_studies import draw_study

GATES = ("torch", "onnx")


@pytest.fixture(scope="module")
def gates() -> tuple[Gate, Gate]:
    first, second = (Gate.load(runtime=name) for name in GATES)
    return first, second


def check_agreement(gates: tuple[Gate, Gate], films: list[Film]) -> None:
    for one, other in zip(*(gate.judge(films) for gate in gates), strict=True):
        assert (one.view, one.reason) == (other.view, other.reason)
        for name in ("view_score", "chest_score", "inverted_score", "rotated_score"):
            assert getattr(one, name) == pytest.approx(getattr(other, name), abs=1e-4), name
        assert one.distance == pytest.approx(other.distance, rel=1e-3)
    pixels = [film.pixels for film in films]
    np.testing.assert_allclose(*(gate.mirrored_scores(pixels) for gate in gates), atol=1e-4)


def test_drawn_films_get_the_same_verdicts(gates: tuple[Gate, Gate]) -> None:
    films = [film for seed in range(12) for film in draw_study(seed).films]
    turned = [Film(f"turned {film.identifier}", np.rot90(film.pixels).copy()) for film in films]
    inverted = [Film(f"inverted {film.identifier}", 1 - film.pixels) for film in films]
    check_agreement(gates, [*films, *turned, *inverted])
    assert gates[0].identity == gates[1].identity


@pytest.mark.films
@pytest.mark.timeout(1200)
def test_films_get_the_same_verdicts(gates: tuple[Gate, Gate], films_root: Path) -> None:
    with (films_root / "openi" / "index.csv").open(encoding="utf-8") as lines:
        names = [row["file"] for row in csv.DictReader(lines) if row["split"] == "test"][:200]
    films = [
        Film(
            name,
            np.asarray(Image.open(films_root / "openi" / "images" / name).convert("L"), np.float32) / 255,
        )
        for name in names
    ]
    check_agreement(gates, films)


def test_a_gate_without_a_graph_runs_in_torch_or_says_how_to_write_it(
    gates: tuple[Gate, Gate], tmp_path: Path
) -> None:
    folder = tmp_path / "gate-0.2.0"
    shutil.copytree(gates[0].path, folder)
    (folder / GRAPH).unlink()
    amend_gate(folder, gates[0].manifest, {})
    with pytest.raises(BundleError, match=r"has no ONNX graph.*dicom-node models export"):
        Gate.load(folder, runtime="onnx")
    plain = Gate.load(folder, runtime="auto")
    assert plain.session.runtime == "torch"
    again = write_gate_graph(plain)
    assert again.hashes[GRAPH] == gates[0].hashes[GRAPH]
    assert GRAPH not in write_gate(folder, plain.manifest, plain.network).hashes


def test_the_network_is_torchs(gates: tuple[Gate, Gate]) -> None:
    with pytest.raises(UsageError, match="needs torch"):
        _ = gates[1].network
