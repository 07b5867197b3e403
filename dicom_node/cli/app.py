"""Root command: global options, the table of commands, and the translation of errors to exit codes.

Exit codes, of every command:

====  =========================================================================================
code  meaning
====  =========================================================================================
0     done, and nothing wrong was found
1     something failed, or was found to be wrong
2     the command line or a setting is wrong, or names a file, folder, bundle or package that is
      not there; nothing was begun
3     another node uses the data directory
130   interrupted
====  =========================================================================================
"""

from __future__ import annotations

import importlib
import importlib.metadata
import logging
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from dicom_node.errors import ConfigurationError, NodeError
from dicom_node.runtime import logs
from dicom_node.runtime.extras import missing_package
from dicom_node.store.files import disk_is_full, storage_error

_INTERRUPTED = 130

COMMANDS = {
    "dicom_node.cli.node": ("serve", "scp", "worker", "sender", "web"),
    "dicom_node.cli.status": ("status", "retry"),
    "dicom_node.cli.retention": ("purge", "pin", "unpin"),
    "dicom_node.cli.analyze": ("analyze",),
    "dicom_node.cli.zero_shot": ("zero-shot",),
    "dicom_node.cli.results": ("retract", "replay", "validate"),
    "dicom_node.cli.peers": ("send", "echo"),
    "dicom_node.cli.doctor": ("doctor",),
    "dicom_node.cli.conformance": ("conformance",),
    "dicom_node.cli.train": ("train",),
    "dicom_node.cli.evaluate": ("evaluate",),
    "dicom_node.cli.explain": ("explain",),
    "dicom_node.cli.dataset": ("dataset",),
}
"""Commands by module; each is a function of its name, with ``_`` for ``-``.

The modules are imported when the program starts; the libraries that a command needs, when it is called.
"""

GROUPS = {
    "dicom_node.cli.config": "config",
    "dicom_node.cli.models": "models",
    "dicom_node.cli.rules": "rules",
    "dicom_node.cli.users": "users",
    "dicom_node.cli.cases": "cases",
    "dicom_node.cli.child_processes": "child",
}
"""Groups of commands by module; each is the module's ``app``."""

RENAMED = {"index": "cases", "data": "dataset", "prompt": "zero-shot"}
"""New names of commands by their old ones, which work until the next release but are not listed."""


class _RootGroup(TyperGroup):
    """Group that also runs a command under its old name, with one line on standard error."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Return the name, the command and its arguments."""
        if args and (name := RENAMED.get(args[0])) is not None:
            typer.echo(
                f"`dicom-node {args[0]}` is now `dicom-node {name}`; the next release removes the old name",
                err=True,
            )
            args = [name, *args[1:]]
        return super().resolve_command(ctx, args)


app = typer.Typer(
    name="dicom-node",
    cls=_RootGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Receives chest radiographs from a PACS, analyses them with research models, and sends Structured "
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
        Path | None,
        typer.Option(
            "--config", "-c", help="TOML file of the settings; environment variables take precedence over it"
        ),
    ] = None,
    version: Annotated[  # noqa: ARG001 - acted on by its callback
        bool,
        typer.Option(
            "--version",
            is_eager=True,
            callback=lambda value: _version(wanted=value),
            help="print the version and exit",
        ),
    ] = False,
) -> None:
    """Pass the configuration file to the command."""
    ctx.obj = config


for _module, _names in COMMANDS.items():
    for _name in _names:
        app.command(_name)(getattr(importlib.import_module(_module), _name.replace("-", "_")))
for _module, _name in GROUPS.items():
    app.add_typer(importlib.import_module(_module).app, name=_name, hidden=_name == "child")


def main() -> None:
    """Run the program; print a foreseen error as one line, without a traceback."""
    logs.take_all()
    try:
        app()
    except NodeError as error:
        advice = missing_package(error)
        _say(NodeError(f"{error}; {advice}") if advice else error)
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        if not (advice := missing_package(error)):
            raise
        _say(ConfigurationError(advice))
        sys.exit(ConfigurationError.exit_code)
    except OSError as error:
        if not disk_is_full(error):
            raise
        full = storage_error(error, error.filename or "disk")
        _say(full)
        sys.exit(full.exit_code)
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)


def _say(error: NodeError) -> None:
    for line in str(error).splitlines():
        if logs.is_json():
            logging.getLogger("dicom_node").error("%s", line)
        else:
            Console(stderr=True, highlight=False, soft_wrap=True).print(f"error: {line}", markup=False)


if __name__ == "__main__":
    main()
