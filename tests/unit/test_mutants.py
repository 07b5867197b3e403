"""Mutation testing: outcomes from mutmut's codes, and the document says what its JSON file says."""

from __future__ import annotations

import json
from pathlib import Path

from tests.bench.mutants import DOCUMENT, FIGURES, document, measure, table
from tests.support.peers import ROOT


def test_the_document_is_that_of_its_figures() -> None:
    """Mend it with `make mutants` and `python -m tests.bench.mutants --write`."""
    text, figures = DOCUMENT.read_text("utf-8"), json.loads(FIGURES.read_text("utf-8"))
    assert document(text, figures) == text
    assert all((ROOT / row["module"]).is_file() for row in figures["modules"])


def test_every_survivor_is_explained() -> None:
    text = DOCUMENT.read_text("utf-8")
    figures = json.loads(FIGURES.read_text("utf-8"))
    unexplained = [name for row in figures["modules"] for name in row["survivors"] if f"`{name}`" not in text]
    assert unexplained == []


def test_codes_become_outcomes(tmp_path: Path) -> None:
    codes = {
        "a.b.xǁQueueǁtake__mutmut_1": 1,
        "a.b.xǁQueueǁtake__mutmut_12": 0,
        "a.b.x_parse__mutmut_2": 3,
        "a.b.x_parse__mutmut_3": 33,
        "a.b.x_parse__mutmut_4": 36,
        "a.b.x__private__mutmut_1": 0,
        "a.b.x_parse__mutmut_5": None,
    }
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.py.meta").write_text(json.dumps({"exit_code_by_key": codes}))
    (tmp_path / "a" / "c.py.meta").write_text(json.dumps({"exit_code_by_key": {}}))
    found = measure(tmp_path)
    (row,) = found["modules"]
    assert row["module"] == "a/b.py"
    assert row["survivors"] == ["Queue.take 12", "_private 1"]
    assert table(found)[-2:] == ["| `a/b.py` | 2 | 1 | 2 | 1 | 1 |", "| together | 2 | 1 | 2 | 1 | 1 |"]
