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
4     the index is damaged or lost; `dicom-node rebuild` makes it anew
130   interrupted
====  =========================================================================================
"""

from __future__ import annotations

import importlib
import logging
import sys
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
import typer.main
from typer.core import TyperCommand, TyperGroup

from dicom_node.cli.examples import give_examples
from dicom_node.errors import ConfigurationError, NodeError, StoppedByUser
from dicom_node.runtime import logs
from dicom_node.runtime.extras import missing_package
from dicom_node.store.files import disk_is_full, storage_error

_INTERRUPTED = 130


class Entry(NamedTuple):
    """Entry of the table of commands.

    Attributes
    ----------
    module
        Module of :mod:`dicom_node.cli` that holds the command; it is imported when the command is called.
    summary
        First sentence of its help, which the list of commands shows.
    group
        Whether the command is a group, the module's ``app``; else it is the function of its name, with ``_``
        for ``-``.
    hidden
        Whether the list leaves it out.
    """

    module: str
    summary: str
    group: bool = False
    hidden: bool = False


COMMANDS = {
    "serve": Entry("node", "Run the whole node: Storage SCP, sweep, worker, sender and reading room."),
    "scp": Entry(
        "node", "Run only the Storage SCP, as several processes that share the port (dicom.processes)."
    ),
    "worker": Entry("node", "Run only the sweep and the Celery worker, with an external broker."),
    "sender": Entry("node", "Run only the sender, which sends results to the destinations."),
    "web": Entry("node", "Run only the reading room, the node's web pages."),
    "status": Entry(
        "status", "Count studies and results by state; with --audit, check that nothing was lost."
    ),
    "retry": Entry(
        "status", "Analyse failed studies again, and send again the results that were not accepted."
    ),
    "rebuild": Entry(
        "rebuild", "Make the index anew from the received files and the results; the node must be stopped."
    ),
    "analyze": Entry(
        "analyze",
        "Analyse films without a server: print the findings and, with --out, write the result files.",
    ),
    "zero-shot": Entry(
        "zero_shot", "Score findings that are given in words, without training for them (zero-shot)."
    ),
    "retract": Entry(
        "results",
        "Withdraw all results of a study: send a rejection note to every destination that has them.",
    ),
    "replay": Entry(
        "results",
        "Make a study's results again from its stored films and the recorded bundle, and compare them.",
    ),
    "validate": Entry(
        "results",
        "Check DICOM files: values, check digits of SNOMED codes, TID 1500, and required attributes.",
    ),
    "backup": Entry("backup", "Back up the index and every file that it names, while the node runs."),
    "purge": Entry(
        "retention", "Remove now what the rules of retention let go; a running node does it by itself."
    ),
    "pin": Entry("retention", "Pin studies: nothing of them is purged until they are unpinned."),
    "unpin": Entry("retention", "Let the rules of retention have pinned studies again."),
    "restore": Entry(
        "backup", "Restore a backup into the empty data directory, and the empty database, of the settings."
    ),
    "verify": Entry(
        "backup",
        "Read every file of a backup, compare its SHA-256, and audit its index. It needs no settings.",
    ),
    "deidentify": Entry(
        "deidentify", "Write copies without identity, by the Basic Profile of PS3.15 with options."
    ),
    "export": Entry(
        "export",
        "Write tables of a node's studies of a period: scores, certainties, model, timings and feedback.",
    ),
    "send": Entry("peers", "Send DICOM files unchanged to a DICOM application (C-STORE)."),
    "echo": Entry("peers", "Ask whether a DICOM application answers (C-ECHO)."),
    "doctor": Entry(
        "doctor", "Check this host, the settings and the peers, and name a remedy for each problem."
    ),
    "conformance": Entry(
        "conformance",
        "Print the DICOM conformance statement (PS3.2) of a node with these settings, as Markdown.",
    ),
    "train": Entry(
        "train", "Train a bundle, calibrate it on val, measure it on test and write its model card."
    ),
    "evaluate": Entry(
        "evaluate", "Measure a bundle on labelled films, read from their image files. RESEARCH USE ONLY."
    ),
    "explain": Entry(
        "explain", "Draw heat maps of one film, which show where a model looked. RESEARCH USE ONLY."
    ),
    "dataset": Entry(
        "dataset",
        "Download a published collection of chest radiographs; count studies, films and labels by split.",
    ),
    "config": Entry("config", "Show or check the settings.", group=True),
    "models": Entry(
        "models",
        "List, show, verify, import, export and calibrate model bundles; check remote models.",
        group=True,
    ),
    "rules": Entry("rules", "Test the routing rules of the settings.", group=True),
    "users": Entry("users", "Manage the accounts of the reading room.", group=True),
    "audit": Entry(
        "audit",
        "List, verify, export and purge the audit trail: who did what (docs/security.md).",
        group=True,
    ),
    "cases": Entry(
        "cases",
        "Similar cases: build an index of reference cases, search it, and measure the results.",
        group=True,
    ),
    "child": Entry("child_processes", "Child processes that the supervisor starts.", group=True, hidden=True),
}
"""Commands of the program by name, in the order of the list."""

RENAMED = {"index": "cases", "data": "dataset", "prompt": "zero-shot"}
"""New names of commands by their old ones, which work until the next release but are not listed."""


class _RootGroup(TyperGroup):
    """Group whose commands are imported when they are called, and that knows the old names of commands.

    A command under its old name is run with one line on standard error.
    """

    _listing = False

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - the signature is click's
        """Return the names of all commands."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 - the signature is click's
        """Return a command, or None when there is none of this name; for the list, its summary alone."""
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        if self._listing:
            return TyperCommand(cmd_name, short_help=entry.summary, hidden=entry.hidden)
        module = importlib.import_module(f"dicom_node.cli.{entry.module}")
        if entry.group:
            return give_examples(cmd_name, typer.main.get_group(module.app))
        alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        alone.command(cmd_name, context_settings=_HELP)(getattr(module, cmd_name.replace("-", "_")))
        return give_examples(cmd_name, typer.main.get_command(alone))

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help: the list of commands needs none of their modules."""
        self._listing = True
        try:
            super().format_help(ctx, formatter)
        finally:
            self._listing = False

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """Return what a shell may complete: names of commands need none of their modules."""
        self._listing = True
        try:
            return super().shell_complete(ctx, incomplete)
        finally:
            self._listing = False

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Return the name, the command and its arguments."""
        if args and (name := RENAMED.get(args[0])) is not None:
            typer.echo(
                f"`dicom-node {args[0]}` is now `dicom-node {name}`; the next release removes the old name",
                err=True,
            )
            args = [name, *args[1:]]
        return super().resolve_command(ctx, args)


_HELP = {"help_option_names": ["-h", "--help"]}

app = typer.Typer(
    name="dicom-node",
    cls=_RootGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings=_HELP,
    help="Receives chest radiographs from a PACS, analyses them with research models, and sends Structured "
    "Reports and saliency images back into the same study. RESEARCH USE ONLY: never for diagnosis.",
)


def _version(*, wanted: bool) -> None:
    if wanted:
        import importlib.metadata

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


def main() -> None:
    """Run the program; print a foreseen error as one line, without a traceback."""
    logs.take_all()
    try:
        app()
    except NodeError as error:
        advice = missing_package(error)
        _say(NodeError(f"{error}; {advice}") if advice and advice not in str(error) else error)
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
    except SystemExit as end:  # how typer ends an interrupted command
        if end.code == _INTERRUPTED:
            _say(StoppedByUser("interrupted"))
        raise


def _say(error: NodeError) -> None:
    from dicom_node.cli.output import Terminal

    for line in str(error).splitlines():
        if logs.is_json():
            logging.getLogger("dicom_node").error("%s", line)
        else:
            Terminal(stderr=True, highlight=False, soft_wrap=True).print(f"error: {line}", markup=False)


if __name__ == "__main__":
    main()
