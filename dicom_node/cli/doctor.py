"""The command that looks at host, settings and peers, and says what to do about what is wrong."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dicom_node.cli.checks import Check, analysis, installed, network, storage
from dicom_node.cli.context import settings_of
from dicom_node.config.settings import Settings

LOOKS: tuple[Callable[[Settings], Iterator[Check]], ...] = (
    installed.python,
    installed.extras,
    storage.data_dir,
    storage.database,
    network.broker,
    network.ports,
    network.destinations,
    network.priors,
    analysis.device,
    analysis.bundle,
    analysis.gate,
    installed.tools,
)


def doctor(
    ctx: typer.Context, as_json: Annotated[bool, typer.Option("--json", help="for scripts")] = False
) -> None:
    """Check this host, the settings and the peers, and say what to do about what is wrong.

    Changes nothing. Exit code 1 when the node, as it is configured, cannot do its work. RESEARCH USE ONLY.
    """
    settings = settings_of(ctx)
    with Console(stderr=True).status("looking"):
        checks = examine(settings)
    healthy = all(check.ok is not False for check in checks)
    if as_json:
        typer.echo(
            json.dumps({"healthy": healthy, "checks": [dataclasses.asdict(c) for c in checks]}, indent=2)
        )
    else:
        _print(Console(highlight=False), checks, healthy=healthy)
    if not healthy:
        raise typer.Exit(1)


def examine(settings: Settings) -> list[Check]:
    """Look at everything and change nothing.

    Parameters
    ----------
    settings
        Of the node to examine.

    Returns
    -------
    list of Check
        In the order in which a person would mend them.
    """
    return [check for look in LOOKS for check in look(settings)]


def _print(console: Console, checks: list[Check], *, healthy: bool) -> None:
    marks = {True: "[green]ok[/green]", False: "[bold red]FAILED[/bold red]", None: "[yellow]note[/yellow]"}
    table = Table("", "checked", "found", box=None, pad_edge=False)
    table.columns[0].no_wrap = table.columns[1].no_wrap = True
    for check in checks:
        what_to_do = f"\n[bold]→ {escape(check.remedy)}[/bold]" if check.remedy else ""
        table.add_row(marks[check.ok], escape(check.name), escape(check.found) + what_to_do)
    console.print(table)
    failed = sum(check.ok is False for check in checks)
    verdict = "everything essential is in order" if healthy else f"{failed} failed"
    console.print(f"doctor: {verdict}. Research use only.")
