"""Passages of documents that a command writes between two marks, from the figures that it writes beside."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from models.bundles.predictor import Predictor

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


def measure_bundle(
    description: str | None,
    measure: Callable[[Predictor, Path], dict[str, Any]],
    table: Callable[[dict[str, Any]], list[str]],
    write: Callable[[dict[str, Any]], None],
) -> None:
    """Measure the bundle that the command line names on a data set, and print the table or write it too.

    Parameters
    ----------
    description
        Help of the command.
    measure
        Function that measures a bundle on the data set of a folder.
    table
        Function that returns the lines of the table.
    write
        Function that writes figures and document.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("bundle")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    found = measure(Predictor.load(given.bundle), given.data)
    print("\n".join(table(found)))
    if given.write:
        write(found)
