from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dicom_node.cli.app import app
from dicom_node.results.document.key_objects import write_kos
from dicom_node.results.encoding.part10 import encoded, put
from dicom_node.results.sr.findings import write_sr
from tests.support.factories import film, write
from tests.support.peers import cli
from tests.support.reports import EQUIPMENT, report_of


def validated(*paths: Path) -> dict[str, list[str]]:
    answer = CliRunner().invoke(app, ["validate", "--json", *map(str, paths)])
    mistakes: dict[str, list[str]] = json.loads(answer.stdout)["mistakes"]
    assert answer.exit_code == int(any(mistakes.values()))
    return mistakes


def test_good_files_have_no_mistakes(tmp_path: Path) -> None:
    report = report_of(film(rows=96, columns=80))
    sr = write_sr(report, equipment=EQUIPMENT)
    paths = [tmp_path / "sr.dcm", tmp_path / "ko.dcm", write(film(), tmp_path / "film.dcm")]
    paths[0].write_bytes(encoded(sr))
    paths[1].write_bytes(encoded(write_kos(report, [sr], equipment=EQUIPMENT)))
    assert validated(*paths) == {str(path): [] for path in paths}


def test_every_mistake_is_listed(tmp_path: Path) -> None:
    sr = copy.deepcopy(write_sr(report_of(film(rows=96, columns=80)), equipment=EQUIPMENT))
    put(sr, PreliminaryFlag="FINAL")
    put(sr.ContentSequence[-1].ContentSequence[0].ConceptCodeSequence[0], CodeValue="95436003")
    put(sr.ContentSequence[0].ConceptNameCodeSequence[0], CodeMeaning="Speech")
    path = tmp_path / "sr.dcm"
    path.write_bytes(encoded(sr))
    found = "\n".join(validated(path)[str(path)])
    for words in ("not marked PRELIMINARY", "95436003", "check digit", "121049", "'Speech'"):
        assert words in found


def test_what_is_no_dicom_is_a_mistake_and_no_traceback(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("no DICOM")
    assert "cannot be read as DICOM" in validated(path)[str(path)][0]


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["validate", "/nonexistent.dcm"], 2, "no such file"),
        (["retract", "1.2.3", "--reason", "why"], 2, "there is no database"),
        (["replay", "1.2.3"], 2, "there is no database"),
        (["retract", "1.2.3", "--reason", " "], 2, "give the reason"),
    ],
)
def test_a_mistake_in_the_call_is_said(tmp_path: Path, words: list[str], code: int, sentence: str) -> None:
    done = cli(*words, environment={"DICOM_NODE_DATA_DIR": str(tmp_path / "node")})
    assert done.returncode == code, done.stderr
    assert sentence in done.stderr
