"""Documents name what is there: paths in the text, links, and tests."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "tests").rglob("README.md")]
_PATH = re.compile(r"(?<![\w/.:-])((?:dicom_node|models|worker|tests|deploy|orthanc|docs)/[\w./-]*\w)")
# A file of tests with the names of some of its tests, without `test_`.
_TESTS = re.compile(r"`(tests/[\w/]+\.py)`: ((?:`\w+`(?:, )?)+)")
_LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_path_and_link_leads_somewhere(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    missing = {path for path in _PATH.findall(text) if not (ROOT / path).exists()}
    missing |= {link for link in _LINK.findall(text) if not (document.parent / link).exists()}
    assert not missing


@pytest.mark.parametrize(("document", "least"), [("reliability", 200), ("operations", 60), ("security", 60)])
def test_the_tests_that_hold_a_promise_are_there(document: str, least: int) -> None:
    text = re.sub(r" \([^)]*\)", "", (ROOT / "docs" / f"{document}.md").read_text(encoding="utf-8"))
    named = [(path, name) for path, names in _TESTS.findall(text) for name in re.findall(r"\w+", names)]
    assert len(named) > least
    missing = [
        (path, name)
        for path, name in named
        if f"def test_{name}(" not in (ROOT / path).read_text(encoding="utf-8")
    ]
    assert not missing


def test_the_citation_names_the_version_of_the_package() -> None:
    said = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert f"\nversion: {version}\n" in said


def test_every_decision_is_in_their_list_under_its_own_title() -> None:
    folder = ROOT / "docs" / "decisions"
    listed = (folder / "README.md").read_text(encoding="utf-8")
    for page in folder.glob("0*.md"):
        title = page.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
        assert f"| {int(page.name[:4])} | [{title}]({page.name}) |" in listed
