"""``backup``, ``restore`` and ``verify``: copy a node while it runs, and bring it back on any host."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from dicom_node.audit_trail import events
from dicom_node.audit_trail.trail import AuditTrail
from dicom_node.cli.context import open_index, settings_of
from dicom_node.cli.options import AsJson
from dicom_node.cli.output import stderr_console
from dicom_node.config.data_dir import DataDir

if TYPE_CHECKING:
    from dicom_node.audit_trail.message import AuditMessage
    from dicom_node.config.settings import Settings
    from dicom_node.store.audit import Audit
    from dicom_node.store.backup.file_copy import Progress as Report
    from dicom_node.store.backup.manifest import Manifest
    from dicom_node.store.index import Index


def backup(
    ctx: typer.Context,
    destination: Annotated[
        Path, typer.Argument(metavar="DEST", help="folder of the backups; each is a folder in it")
    ],
    copy: Annotated[
        bool, typer.Option("--copy", help="copy all files, where links to those of the node would do")
    ] = False,
    keep: Annotated[
        int | None, typer.Option("--keep", min=1, help="backups to keep in DEST: older ones are removed")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Back up the index and every file that it names, while the node runs.

    What an earlier backup in DEST holds is linked to and takes no space. A backup has its name only when it
    is whole; one that was interrupted ends with .incomplete, and the next backup removes it. The settings
    file and the keys of TLS are not in it. Exit code 1 when the backup was made, but shows that something was
    lost or damaged before.
    """
    from dicom_node.store.backup.creation import BackupWriter

    settings = settings_of(ctx)
    index = open_index(settings)
    try:
        writer = BackupWriter(DataDir(settings).root, index.engine, destination, link=not copy)
        with _progress("backing up", quiet=as_json) as progress:
            done = writer.write(keep=keep, progress=progress)
        _record(settings, index, events.exported(events.operator(), f"backup to {done.folder}"))
    finally:
        index.close()
    faults = [f"{name}: the file is damaged" for name in done.manifest.damaged]
    figures = {
        "backup": str(done.folder),
        "files": done.files,
        "bytes": done.size,
        "linked": done.linked,
        "copied": done.copied,
        "absent": list(done.manifest.absent),
        "removed": list(done.removed),
    }
    _print(figures, done.manifest, done.audit, faults, as_json=as_json)


def restore(
    ctx: typer.Context,
    source: Annotated[
        Path, typer.Argument(metavar="SRC", help="a backup, or a folder of backups: then the newest")
    ],
    as_json: AsJson = False,
) -> None:
    """Restore a backup into the empty data directory, and the empty database, of the settings.

    The host, the path and the kind of database may be others than those of the backup. Results that were
    delivered after the backup are sent again, as the same objects; whoever was logged in is logged out. A
    damaged file is left out and named, with exit code 1.
    """
    from dicom_node.store.backup.manifest import find_backup
    from dicom_node.store.backup.restoration import restore as restore_backup

    settings = settings_of(ctx)
    folder = find_backup(source)
    data_dir = DataDir(settings)
    with data_dir.locked(shared=False), _progress("restoring", quiet=as_json) as progress:
        done = restore_backup(folder, data_dir.root, settings.database, progress)
        index = open_index(settings)
        try:
            _record(settings, index, events.imported(events.operator(), f"restored from {folder}"))
        finally:
            index.close()
    figures = {"backup": str(folder), "data_dir": str(data_dir.root), "files": done.files}
    _print(figures, done.manifest, done.audit, done.faults, as_json=as_json)


def verify(
    source: Annotated[
        Path, typer.Argument(metavar="SRC", help="a backup, or a folder of backups: then the newest")
    ],
    as_json: AsJson = False,
) -> None:
    """Read every file of a backup, compare its SHA-256, and audit its index. It needs no settings."""
    from dicom_node.store.backup.manifest import find_backup
    from dicom_node.store.backup.verification import verify as verify_backup

    folder = find_backup(source)
    with _progress("reading", quiet=as_json) as progress:
        found = verify_backup(folder, progress)
    figures = {"backup": str(folder), "files": len(found.manifest.sums)}
    _print(figures, found.manifest, found.audit, found.faults, as_json=as_json)


def _record(settings: Settings, index: Index, message: AuditMessage) -> None:
    trail = AuditTrail.open(settings, index.engine)
    trail.record(message)
    trail.close()


def _print(
    figures: dict[str, object],
    manifest: Manifest,
    audit: Audit | None,
    faults: Sequence[str],
    *,
    as_json: bool,
) -> None:
    """Print the outcome; exit with 1 when something is wrong."""
    intact = not faults and audit is not None and audit.conserved
    if as_json:
        figures |= {"made_at": manifest.made_at, "host": manifest.host, "version": manifest.version}
        figures |= {"schema": manifest.schema, "database": manifest.source, "faults": list(faults)}
        figures["audit"] = audit and {
            "received": audit.received,
            "fates": audit.fates,
            "violations": list(audit.violations),
            "conserved": audit.conserved,
        }
        typer.echo(json.dumps(figures | {"intact": intact}, indent=2))
    else:
        typer.echo(", ".join(f"{name} {value}" for name, value in figures.items() if value != []))
        typer.echo(f"made {manifest.made_at} on {manifest.host} by dicom-node {manifest.version}")
        for fault in faults:
            typer.echo(f"fault: {fault}")
        for violation in audit.violations if audit is not None else ():
            typer.echo(f"audit: {violation}")
        typer.echo("audit: nothing was lost" if audit is not None and audit.conserved else "audit: FAILED")
    if not intact:
        raise typer.Exit(1)


@contextmanager
def _progress(verb: str, *, quiet: bool) -> Iterator[Report]:
    columns = (TextColumn(verb), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    hidden = quiet or not stderr_console.is_terminal
    with Progress(*columns, console=stderr_console, transient=True, disable=hidden) as bar:
        task = bar.add_task(verb, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
