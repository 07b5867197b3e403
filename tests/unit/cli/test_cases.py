"""``cases``: an index is built, extended, verified, searched and measured."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from dicom_node.cli.app import app
from dicom_node.errors import ConfigurationError, NodeError
from models.retrieval.index import CASES, VECTORS
from models.retrieval.report_labeler import load_labeler
from tests.support import factories
from tests.support.drawn_index import REPORTS, write_joint
from tests.support.drawn_studies import draw_film
from tests.support.openi_folder import write_openi


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["cases", *map(str, words)])


def done(*words: str | Path) -> Result:
    result = run(*words)
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_joint(tmp_path_factory.mktemp("bundles") / "joint-0.0.1")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn films with reports, as Open-i is distributed."""
    folder = write_openi(tmp_path_factory.mktemp("openi"), {"train": 12, "val": 4, "test": 8})
    with tarfile.open(folder / "NLMCXR_reports.tgz", "w:gz") as archive:
        for number in range(1, 25):
            xml = folder / f"{number}.xml"
            findings = f'<AbstractText Label="FINDINGS">{REPORTS[number % 3]}</AbstractText>'
            xml.write_text(f"<eCitation><Abstract>{findings}</Abstract></eCitation>")
            archive.add(xml, f"ecgen-radiology/{number}.xml")
            xml.unlink()
    return folder


@pytest.fixture(scope="module")
def index(bundle: Path, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("indexes") / "joint"
    said = done("build", bundle, "--data", root, "--out", folder).output
    assert "12 cases (openi train)" in said
    assert "CC BY-NC-ND" in said
    return folder


@pytest.fixture
def film(tmp_path: Path) -> Path:
    path = tmp_path / "film.png"
    Image.fromarray((draw_film(64, 64, 10) * 255).astype(np.uint8)).save(path)
    return path


def test_an_index_is_verified_against_its_weights(index: Path, bundle: Path):
    facts = json.loads(done("verify", index, "--bundle", bundle, "--json").stdout)
    assert (facts["cases"], facts["width"], facts["reports"]) == (12, 20, True)
    assert "whole; 12 cases" in done("verify", index, "--bundle", bundle).output
    result = run("verify", index, "--bundle", "openi-groups")
    assert isinstance(result.exception, NodeError)
    assert "was built by joint-0.0.1" in str(result.exception)


def test_new_cases_are_added_once(index: Path, bundle: Path, root: Path, tmp_path: Path):
    grown = tmp_path / "grown"
    done("build", bundle, "--data", root, "--split", "val", "--out", grown)
    assert (
        "12 cases (openi val, openi test)"
        in done("add", grown, "--data", root, "--split", "test", "--bundle", bundle).output
    )
    before = (grown / CASES).read_bytes()
    assert "in it already" in done("add", grown, "--data", root, "--split", "test", "--bundle", bundle).output
    assert (grown / CASES).read_bytes() == before


@pytest.mark.parametrize("engine", ["exact", "hnsw"])
def test_films_find_cases_and_the_same_ones_every_time(index: Path, bundle: Path, film: Path, engine: str):
    dicom = factories.write(factories.film(), film.with_suffix(".dcm"))
    words = ("query", index, "--bundle", bundle, "--film", film, "--film", dicom, "-k", "3", "--json")
    first = json.loads(done(*words, "--engine", engine).stdout)
    assert first == json.loads(done(*words).stdout)
    assert len(first["cases"]) == 3
    assert first["intended_use"] == "RESEARCH USE ONLY"
    similarities = [entry["similarity"] for entry in first["cases"]]
    assert similarities == sorted(similarities, reverse=True)


def test_words_find_reports(index: Path, bundle: Path):
    found = json.loads(
        done(
            "query", index, "--bundle", bundle, "--text", "heart is enlarged", "--side", "reports", "--json"
        ).stdout
    )
    assert {entry["report"] for entry in found["cases"][:4]} == {"The heart is enlarged."}
    shown = done("query", index, "--bundle", bundle, "--text", "heart is enlarged").output
    assert "RESEARCH USE ONLY" in shown
    assert "openi:" in shown


def test_more_cases_than_there_are_is_said(index: Path, bundle: Path, film: Path):
    result = done("query", index, "--bundle", bundle, "--film", film, "-k", "50")
    assert "holds 12 such cases: all of them are listed" in result.stderr


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (("--text", "xyzzy"), ConfigurationError, "ask in English"),
        (("--text", "Herzvergrößerung"), ConfigurationError, "ask in English"),
        ((), ConfigurationError, "either --film"),
        (("--text", "heart", "--film", "film.png"), ConfigurationError, "either --film"),
        (("--film", "absent.png"), NodeError, "absent.png is missing"),
        (("--text", "heart is enlarged", "--engine", "annoy"), ConfigurationError, "no engine is called"),
        (("--text", "heart is enlarged", "--engine", "ivfpq"), NodeError, "use exact"),
        (("--text", "heart is enlarged", "--engine", "pgvector"), NodeError, "needs the address"),
    ],
)
def test_a_bad_question_is_one_sentence(
    index: Path, bundle: Path, words: tuple[str, ...], error: type, message: str
):
    result = run("query", index, "--bundle", bundle, *words)
    assert type(result.exception) is error
    assert message in str(result.exception)


def test_a_missing_or_damaged_index_is_one_sentence(index: Path, bundle: Path, tmp_path: Path):
    result = run("verify", "no-such-thing")
    assert "neither a folder nor the name of a bundle" in str(result.exception)
    result = run("verify", tmp_path)
    assert "there is no index" in str(result.exception)
    (tmp_path / CASES).write_bytes((index / CASES).read_bytes())
    (tmp_path / VECTORS).write_bytes((index / VECTORS).read_bytes()[:-1])
    result = run("verify", tmp_path, "--bundle", bundle)
    assert isinstance(result.exception, NodeError)
    assert "build it anew" in str(result.exception)


def test_an_empty_split_gives_no_index(bundle: Path, root: Path, tmp_path: Path):
    result = run("build", bundle, "--data", root, "--split", "sealed", "--out", tmp_path / "index")
    assert isinstance(result.exception, NodeError)
    assert not (tmp_path / "index").exists()


def test_figures_go_to_a_file_and_a_table(bundle: Path, root: Path, tmp_path: Path):
    file = tmp_path / "figures.json"
    shown = done(
        "evaluate", bundle, "--data", root, "--queries", "test", "--references", "train", "--figures", file
    ).output
    figures = json.loads(file.read_text())
    assert (figures["queries"], figures["references"], figures["n_references"]) == ("test", "train", 12)
    assert "share one group: P@5" in shown
    assert "RESEARCH USE ONLY" in shown
    elsewhere = ("--references", "train", "--references-root", root, "--json")
    again = json.loads(done("evaluate", bundle, "--data", root, "--queries", "test", *elsewhere).stdout)
    assert again["ways"] == figures["ways"]
    assert set(figures["ways"]) > {"image_only", "image_and_report"}
    result = run("evaluate", bundle, "--data", root, "--queries", "test", "--references-root", root)
    assert isinstance(result.exception, ConfigurationError)


def test_a_reader_of_reports_is_learnt(root: Path, tmp_path: Path):
    file = tmp_path / "reader.safetensors"
    assert "labels, trained on openi train" in done("learn", "--data", root, "--out", file).output
    assert len(load_labeler(file).keys) > 4
