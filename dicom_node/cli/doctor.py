"""``doctor``: checks the host, the settings and the peers, and names a remedy for each problem."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dicom_node.cli.checks import analysis, installed, network, storage
from dicom_node.cli.checks.check import Check, guarded
from dicom_node.cli.context import settings_of
from dicom_node.cli.options import AsJson
from dicom_node.cli.output import Terminal
from dicom_node.config.settings import Settings

CHECKS: tuple[Callable[[Settings], Iterator[Check]], ...] = (
    installed.python,
    installed.extras,
    storage.data_dir,
    storage.private_files,
    storage.free_space,
    storage.database,
    storage.disk_forecast,
    network.broker,
    network.ports,
    network.known_peers,
    network.destinations,
    network.priors,
    analysis.decoder,
    analysis.runtime,
    analysis.bundle,
    analysis.remote_models,
    analysis.gate,
    analysis.rules,
    installed.tools,
)


def doctor(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Check this host, the settings and the peers, and name a remedy for each problem.

    Nothing is changed. Exit code 1 when the node, as it is configured, cannot do its work. RESEARCH USE ONLY.
    """
    settings = settings_of(ctx)
    with Terminal(stderr=True).status("checking"):
        checks = run_checks(settings)
    healthy = all(check.ok is not False for check in checks)
    if as_json:
        typer.echo(
            json.dumps({"healthy": healthy, "checks": [dataclasses.asdict(c) for c in checks]}, indent=2)
        )
    else:
        _print(Terminal(highlight=False), checks, healthy=healthy)
    if not healthy:
        raise typer.Exit(1)


def run_checks(settings: Settings) -> list[Check]:
    """Run all checks; nothing is changed.

    Parameters
    ----------
    settings
        Settings of the node.

    Returns
    -------
    list of Check
        Results, in the order in which a person would mend the problems.
    """
    return [
        result for check in CHECKS for result in guarded(check.__name__.replace("_", " "), check(settings))
    ]


def _print(console: Console, checks: list[Check], *, healthy: bool) -> None:
    marks = {True: "[green]ok[/green]", False: "[bold red]FAILED[/bold red]", None: "[yellow]note[/yellow]"}
    table = Table("", "check", "found", box=None, pad_edge=False)
    table.columns[0].no_wrap = table.columns[1].no_wrap = True
    for check in checks:
        remedy = f"\n[bold]→ {escape(check.remedy)}[/bold]" if check.remedy else ""
        table.add_row(marks[check.ok], escape(check.name), escape(check.found) + remedy)
    console.print(table)
    failed = sum(check.ok is False for check in checks)
    verdict = "everything essential is in order" if healthy else f"{failed} failed"
    console.print(f"doctor: {verdict}. Research use only.")
