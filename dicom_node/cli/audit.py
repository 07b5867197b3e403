"""``audit``: reads, verifies and purges the audit trail; ``status --audit`` is the conservation audit."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, TypeAlias
from xml.etree.ElementTree import ParseError

import typer

from dicom_node.audit_trail import events
from dicom_node.audit_trail.codes import Action
from dicom_node.audit_trail.digest import MessageDigest
from dicom_node.audit_trail.trail import AuditTrail
from dicom_node.cli.context import open_index, settings_of
from dicom_node.cli.options import AsJson
from dicom_node.config.settings import Settings
from dicom_node.errors import ConfigurationError, StorageFailed
from dicom_node.store.index import Index

app = typer.Typer(
    help="List, verify, export and purge the audit trail: who did what (docs/security.md).",
    no_args_is_help=True,
)

_After: TypeAlias = Annotated[
    int, typer.Option("--after", min=0, metavar="NUMBER", help="only entries with a greater number")
]


@contextmanager
def audit_trail(ctx: typer.Context) -> Iterator[AuditTrail]:
    """Open the audit trail of the node for a command."""
    settings = settings_of(ctx)
    index = open_index(settings)
    trail = AuditTrail.open(settings, index.engine)
    try:
        yield trail
    finally:
        trail.close()
        index.close()


def _for_this_user(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def record_access(
    settings: Settings, index: Index, study_instance_uid: str, action: Action, what: str
) -> None:
    """Record that the user of the operating system has viewed or changed a study by a command."""
    trail = AuditTrail.open(settings, index.engine)
    trail.record_about(
        lambda: events.instances_accessed(
            events.operator(), trail.subjects.of_uid(study_instance_uid), action, what
        )
    )
    trail.close()


@app.command("list")
def show(
    ctx: typer.Context,
    as_json: AsJson = False,
    limit: Annotated[int, typer.Option("--limit", min=1, help="most entries to list, the last ones")] = 50,
    after: _After = 0,
) -> None:
    """List entries, one a line: number, time, outcome, event, who, and what it was about."""
    with audit_trail(ctx) as trail:
        entries = [*trail.chain.entries(after)][-limit:]
        trail.record(events.audit_trail_used(events.operator(), "listed"))
    found = []
    for entry in entries:
        try:
            found.append(MessageDigest.of(entry))
        except ParseError:
            raise StorageFailed(
                f"entry {entry.number} is no audit message; see `dicom-node audit verify`"
            ) from None
    if as_json:
        typer.echo(json.dumps([each.as_json() for each in found], indent=2, ensure_ascii=False))
        return
    for each in found:
        typer.echo(each.line)


@app.command("verify")
def verify(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Check that no entry was changed, removed, added between others, reordered or cut off.

    Exit code 1 when one was.
    """
    with audit_trail(ctx) as trail:
        found = trail.chain.verify()
    if as_json:
        typer.echo(json.dumps({"entries": found.entries, "problems": [*found.problems]}, indent=2))
    else:
        for problem in found.problems:
            typer.echo(problem)
        verdict = "FAILED" if found.problems else "the trail is complete and unchanged"
        typer.echo(f"{found.entries} entries: {verdict}")
    if found.problems:
        raise typer.Exit(1)


@app.command("purge")
def purge(
    ctx: typer.Context,
    days: Annotated[int, typer.Option("--older-than", min=1, metavar="DAYS", help="age of what goes")],
) -> None:
    """Remove old entries, in whole files of the trail; what is left still verifies.

    A file goes when all of its entries are older; the newest one stays. Nothing else removes entries.
    """
    with audit_trail(ctx) as trail:
        removed = trail.chain.purge(time.time() - days * 86400)
        entries = "1 entry" if removed == 1 else f"{removed} entries"
        if removed:
            trail.record(events.audit_trail_used(events.operator(), f"{entries} purged"))
    if removed:
        typer.echo(f"{entries} older than {days} days {'was' if removed == 1 else 'were'} removed")
    else:
        typer.echo(f"no entry is older than {days} days in a file of such entries alone")


@app.command("export")
def export(
    ctx: typer.Context,
    out: Annotated[Path, typer.Argument(metavar="FILE", help="new file; - for standard output")],
    after: _After = 0,
) -> None:
    """Write entries to a file as JSON lines: number, hashes, and the message as XML (PS3.15 A.5)."""
    with audit_trail(ctx) as trail:
        trail.record(events.audit_trail_used(events.operator(), "exported"))
        lines = (entry.line for entry in trail.chain.entries(after))
        if str(out) == "-":
            for line in lines:
                sys.stdout.buffer.write(line)
            return
        try:
            with open(out, "xb", opener=_for_this_user) as stream:
                stream.writelines(lines)
        except FileExistsError:
            raise ConfigurationError(f"{out}: the file exists; name a new one") from None
        except OSError as error:
            raise ConfigurationError(f"{out}: {error.strerror}; name a file in a writable folder") from None
