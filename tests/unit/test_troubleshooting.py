"""Messages that docs/troubleshooting.md quotes, beside those of the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
# The first cell of a row quotes messages; a quotation without a blank is a setting or a name.
QUOTED = [
    quotation
    for cell in re.findall(r"^\| (.+?) \| ", TEXT, flags=re.MULTILINE)
    for quotation in re.findall(r"`([^`]* [^`]*)`", cell)
]
_GAP = "\0"


def _sentences(source: Path) -> Iterator[str]:
    """Yield the texts of a module, with a gap where a value is put in."""
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield re.sub(r"%[.\d]*[a-zA-Z]|\{[^{}]*\}", _GAP, node.value)
        elif isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else _GAP for part in node.values)


@pytest.fixture(scope="module")
def sentences() -> list[str]:
    return [
        " ".join(sentence.split())
        for package in ("dicom_node", "models", "worker")
        for source in (ROOT / package).rglob("*.py")
        for sentence in _sentences(source)
    ]


def test_there_are_messages() -> None:
    assert len(QUOTED) > 70


@pytest.mark.parametrize("quotation", QUOTED)
def test_a_quoted_message_is_one_of_the_code(quotation: str, sentences: list[str]) -> None:
    parts = [part.strip() for part in quotation.split("...")]
    pattern = re.compile(".*".join(re.escape(part) for part in parts))
    assert any(pattern.search(sentence) for sentence in sentences)


def test_settings_that_are_named_are_settings() -> None:
    settings = (ROOT / "deploy" / "node.toml").read_text(encoding="utf-8")
    sections = set(re.findall(r"^\[(\w+)\]", settings, flags=re.MULTILINE))
    named = {
        (section, key)
        for section, key in re.findall(r"`(\w+)\.(\w+)(?: = [^`]*)?`", TEXT)
        if section in sections
    }
    assert len(named) > 20
    body = dict(re.findall(r"^\[(\w+)\].*?\n(.*?)(?=^\[|\Z)", settings, flags=re.MULTILINE | re.DOTALL))
    assert not {
        (section, key)
        for section, key in named
        if not re.search(rf"^(# )?{key} = ", body[section], flags=re.MULTILINE)
    }
