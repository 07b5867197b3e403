"""Passages of documents that a command writes between two marks, from the figures that it writes beside."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

END = "<!-- end -->"


def with_passage(text: str, command: str, lines: Iterable[str]) -> str:
    """Text of a document with other lines between the mark that names a command and the next end mark.

    Raises
    ------
    ValueError
        If the document has no such marks.
    """
    begin = f"<!-- begin: {command} -->"
    start = text.index(begin) + len(begin)
    stop = text.index(END, start)
    return text[:start] + "\n\n" + "\n".join(lines) + "\n\n" + text[stop:]


def write_measured(
    found: dict[str, Any],
    figures: Path,
    document: Path,
    with_figures: Callable[[str, dict[str, Any]], str],
) -> None:
    """Write figures as JSON, and the document that says them.

    Parameters
    ----------
    found
        Figures of a measurement.
    figures
        JSON file.
    document
        Document with a marked passage.
    with_figures
        Function that puts figures into the text of the document.
    """
    figures.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    document.write_text(with_figures(document.read_text("utf-8"), found), encoding="utf-8")
