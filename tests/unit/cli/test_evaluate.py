"""``evaluate``: its printed and written figures, and its errors."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from models.bundles.bundle import Bundle, write_bundle
from tests.support.model_families import write_family
from tests.support.openi_folder import write_openi
from tests.support.tiny_bundle import CALIBRATION, KEYS, MANIFEST, make_network


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_openi(tmp_path_factory.mktemp("films") / "openi", {"train": 1, "test": 24, "sealed": 4})
    reports = root / "ecgen-radiology"
    reports.mkdir()
    for number in range(1, 30):
        parts = {"INDICATION": "fever", "FINDINGS": "Chest pain in the heart. No effusion.", "IMPRESSION": ""}
        texts = "".join(f'<AbstractText Label="{part}">{text}</AbstractText>' for part, text in parts.items())
        (reports / f"{number}.xml").write_text(f"<eCitation>{texts}</eCitation>", encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("bundles") / "tiny-0.0.1"
    return write_bundle(folder, MANIFEST, KEYS, make_network(), CALIBRATION)


def run(*words: object) -> Result:
    from dicom_node.cli.app import app

    return CliRunner().invoke(app, ["evaluate", *map(str, words)])


def refused(capsys, monkeypatch, *words: object) -> tuple[int, str]:
    """Exit code and the one line that says why."""
    from dicom_node.cli import app as root

    monkeypatch.setattr("sys.argv", ["dicom-node", "evaluate", *map(str, words)])
    with pytest.raises(SystemExit) as stopped:
        root.main()
    (line,) = [line for line in capsys.readouterr().err.strip().splitlines() if line.startswith("error: ")]
    return int(stopped.value.code or 0), line


def test_the_figures_are_printed_as_json_and_nothing_else(bundle: Bundle, films: Path):
    done = run(bundle.path, "--dataset", "openi", "--data", films, "--split", "test", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert {"bundle", "dataset", "split", "text", "n_studies", "macro", "labels"} <= set(found)
    assert {"auc", "ap", "f1"} <= set(found["macro"])
    for label in found["labels"].values():
        assert {"n_positive", "auc", "auc_low", "auc_high", "ap", "f1", "threshold"} <= set(label)


def test_the_folder_holds_what_was_printed(bundle: Bundle, films: Path, tmp_path: Path):
    out, file = tmp_path / "deep" / "out", tmp_path / "figures.json"
    done = run(bundle.path, "--data", films, "--out", out, "--figures", file)
    assert done.exit_code == 0, done.output
    assert {"metrics.json", "report.html", "table.md", "roc.png"} <= {path.name for path in out.iterdir()}
    assert json.loads(file.read_text()) == json.loads((out / "metrics.json").read_text())
    assert done.stdout.startswith("RESEARCH USE ONLY")
    assert "Macro averages on openi test, text: none" in done.stdout


def test_any_split_of_the_index_is_measured(bundle: Bundle, films: Path):
    done = run(bundle.path, "--data", films, "--split", "sealed", "--json")
    assert json.loads(done.stdout)["n_studies"] == 4


def test_a_table_of_own_films_gives_the_figures_of_the_data_set(bundle: Bundle, films: Path, tmp_path: Path):
    from models.data.openi import read_openi
    from models.evaluation.tables import evaluation_command
    from models.labels.vocabulary import load_vocabulary

    studies = read_openi(films, load_vocabulary()).split("test")
    with (tmp_path / "own.csv").open("w", newline="") as lines:
        table = csv.writer(lines)
        table.writerow(["path", "patient", *KEYS])
        for study in studies:
            truth = [int(key in study.keys) for key in KEYS]
            table.writerows([film, study.identifier, *truth] for film in study.films[:1])
    figures = []
    for words in (["--csv", tmp_path / "own.csv"], ["--data", films]):
        done = run(bundle.path, *words, "--json")
        assert done.exit_code == 0, done.output
        figures.append(json.loads(done.stdout))
    own, same = figures
    assert evaluation_command(own).endswith("--csv own.csv --split test --text none")
    assert (own["dataset"], own["split"], own["n_studies"]) == ("own.csv", "test", len(studies))
    for key in KEYS:
        assert own["labels"][key]["n_positive"] == same["labels"][key]["n_positive"]


def test_a_bundle_that_reads_text_is_measured_with_each(films: Path, tmp_path: Path):
    reader = write_family(tmp_path, "concatenation").path
    found = {}
    for text in ("none", "indication", "report"):
        done = run(reader, "--data", films, "--text", text, "--json")
        assert done.exit_code == 0, done.output
        found[text] = json.loads(done.stdout)
        assert found[text]["text"] == text
    assert len({found[text]["labels"]["normal"]["auc"] for text in found}) > 1
    assert ["report" in str(table["warnings"]) for table in found.values()] == [False, False, True]


class TestRefusals:
    def test_words_that_are_wrong(self, bundle: Bundle, films: Path, tmp_path: Path, capsys, monkeypatch):
        good = (bundle.path, "--data", films)
        for words, code, message in (
            ((*good, "--text", "report"), 2, "tiny 0.0.1 reads films alone; use --text none"),
            ((*good, "--text", "all"), 2, "use one of none, indication, report"),
            ((*good, "--split", "later"), 2, "no split 'later'; it has train, val, test, sealed"),
            ((*good, "--dataset", "padchest"), 2, "no data set is called 'padchest'"),
            ((*good, "--figures", tmp_path / "no" / "f.json"), 2, "there is no folder"),
            ((*good, "--figures", tmp_path), 2, "name another place"),
            ((*good, "--out", films / "index.csv"), 2, "name another place"),
            (("nonesuch", "--data", films), 2, "no bundle 'nonesuch'"),
            ((bundle.path,), 2, "name the films: --data with --dataset, or --csv"),
            ((*good, "--csv", films / "index.csv"), 2, "name the films"),
            ((bundle.path, "--csv", films / "none.csv"), 2, "there is no such file"),
            ((bundle.path, "--csv", films / "index.csv"), 1, "a column path"),
            ((bundle.path, "--csv", films / "index.csv", "--explanations"), 2, "--csv measures the answers"),
        ):
            assert refused(capsys, monkeypatch, *words)[0] == code, words
            assert message in refused(capsys, monkeypatch, *words)[1]

    def test_a_bundle_that_requires_text_is_not_measured_without(
        self, films: Path, tmp_path: Path, capsys, monkeypatch
    ):
        strict = write_family(tmp_path, "concatenation", text="required").path
        code, line = refused(capsys, monkeypatch, strict, "--data", films)
        assert code == 2
        assert "requires text; use --text indication" in line
