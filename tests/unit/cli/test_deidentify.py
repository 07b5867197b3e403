"""``deidentify``: files, folders and stored studies, with one secret."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from typer.testing import CliRunner

from dicom_node.cli.app import app
from dicom_node.errors import ConfigurationError
from dicom_node.store.states import StudyState
from tests.support import factories
from tests.support.offline_node import OfflineNode


def run(*words: object, data_dir: Path) -> Any:
    environment = {"DICOM_NODE_DATA_DIR": str(data_dir)}
    return CliRunner().invoke(app, list(map(str, words)), env=environment)


def test_what_is_exported_today_and_later_fits_together(tmp_path: Path) -> None:
    films = tmp_path / "films"
    films.mkdir()
    for number in (1, 2):
        ds = factories.film(rows=64, columns=64, instance=number, BurnedInAnnotation="NO")
        factories.write(ds, films / f"{number}.dcm")
    done = run("deidentify", films, "--out", tmp_path / "a", "--json", data_dir=tmp_path / "node")
    assert json.loads(done.stdout) == {"written": 2, "refused": [], "out": str(tmp_path / "a")}
    run("deidentify", films / "1.dcm", "--out", tmp_path / "b", data_dir=tmp_path / "node")
    first = {path.relative_to(tmp_path / "a"): path.read_bytes() for path in tmp_path.glob("a/*/*.dcm")}
    (again,) = tmp_path.glob("b/*/*.dcm")
    assert first[again.relative_to(tmp_path / "b")] == again.read_bytes()
    assert len({path.parent for path in first}) == 1
    run("deidentify", films / "1.dcm", "--out", tmp_path / "c", data_dir=tmp_path / "other")
    (elsewhere,) = tmp_path.glob("c/*/*.dcm")
    assert elsewhere.name != again.name
    assert (tmp_path / "node" / "deidentification.key").stat().st_mode & 0o777 == 0o600


def test_a_stored_study_leaves_with_its_results(tmp_path: Path) -> None:
    node = OfflineNode(tmp_path / "node")
    film = factories.film(rows=64, columns=64, study=1, BurnedInAnnotation="NO")
    node.finish(1, StudyState.REPORTED, films=[film])
    node.close()
    words = (
        "deidentify",
        "--study",
        factories.uid("study", 1),
        "--out",
        tmp_path / "out",
        "--unknown-is-clean",
    )
    assert run(*words, data_dir=tmp_path / "node").exit_code == 0
    out = [dcmread(path) for path in tmp_path.glob("out/*/*.dcm")]
    assert len(out) == 2
    assert len({ds.StudyInstanceUID for ds in out}) == 1


def test_what_is_refused_is_named_and_the_rest_is_written(tmp_path: Path) -> None:
    films = tmp_path / "films"
    films.mkdir()
    for number, burned_in in enumerate(("NO", "YES")):
        ds = factories.film(rows=64, columns=64, instance=number, BurnedInAnnotation=burned_in)
        factories.write(ds, films / f"{number}.dcm")
    (films / "note.txt").write_text("no DICOM")
    words = ("deidentify", films, "--out", tmp_path / "out")
    done = run(*words, data_dir=tmp_path / "node")
    assert done.exit_code == 1
    assert f"refused {films / '1.dcm'}: text is burned into its picture" in done.stdout
    assert f"refused {films / 'note.txt'}" in done.stdout
    assert "1 file written" in done.stdout
    masked = run(*words, "--mask", "0,0,10,10", data_dir=tmp_path / "node")
    assert "2 files written" in masked.stdout


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["nothing.dcm"], "there is no such file"),
        ([], "no files"),
        (["."], "no files"),
        (["--mask", "1,2,3", "."], "--mask 1,2,3: give X,Y,WIDTH,HEIGHT"),
        (["--retain", "name", "."], "--retain name: use uids, dates"),
        (["--study", "1.2"], "there is no database|no such study"),
    ],
)
def test_a_wrong_word_is_one_sentence(
    words: list[str], answer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    done = run("deidentify", *words, data_dir=tmp_path / "node")
    assert isinstance(done.exception, ConfigurationError)
    with pytest.raises(ConfigurationError, match=answer):
        raise done.exception
