"""Documents name files that are there: paths in the text, and links."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "tests").rglob("README.md")]
_PATH = re.compile(r"(?<![\w/.:-])((?:dicom_node|models|worker|tests|deploy|orthanc|docs)/[\w./-]*\w)")
_LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_path_and_link_leads_somewhere(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    missing = {path for path in _PATH.findall(text) if not (ROOT / path).exists()}
    missing |= {link for link in _LINK.findall(text) if not (document.parent / link).exists()}
    assert not missing
