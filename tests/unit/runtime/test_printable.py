"""Text of others: nothing in it moves the cursor, changes the direction or begins a line."""

from __future__ import annotations

import io
import json
import logging
import sys

import pytest

from dicom_node.cli.output import Terminal, say
from dicom_node.errors import NodeError
from dicom_node.runtime import logs
from dicom_node.runtime.printable import one_line, printable

EVIL = "a\x1b[2J\x00\x07\x7f\x9b31m\r\n2026-01-01 ERROR forged\u2028b\u202etxt\u2066\u200f\ud800é漢"
HARMFUL = [each for each in EVIL if not each.isprintable()]


def test_control_characters_are_escaped_and_letters_stay() -> None:
    shown = printable(EVIL)
    assert not any(each in shown for each in HARMFUL)
    assert shown.startswith("a\\x1b[2J\\x00\\x07\\x7f\\x9b31m\\x0d\\x0a2026")
    assert shown.endswith("\\u2028b\\u202etxt\\u2066\\u200f\\ud800é漢")
    assert printable("Müller, 漢字 — “plain”") == "Müller, 漢字 — “plain”"


def test_a_long_text_is_cut_and_says_so() -> None:
    assert printable("x" * 50, 10) == "x" * 9 + "…"
    assert printable("x" * 10, 10) == "x" * 10


def test_an_error_is_one_bounded_sentence() -> None:
    assert one_line(NodeError("no  room\non it")) == "no room on it"
    assert one_line(ValueError("\x1b[2J")) == "ValueError: \\x1b[2J"
    assert len(one_line(NodeError("x" * 10**6))) <= 1000


@pytest.mark.parametrize("style", ["text", "json"])
def test_a_log_line_is_one_line_whatever_is_in_it(style: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        logs.configure("INFO", style)  # type: ignore[arg-type]
        log = logging.getLogger("test")
        log.warning("peer says %s", EVIL)
        log.error("failed", exc_info=ValueError(EVIL))
    finally:
        root.handlers[:], root.level = before[0], before[1]
    written = stream.getvalue()
    assert not any(each in written.replace("\n", "") for each in HARMFUL)
    lines = written.splitlines()
    if style == "json":
        assert [json.loads(line)["level"] for line in lines] == ["WARNING", "ERROR"]
        assert "\\x1b" in json.loads(lines[0])["message"]
    else:
        assert [line for line in lines if not line.startswith("  ")] == [lines[0], lines[1]]
        assert "forged" in lines[0]


def test_the_terminal_gets_escapes_in_texts_and_tables(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.table import Table

    terminal = Terminal(highlight=False, width=400)
    table = Table("name")
    table.add_row(EVIL)
    terminal.print(EVIL, markup=False, soft_wrap=True)
    terminal.print(table)
    say(EVIL)
    out = capsys.readouterr().out
    assert not any(each in out for each in HARMFUL if each != "\n")
    assert out.count("\\x1b") == 3
