"""Tables of scores: CSV and Parquet hold the same, and go on after an interruption."""

from __future__ import annotations

import csv
import functools
import importlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dicom_node.analysis.score_table import COLUMNS
from dicom_node.analysis.table_files import read_csv
from models.bundles.bundle import write_bundle
from models.bundles.onnx_graph import write_graph
from tests.support import factories
from tests.support.peers import ROOT, cli, until
from tests.support.tiny_bundle import CALIBRATION, KEYS, MANIFEST, make_network

WITHOUT_GATE = {"DICOM_NODE_WORKER__GATE": ""}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle") / "tiny-0.0.1"
    return write_graph(write_bundle(folder, MANIFEST, KEYS, make_network(), CALIBRATION)).path


@pytest.fixture
def films(tmp_path: Path) -> Path:
    folder = tmp_path / "films"
    folder.mkdir()
    for number in range(1, 6):
        ds = factories.film(study=number, rows=80, columns=70, PatientID=f"PAT-{number}")
        factories.write(ds, folder / f"{number}.dcm")
    return folder


def analyze(films: Path, bundle: Path, *words: object) -> subprocess.CompletedProcess[str]:
    given = ("analyze", str(films), "--bundle", str(bundle), *map(str, words))
    return cli(*given, environment=WITHOUT_GATE)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_parquet_holds_what_csv_holds(films: Path, bundle: Path, tmp_path: Path) -> None:
    parquet = importlib.import_module("pyarrow.parquet")
    factories.write(factories.film(study=9, body_part="HAND"), films / "hand.dcm")
    done = analyze(films, bundle, "--csv", tmp_path / "a.csv", "--parquet", tmp_path / "a.parquet")
    assert done.returncode == 1, done.stderr
    texts = rows_of(tmp_path / "a.csv")
    table = parquet.read_table(tmp_path / "a.parquet")
    values = table.to_pylist()
    assert len(texts) == len(values) == 5 * len(KEYS) + 1
    for text, value in zip(texts, values, strict=True):
        assert text == {name: "" if each is None else str(each) for name, each in value.items()}
    assert table.field("score").metadata[b"description"].startswith(b"output of the network")
    assert {row["patient_id"] for row in values} == {*(f"PAT-{number}" for number in range(1, 6)), "PAT-1"}
    again = analyze(films, bundle, "--parquet", tmp_path / "a.parquet", "--resume", "--json")
    assert json.loads(again.stdout)["studies"] == []
    assert parquet.read_table(tmp_path / "a.parquet").to_pylist() == values


def test_a_run_goes_on_where_it_was_stopped(films: Path, bundle: Path, tmp_path: Path) -> None:
    table, whole = tmp_path / "scores.csv", tmp_path / "whole.csv"
    assert analyze(films, bundle, "--csv", whole, "--out", tmp_path / "all").returncode == 0
    words = [
        "analyze",
        str(films),
        "--bundle",
        str(bundle),
        "--csv",
        str(table),
        "--out",
        str(tmp_path / "o"),
    ]
    # A shell starts what it runs in the background deaf to the signal, and so would this program be.
    hear = functools.partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(
        [sys.executable, "-m", "dicom_node", *words],
        env={**os.environ, **WITHOUT_GATE, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        preexec_fn=hear,  # noqa: PLW1509
    ) as process:
        until(lambda: table.exists() and len(list(read_csv(table, COLUMNS))) >= len(KEYS), 60, "one study")
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(60) in (130, 0)
        assert process.stderr is not None
        said = process.stderr.read().decode()
    assert process.returncode == 0 or "the same command with --resume goes on" in said
    held = {row["study_instance_uid"] for row in rows_of(table)}
    assert held
    # The last study in parts, as a kill leaves it.
    lines = table.read_bytes().splitlines(keepends=True)
    table.write_bytes(b"".join(lines[:-1]) + lines[-1][:20])
    done = analyze(films, bundle, "--csv", table, "--resume", "--out", tmp_path / "o", "--json")
    assert done.returncode == 0, done.stderr
    read = {study["study_instance_uid"] for study in json.loads(done.stdout)["studies"]}
    assert len(held - read) == len(held) - 1
    assert sorted(table.read_text().splitlines()) == sorted(whole.read_text().splitlines())
    assert {path.name for path in (tmp_path / "o").iterdir()} == {
        path.name for path in (tmp_path / "all").iterdir()
    }


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (("--resume",), 2, "--resume needs the table to go on with"),
        (("--csv", "{other}", "--resume"), 2, "its scores are of other 1.0.0 and not of tiny 0.0.1"),
        (("--csv", "{odd}", "--resume"), 1, "it is no table of this version"),
        (("--csv", "{folder}"), 1, "Is a directory; name another file"),
    ],
)
def test_a_table_that_cannot_be_continued_is_named(
    films: Path, bundle: Path, tmp_path: Path, words: tuple[str, ...], code: int, sentence: str
) -> None:
    (tmp_path / "odd.csv").write_text("a,b\n1,2\n")
    row: dict[str, Any] = {"study_instance_uid": "1.2", "state": "SKIPPED", "model": "other"}
    row["model_version"] = "1.0.0"
    lines = [[column.name for column in COLUMNS], [row.get(column.name, "") for column in COLUMNS]]
    (tmp_path / "other.csv").write_text("".join(",".join(line) + "\r\n" for line in lines))
    places = {"other": tmp_path / "other.csv", "odd": tmp_path / "odd.csv", "folder": tmp_path}
    done = analyze(films, bundle, *(word.format(**places) for word in words))
    assert done.returncode == code, done.stderr
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_a_study_that_was_not_read_keeps_its_exit_code(films: Path, bundle: Path, tmp_path: Path) -> None:
    factories.write(factories.film(study=9, body_part="HAND"), films / "hand.dcm")
    (films / "notes.txt").write_text("no film")
    table = tmp_path / "scores.csv"
    first = analyze(films, bundle, "--csv", table)
    assert first.returncode == 1
    assert re.search(r"^6 studies in [\d.]+ s: 5 REPORTED, 1 SKIPPED, 1 file unreadable$", first.stderr, re.M)
    held = rows_of(table)
    again = analyze(films, bundle, "--csv", table, "--resume")
    assert again.returncode == 1
    assert "6 studies in the table: not read again" in again.stderr
    assert rows_of(table) == held
    assert [row["film"] for row in held if row["state"] == "UNREADABLE"] == [str(films / "notes.txt")]


def test_scores_without_calibration_are_shown_and_explained(films: Path, bundle: Path) -> None:
    done = analyze(films / "1.dcm", bundle)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("Nodule")]
    assert "not calibrated" in line
    assert "a score of 0.550" in line
    assert "score: output of the network, 0 to 1, and no probability" in " ".join(done.stdout.split())
