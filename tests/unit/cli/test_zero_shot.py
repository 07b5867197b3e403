"""``zero-shot``: findings in words are scored with a text tower; other bundles are refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from models.bundles.bundle import Bundle
from models.text.text_format import TextFormat
from tests.support import factories
from tests.support.model_families import TEXT, VIT, write_family
from tests.support.tiny_bundle import KEYS


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_family(
        tmp_path_factory.mktemp("bundles"),
        "biomedclip",
        arguments={**VIT, "embedding": 16, "hidden": [16, 8], "prompts": TEXT},
        tokens=TextFormat(max_length=12, pad_id=0),
    )


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("films") / "film.png"
    Image.fromarray(np.random.default_rng(3).integers(0, 255, (96, 96), np.uint8)).save(path)
    return path


def run(*words: object) -> Result:
    from dicom_node.cli.app import app

    return CliRunner().invoke(app, ["zero-shot", *map(str, words)])


def scores(*words: object) -> dict[str, dict[str, float]]:
    done = run(*words, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["intended_use"] == "RESEARCH USE ONLY"
    return found["scores"]


def test_films_of_either_kind_are_asked_what_was_said(bundle: Bundle, film: Path, tmp_path: Path) -> None:
    dicom = tmp_path / "film.dcm"
    factories.write(factories.film(), dicom)
    found = scores(film, dicom, "--bundle", bundle.path, "-f", "nodule", "-f", "chronic effusion")
    assert set(found) == {str(film), str(dicom)}
    for answers in found.values():
        assert set(answers) == {"nodule", "chronic effusion"}
        assert all(0 < score < 1 for score in answers.values())
    assert found[str(film)] != found[str(dicom)]


def test_without_words_the_labels_of_the_bundle_are_asked(bundle: Bundle, film: Path) -> None:
    (answers,) = scores(film, "-b", bundle.path).values()
    assert len(answers) == len(KEYS)
    table = run(film, "-b", bundle.path).stdout
    assert "RESEARCH USE ONLY" in table
    assert all(name in table for name in answers)


@pytest.mark.parametrize(
    ("family", "words", "sentence"),
    [
        ("densenet", (), "has no text tower"),
        ("biomedclip", ("-f", " "), "is empty"),
        ("biomedclip", ("/nonexistent.png",), "is missing"),
    ],
)
def test_what_cannot_be_asked_is_one_sentence(
    family: str, words: tuple[str, ...], sentence: str, bundle: Bundle, film: Path, tmp_path: Path
) -> None:
    path = bundle.path if family == "biomedclip" else write_family(tmp_path, family).path
    done = run(film, *words, "-b", path)
    assert done.exit_code != 0
    assert sentence in str(done.exception)
