"""Tables of an evaluation on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from dicom_node.cli.output import table_console

if TYPE_CHECKING:
    from models.evaluation.tables import Table as Figures

_MAX_COLUMNS = 6
_NARROW_COLUMNS = 5
"""Columns that are shown of a table with more than `_MAX_COLUMNS`; the report has all of them."""
_UNBROKEN_CHARACTERS = 28
"""Characters of a label that stay on one line."""


def print_evaluation(figures: Mapping[str, Any]) -> None:
    """Print the tables of an evaluation, shortened to the width of a terminal.

    Parameters
    ----------
    figures
        Figures from :func:`models.evaluation.evaluate.evaluate_with_predictions`.
    """
    from models.evaluation import tables

    terminal = table_console()
    terminal.print("RESEARCH USE ONLY: not for diagnosis", style="bold")
    for remark in tables.caveats(figures):
        terminal.print(f"caution: {remark}", markup=False)
    shown = (
        tables.macro_table,
        tables.accuracy_table,
        tables.abnormality_table,
        tables.label_table,
        tables.rare_label_table,
        tables.subgroup_table,
    )
    for table in (make(figures) for make in shown):
        if table is not None and table.rows:
            terminal.print(_terminal_table(table), "")


def _terminal_table(table: Figures) -> Table:
    header = table.header if len(table.header) <= _MAX_COLUMNS else table.header[:_NARROW_COLUMNS]
    cells = Table(title=table.title, title_justify="left", box=None, padding=(0, 1), pad_edge=False)
    for number, name in enumerate(header):
        if number:
            cells.add_column(name, justify="right", overflow="fold")
        else:
            longest = max(len(row[0]) for row in table.rows)
            cells.add_column(name, min_width=min(longest, _UNBROKEN_CHARACTERS), overflow="fold")
    for row in table.rows:
        cells.add_row(*map(escape, row[: len(header)]))
    return cells
