from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from dicom_node.config.sections import RetrievalSettings
from dicom_node.store.analysis_records import (
    AnalysisRecord,
    FindingRecord,
    SimilarCaseRecord,
    SimilarCasesRecord,
)
from dicom_node.store.states import StudyState
from dicom_node.web.api.reference_films import film_names
from tests.support.offline_node import OfflineNode

NAMES = ("10_IM-1-1001.jpg", "10_IM-1-2001.png", "100_IM-2-1001.jpg", "11.JPEG", "10_notes.txt")


def case(identifier: str) -> SimilarCaseRecord:
    return SimilarCaseRecord(identifier, 0.91, ("Nodule",), "A <b>nodule</b> in the left apex.")


def similar(*identifiers: str) -> AnalysisRecord:
    nodule = FindingRecord("nodule", "Nodule", 0.75, 0.9, 0.5, "present")
    found = SimilarCasesRecord("openi train", tuple(case(each) for each in identifiers), 0.6, disagrees=False)
    return AnalysisRecord("tiny", "1", (), "absent", (nodule,), (), similar=found)


@pytest.fixture
def films(tmp_path: Path) -> Path:
    """A folder of drawn reference films, beside a picture that is none of them."""
    folder = tmp_path / "images"
    folder.mkdir()
    for grey, path in enumerate([*(folder / name for name in NAMES), tmp_path / "secret.png"]):
        kind = "PNG" if path.suffix == ".png" else "JPEG"
        Image.new("L", (16, 20), 40 * grey).save(path, kind)
    return folder


@pytest.fixture
def node(tmp_path: Path, films: Path) -> Iterator[OfflineNode]:
    one = OfflineNode(tmp_path / "data")
    one.settings = one.settings.model_copy(update={"retrieval": RetrievalSettings(films=films)})
    one.finish(1, StudyState.REPORTED, reading=similar("openi:10", "openi:12", "openi:../secret"))
    yield one
    one.close()


def test_a_film_belongs_to_the_case_that_it_is_called_by(films: Path) -> None:
    cases = [case(each) for each in ("openi:10", "openi:1", "openi:11", "openi:", "openi:../secret", "10")]
    first = ["10_IM-1-1001.jpg", "10_IM-1-2001.png"]
    assert film_names(films, cases) == [first, [], ["11.JPEG"], [], [], first]
    assert film_names(None, cases[:1]) == film_names(films / "gone", cases[:1]) == [[]]


def test_the_films_of_a_case_are_those_of_the_folder_and_no_others(node: OfflineNode, films: Path) -> None:
    with node.browser() as client:
        path = "/api/v1/studies/1/similar"
        for number, kind in ((1, "jpeg"), (2, "png")):
            answer = client.get(f"{path}/1/films/{number}")
            assert answer.headers["Content-Type"] == f"image/{kind}"
            assert answer.headers["Cache-Control"] == "no-store"
            assert answer.content == (films / NAMES[number - 1]).read_bytes()
        for missing in ("1/films/3", "2/films/1", "3/films/1", "4/films/1"):
            assert client.get(f"{path}/{missing}").status_code == 404
        for wrong in ("0/films/1", "1/films/0", "1/films/..%2fsecret.png", "1/films/secret.png"):
            assert client.get(f"{path}/{wrong}").status_code == 404
        assert client.get("/api/v1/studies/9/similar/1/films/1").status_code == 404


def test_a_reader_who_has_not_logged_in_sees_no_film(node: OfflineNode) -> None:
    web = node.settings.web.model_copy(update={"login": True})
    node.settings = node.settings.model_copy(update={"web": web})
    with node.browser() as client:
        assert client.get("/api/v1/studies/1/similar/1/films/1").status_code == 401
        assert client.get("/studies/1/similar/1", follow_redirects=False).status_code == 303


def test_a_case_has_a_page_with_films_labels_and_report_and_its_view_is_written_down(
    node: OfflineNode,
) -> None:
    with node.browser() as client:
        study, shown = client.get("/studies/1").text, client.get("/studies/1/similar/1").text
        assert client.get("/studies/1/similar/2").text.count("has no film of this case") == 1
        assert client.get("/studies/1/similar/4").status_code == 404
        assert client.get("/studies/9/similar/1").status_code == 404
        accesses = client.get("/access").text
    for text in (study, shown):
        assert text.count('src="/api/v1/studies/1/similar/1/films/') == 2
        assert "A &lt;b&gt;nodule&lt;/b&gt; in the left apex." in text
    assert "RESEARCH USE ONLY" in shown
    assert "above the model's threshold in this study, too" in shown
    assert accesses.count("similar case") == 1


def test_without_the_folder_the_page_says_why_no_film_is_shown(node: OfflineNode) -> None:
    node.settings = node.settings.model_copy(update={"retrieval": RetrievalSettings()})
    with node.browser() as client:
        for path in ("/studies/1", "/studies/1/similar/1"):
            text = re.sub("<noscript>.*?</noscript>", "", client.get(path).text)  # the study's own films
            assert "No film is shown" in text
            assert "<img" not in text
        assert client.get("/api/v1/studies/1/similar/1/films/1").status_code == 404
