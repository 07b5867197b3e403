"""The root command: global options, and the one place where an error becomes a line and an exit code.

Exit codes: 0 done, 1 something failed, 2 wrong usage or setting, 3 the data directory is in use,
130 interrupted.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from dicom_node.errors import NodeError

_INTERRUPTED = 130

app = typer.Typer(
    name="dicom-node",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Receives chest radiographs from a PACS, reads them with research models, and sends Structured "
    "Reports and saliency images back into the same study. RESEARCH USE ONLY: never for diagnosis.",
)


def _version(*, wanted: bool) -> None:
    if wanted:
        typer.echo(f"dicom-node {importlib.metadata.version('dicom-node')}")
        raise typer.Exit


@app.callback()
def root(
    ctx: typer.Context,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="TOML file; the environment goes before it")
    ] = None,
    version: Annotated[  # noqa: ARG001 - acted on by its callback
        bool,
        typer.Option(
            "--version", is_eager=True, callback=lambda value: _version(wanted=value), help="Print it"
        ),
    ] = False,
) -> None:
    """Keep the configuration file for the command that will read it."""
    ctx.obj = config


# Which module holds which commands. They are imported with the program, what they need with the command.
COMMANDS = {
    "dicom_node.cli.node": ("serve", "scp", "worker", "sender", "web"),
    "dicom_node.cli.status": ("status", "retry"),
    "dicom_node.cli.analyze": ("analyze",),
    "dicom_node.cli.zero_shot": ("prompt",),
    "dicom_node.cli.results": ("retract", "replay", "validate"),
    "dicom_node.cli.peers": ("send", "echo"),
    "dicom_node.cli.doctor": ("doctor",),
    "dicom_node.cli.conformance": ("conformance",),
    "dicom_node.cli.train": ("train",),
    "dicom_node.cli.evaluate": ("evaluate",),
    "dicom_node.cli.explain": ("explain",),
    "dicom_node.cli.dataset": ("data",),
}
GROUPS = {
    "dicom_node.cli.config": "config",
    "dicom_node.cli.models": "models",
    "dicom_node.cli.rules": "rules",
    "dicom_node.cli.users": "users",
    "dicom_node.cli.cases": "index",
    "dicom_node.cli.child": "child",
}

for _module, _names in COMMANDS.items():
    for _name in _names:
        app.command(_name)(getattr(importlib.import_module(_module), _name))
for _module, _name in GROUPS.items():
    app.add_typer(importlib.import_module(_module).app, name=_name, hidden=_name == "child")


def main() -> None:
    """Run the program; an error that was foreseen is one line, never a traceback."""
    try:
        app()
    except NodeError as error:
        for line in str(error).splitlines():
            Console(stderr=True, highlight=False, soft_wrap=True).print(f"error: {line}", markup=False)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)


if __name__ == "__main__":
    main()
