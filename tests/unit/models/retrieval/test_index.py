"""An index is what was written, or it is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dicom_node.config.sections import WorkerSettings
from models.bundles.bundle import find_bundle, read_bundle
from models.errors import RetrievalError
from models.retrieval import index as index_module
from models.retrieval.index import (
    CASES,
    VECTORS,
    CaseIndex,
    ReferenceCase,
    find_index,
    read_index,
    shipped_index,
    write_index,
)
from tests.support.drawn_index import IDENTITY, REPORTS, make_index, unit


@pytest.mark.parametrize("reports", [True, False])
def test_what_is_written_is_read_again(tmp_path: Path, reports: bool):
    written = write_index(tmp_path / "index", make_index(reports=reports))
    read = read_index(tmp_path / "index")
    assert (read.name, read.origin, read.cases, read.digest) == (
        written.name,
        written.origin,
        written.cases,
        written.digest,
    )
    for side, vectors in written.tensors().items():
        np.testing.assert_array_equal(read.vectors(side), vectors)
    assert (read.reports is None) is (not reports)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index"]


def test_a_compact_index_holds_no_word_of_a_report_and_half_the_digits(tmp_path: Path):
    index = make_index()
    written = write_index(tmp_path / "index", index, compact=True)
    read = read_index(tmp_path / "index")
    assert (read.digest, read.cases, read.reports) == (written.digest, written.cases, None)
    assert read.origin == replace(index.origin, text_encoder="")
    assert [case.labels for case in read.cases] == [case.labels for case in index.cases]
    assert not any(case.report for case in read.cases)
    assert any(case.report for case in index.cases)
    for side, vectors in read.tensors().items():
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(vectors, index.vectors(side), atol=1e-3)
    kept = (tmp_path / "index" / CASES).read_text()
    assert not any(report in kept for report in REPORTS)


def test_an_own_index_goes_before_that_of_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(index_module, "shipped_index", lambda bundle: tmp_path / "shipped" / bundle)
    built = tmp_path / "built"
    assert find_index(built, "drawn-1.0.0") == built
    write_index(tmp_path / "shipped" / "drawn-1.0.0", make_index(), compact=True)
    assert find_index(built, "drawn-1.0.0") == tmp_path / "shipped" / "drawn-1.0.0"
    assert find_index(built, "other-1.0.0") == built
    write_index(built, make_index())
    assert find_index(built, "drawn-1.0.0") == built


def test_the_package_ships_an_index_of_the_weights_of_the_default_bundle():
    bundle = read_bundle(find_bundle(WorkerSettings().bundle))
    index = read_index(shipped_index(bundle.manifest.folder))
    index.check_origin(bundle.identity)
    assert index.name == "openi train"
    assert len(index.cases) == 2349
    assert index.reports is None
    assert not any(case.report for case in index.cases)


def test_the_same_cases_have_the_same_digest_and_others_another(tmp_path: Path):
    first = write_index(tmp_path / "a", make_index())
    assert write_index(tmp_path / "b", make_index()).digest == first.digest
    assert write_index(tmp_path / "b", make_index(31)).digest != first.digest
    assert len(read_index(tmp_path / "b").cases) == 31


@pytest.mark.parametrize("name", [VECTORS, CASES])
def test_one_byte_anywhere_is_found(tmp_path: Path, name: str):
    write_index(tmp_path, make_index())
    file = tmp_path / name
    whole = file.read_bytes()
    for place in np.linspace(0, len(whole) - 1, 40).astype(int):
        spoilt = bytearray(whole)
        spoilt[place] ^= 1
        file.write_bytes(bytes(spoilt))
        with pytest.raises(RetrievalError, match=r"index .*(altered|cannot be read)"):
            read_index(tmp_path)


@pytest.mark.parametrize("name", [VECTORS, CASES])
def test_half_a_file_is_refused(tmp_path: Path, name: str):
    write_index(tmp_path, make_index())
    file = tmp_path / name
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(RetrievalError, match=r"altered|cannot be read"):
        read_index(tmp_path)


def test_a_missing_index_says_how_one_is_made(tmp_path: Path):
    with pytest.raises(RetrievalError, match=r"there is no index in .*dicom-node cases build"):
        read_index(tmp_path)


def test_an_empty_index_and_a_case_twice_are_refused():
    index = make_index()
    with pytest.raises(RetrievalError, match="holds no case"):
        replace(index, cases=(), films=index.films[:0], known=index.known[:0], reports=None)
    with pytest.raises(RetrievalError, match="drawn:3 is in it twice"):
        replace(index, cases=(*index.cases[:-1], index.cases[3]))


@pytest.mark.parametrize(
    "films",
    [
        np.full((30, 8), np.nan, np.float32),
        unit(30, 8, 1).astype(np.float64),
        2 * unit(30, 8, 1),
        np.zeros((30, 8), np.float32),
        unit(29, 8, 1),
    ],
)
def test_vectors_that_are_no_places_are_refused(films: np.ndarray):
    with pytest.raises(RetrievalError, match="drawn train"):
        replace(make_index(), films=films)


def test_a_folder_with_other_files_is_not_overwritten(tmp_path: Path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(RetrievalError, match="holds other files"):
        write_index(tmp_path, make_index())
    assert (tmp_path / "thesis.txt").exists()


def test_an_index_grows_by_the_cases_that_it_does_not_hold():
    index = make_index(20)
    grown = index.extended(make_index(30, name="drawn val"))
    assert [case.identifier for case in grown.cases] == [f"drawn:{n}" for n in range(30)]
    assert grown.name == "drawn train, drawn val"
    assert grown.films.shape == grown.known.shape == grown.reports.shape == (30, 8)
    np.testing.assert_array_equal(grown.films[:20], index.films)


def test_cases_of_other_weights_are_not_added_and_their_index_is_not_searched():
    index = make_index()
    other = replace(IDENTITY, weights_sha256="c" * 64)
    foreign = replace(index, origin=replace(index.origin, weights_sha256="c" * 64))
    with pytest.raises(RetrievalError, match="cannot be compared"):
        index.extended(foreign)
    with pytest.raises(RetrievalError, match=r"was built by drawn-1.0.0 .*build it anew"):
        index.check_origin(other)
    with pytest.raises(RetrievalError, match="build it anew"):
        index.check_origin(replace(IDENTITY, preprocessing="c" * 16))
    index.check_origin(replace(IDENTITY, calibration="newer"))


def test_a_side_that_no_case_has_is_refused():
    silent = make_index(reports=False)
    assert set(silent.tensors()) == {"known", "films"}
    with pytest.raises(RetrievalError, match="holds no reports"):
        silent.vectors("reports")
    with pytest.raises(RetrievalError, match="cannot be compared"):
        silent.extended(make_index(40))


@pytest.mark.parametrize(
    "line",
    [
        "{}",
        "[1]",
        "not json",
        json.dumps({"identifier": "a", "labels": ["no_such_label"], "report": ""}),
        json.dumps({"identifier": "a", "labels": [], "report": "", "patient": "b"}),
    ],
)
def test_a_line_that_is_no_case_is_refused(line: str):
    with pytest.raises(ValueError, match=r"."):
        ReferenceCase.parse(line)


def test_an_index_of_a_newer_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("models.retrieval.index.FORMAT", "2")
    write_index(tmp_path, make_index())
    monkeypatch.undo()
    with pytest.raises(RetrievalError, match="no index of this format"):
        read_index(tmp_path)


def test_a_report_in_any_script_is_kept(tmp_path: Path):
    index = make_index(3)
    told = replace(index.cases[1], report="Сердце увеличено.\u2028心臓 \n\x85")
    write_index(tmp_path, replace(index, cases=(index.cases[0], told, index.cases[2])))
    read: CaseIndex = read_index(tmp_path)
    assert read.cases[1] == told
