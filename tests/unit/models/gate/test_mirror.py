"""Mirror answer of the gate: it changes its mind with the film, and reads only its own file."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.errors import BundleError
from models.gate.fit import fit_mirror
from models.gate.mirror import MIRROR, asymmetry, mirrored_scores, pack_mirror, unpack_mirror
from models.gate.model import MANIFEST, Gate, amend_gate, read_manifest


@pytest.fixture(scope="module")
def gate() -> Gate:
    return Gate.load()


def _features(standard: np.ndarray) -> np.ndarray:
    """Brightness of the left and of the right half."""
    return np.stack([half.mean((1, 2)) for half in np.split(standard, 2, axis=-1)], 1)


def test_the_side_that_is_brighter_is_learnt_and_a_mirrored_film_is_told() -> None:
    films = np.random.default_rng(1).random((64, 8, 8), np.float32)
    films[:, :, 4:] += 0.5  # a heart on the right of the picture
    differences = asymmetry(_features, films)
    weights = fit_mirror(differences, np.full(2, 0.01, np.float32))
    assert max(mirrored_scores(weights, differences)) < 0.5
    assert min(mirrored_scores(weights, asymmetry(_features, films[..., ::-1]))) > 0.5


def test_the_score_of_the_mirror_image_is_the_rest_to_one(gate: Gate) -> None:
    film = np.random.default_rng(1).random((200, 160), np.float32)
    scores = gate.mirrored_scores([film, np.ascontiguousarray(film[:, ::-1])])
    assert scores is not None
    assert sum(scores) == pytest.approx(1, abs=1e-5)
    even = np.concatenate([film, film[:, ::-1]], axis=1)
    assert gate.mirrored_scores([even]) == pytest.approx([0.5], abs=1e-5)
    assert gate.mirrored_scores([]) == []


@pytest.mark.films
def test_films_of_the_test_split_are_told_from_their_mirror_images(gate: Gate, films_root: Path) -> None:
    with (films_root / "openi" / "index.csv").open() as lines:
        rows = [row for row in csv.DictReader(lines) if row["split"] == "test"]
    frontal = [row["file"] for row in rows if row["projection"] == "Frontal"][:60]
    films = [
        np.asarray(Image.open(films_root / "openi" / "images" / name).convert("L"), np.float32) / 255
        for name in frontal
    ]
    scores = gate.mirrored_scores(films)
    assert scores is not None
    assert sum(score < 0.5 for score in scores) >= 58


def test_a_gate_without_the_file_gives_no_answer(gate: Gate, tmp_path: Path) -> None:
    folder = tmp_path / gate.path.name
    shutil.copytree(gate.path, folder)
    (folder / MIRROR).unlink()
    text = (folder / MANIFEST).read_text(encoding="utf-8")
    kept = [line for line in text.splitlines() if MIRROR not in line]
    (folder / MANIFEST).write_text("\n".join(kept) + "\n", encoding="utf-8")
    plain = Gate(folder)
    assert plain.mirrored_scores([np.zeros((64, 64), np.float32)]) is None
    assert read_manifest(amend_gate(folder, plain.manifest, {}).path)[1].keys() == plain.hashes.keys()


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"no safetensors",
        pack_mirror(np.zeros(3, np.float32)),
        pack_mirror(np.full(2, np.nan, np.float32)),
    ],
)
def test_a_file_that_does_not_fit_is_refused(raw: bytes) -> None:
    with pytest.raises(BundleError, match=MIRROR):
        unpack_mirror(raw, 2)


def test_the_file_gives_back_what_was_written() -> None:
    weights = np.arange(5, dtype=np.float32)
    assert np.array_equal(unpack_mirror(pack_mirror(weights), 5), weights)
