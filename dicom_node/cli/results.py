"""``retract``, ``replay`` and ``validate``: withdraw results, make them again to compare, check files."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from dicom_node.audit_trail.codes import Action
from dicom_node.cli.audit import record_access
from dicom_node.cli.context import open_index, settings_of
from dicom_node.cli.options import AsJson
from dicom_node.cli.output import Terminal, say
from dicom_node.errors import ConfigurationError

_Study = Annotated[str, typer.Argument(metavar="STUDY", help="Study Instance UID")]
_Reason: TypeAlias = Annotated[
    str, typer.Option("--reason", help="reason in one sentence, which the rejection note contains")
]
_Quality: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--quality",
        help="reject for quality (113001), which a PACS may still show, instead of for safety (113037)",
    ),
]


def retract(
    ctx: typer.Context,
    study: _Study,
    reason: _Reason,
    quality: _Quality = False,
    as_json: AsJson = False,
) -> None:
    """Withdraw all results of a study: send a rejection note to every destination that has them.

    Results that have not been sent yet are not sent. RESEARCH USE ONLY.
    """
    from dicom_node.delivery.withdrawal import withdraw
    from dicom_node.results import codes

    if not reason.strip():
        raise typer.BadParameter("give the reason in one sentence", param_hint="--reason")
    settings = settings_of(ctx)
    index = open_index(settings)
    title = codes.REJECTED_FOR_QUALITY if quality else codes.REJECTED_FOR_SAFETY
    done = withdraw(settings, index, study, title=title, reason=reason.strip())
    record_access(settings, index, study, Action.DELETE, "retract")
    index.close()
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(done), indent=2))
    else:
        typer.echo(
            f"{done.results} results withdrawn, {done.stopped} deliveries stopped; "
            f"the rejection note goes to {', '.join(done.told) or 'no destination, because none has them'}"
        )


def replay(
    ctx: typer.Context,
    study: _Study,
    mend: Annotated[
        bool, typer.Option("--mend", help="write stored results again that are damaged or missing")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make a study's results again from its stored films and the recorded bundle, and compare them.

    Exit code 1 when a byte differs; the output names the result and the DICOM element. RESEARCH USE ONLY.
    """
    from worker.replay import replay as compare

    settings = settings_of(ctx)
    index = open_index(settings)
    found = compare(settings, index, study, mend=mend)
    record_access(settings, index, study, Action.READ, "replay")
    index.close()
    if as_json:
        typer.echo(json.dumps({"results": [dataclasses.asdict(entry) for entry in found]}, indent=2))
    else:
        for entry in found:
            say(f"{entry.kind} {entry.sop_instance_uid}: {entry.difference or 'the same bytes'}")
    if any(entry.difference for entry in found):
        raise typer.Exit(1)


def validate(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="DICOM files")],
    as_json: AsJson = False,
) -> None:
    """Check DICOM files: values, check digits of SNOMED codes, TID 1500, and required attributes.

    dciodvfy of dicom3tools is run too if it is installed. Exit code 1 when something is wrong.
    """
    from dicom_node.results.validation import dciodvfy, inspect_file

    found: dict[str, list[str]] = {}
    asked = True
    for path in files:
        try:
            found[str(path)] = inspect_file(path)
            found[str(path)] += dciodvfy(path)
        except FileNotFoundError as error:
            if not path.exists():
                raise ConfigurationError(f"{path}: no such file") from None
            asked = False
            missing = str(error)
    if as_json:
        typer.echo(json.dumps({"mistakes": found, "dciodvfy": asked}, indent=2))
    else:
        for name, mistakes in found.items():
            say(f"{name}: {'; '.join(mistakes) or 'no mistake found'}")
        if not asked:
            Terminal(stderr=True, highlight=False, soft_wrap=True).print(f"not run: {missing}", markup=False)
    if any(found.values()):
        raise typer.Exit(1)
