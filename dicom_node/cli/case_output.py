"""Output of ``cases``: facts of an index, cases that were found, and figures of a measurement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.markup import escape
from rich.table import Table

from dicom_node.cli.output import Terminal

if TYPE_CHECKING:
    from models.retrieval.index import CaseIndex
    from models.retrieval.search import Neighbour

INTENDED_USE = {"intended_use": "RESEARCH USE ONLY"}
"""Entry of every JSON answer."""

_EXCERPT_CHARACTERS = 100


def index_as_json(folder: Path, index: CaseIndex) -> dict[str, Any]:
    """Return the facts of an index for JSON."""
    return {
        "path": str(folder),
        "name": index.name,
        "cases": len(index.cases),
        "width": index.width,
        "reports": index.reports is not None,
        "bundle": index.origin.bundle,
        "weights_sha256": index.origin.weights_sha256,
        "text_encoder": index.origin.text_encoder,
        "digest": index.digest,
        **INTENDED_USE,
    }


def print_index(folder: Path, index: CaseIndex) -> None:
    """Print the facts of an index on one line."""
    typer.echo(
        f"{folder}: whole; {len(index.cases)} cases ({index.name}), vectors of {index.width} numbers by "
        f"{index.origin.bundle}; digest {index.digest[:12]}; research use only"
    )


def cases_as_json(found: Sequence[Neighbour]) -> dict[str, Any]:
    """Return the cases that were found for JSON, most similar first."""
    cases = [
        {
            "case": entry.case.identifier,
            "similarity": entry.similarity,
            "labels": sorted(entry.case.labels),
            "report": entry.case.report,
        }
        for entry in found
    ]
    return {"cases": cases, **INTENDED_USE}


def print_cases(found: Sequence[Neighbour]) -> None:
    """Print the cases that were found as a table, most similar first."""
    from models.labels.vocabulary import load_vocabulary

    vocabulary = load_vocabulary()
    terminal = Terminal(highlight=False)
    terminal.print("RESEARCH USE ONLY: not for diagnosis", style="bold")
    table = Table("rank", "case", "similarity", "labels", "report", box=None, pad_edge=False)
    for rank, entry in enumerate(found, start=1):
        names = [vocabulary.labels[key].name for key in sorted(entry.case.labels)]
        table.add_row(
            str(rank),
            entry.case.identifier,
            f"{entry.similarity:.3f}",
            escape(", ".join(names)),
            escape(_excerpt(entry.case.report)),
        )
    terminal.print(table)


def _excerpt(report: str) -> str:
    if len(report) <= _EXCERPT_CHARACTERS:
        return report
    return report[:_EXCERPT_CHARACTERS].rsplit(" ", 1)[0] + " ..."


def print_retrieval_figures(figures: Mapping[str, Any]) -> None:
    """Print the figures of ``cases evaluate`` as tables."""
    from models.evaluation import retrieval_tables

    terminal = Terminal(highlight=False)
    terminal.print("RESEARCH USE ONLY: not for diagnosis", style="bold")
    for table in retrieval_tables.comparison_tables(figures):
        cells = Table(title=table.title, title_justify="left", box=None, padding=(0, 1), pad_edge=False)
        for number, name in enumerate(table.header):
            cells.add_column(name, justify="right" if number else "left")
        for row in table.rows:
            cells.add_row(*map(escape, row))
        terminal.print(cells)
        terminal.print(table.note, "", markup=False)
