"""Passages of documents that a command writes between two marks."""

from __future__ import annotations

from collections.abc import Iterable

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
