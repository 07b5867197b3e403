"""``purge``, ``pin`` and ``unpin``: apply the rules of retention by hand, and keep studies from them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Annotated, TypeAlias

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from dicom_node.audit_trail import events
from dicom_node.audit_trail.codes import Action
from dicom_node.audit_trail.trail import AuditTrail
from dicom_node.cli.audit import record_access
from dicom_node.cli.context import open_index, settings_of
from dicom_node.cli.options import AsJson
from dicom_node.cli.output import counted, stderr_console
from dicom_node.config.data_dir import DataDir
from dicom_node.config.settings import Settings
from dicom_node.errors import NodeError
from dicom_node.store.pins import Pins
from dicom_node.store.purge import Purge, Purged

_Studies: TypeAlias = Annotated[list[str], typer.Argument(metavar="STUDY", help="Study Instance UIDs")]


def purge(
    ctx: typer.Context,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="only say what would go, by rule; nothing is changed")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Remove now what the rules of retention let go; a running node does it by itself.

    Only what a destination has confirmed goes, and after an age of its own what nothing will ever confirm.
    """
    settings = settings_of(ctx)
    index = open_index(settings)
    work = DataDir(settings).purge(index.engine)
    trail = AuditTrail.open(settings, index.engine)

    def record(uid: str, setting: str) -> None:
        trail.record_about(
            lambda: events.study_deleted(
                events.operator(), trail.subjects.of_uid(uid), f"retention.{setting}"
            )
        )

    found = work.preview() if dry_run else _run(work, record)
    trail.close()
    index.close()
    _print(found, settings, dry_run=dry_run, as_json=as_json)
    if not dry_run and work.stuck is not None:
        raise work.stuck


def _print(found: Sequence[Purged], settings: Settings, *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        rules = [dataclasses.asdict(each) for each in found]
        typer.echo(json.dumps({"dry_run": dry_run, "rules": rules}, indent=2))
        return
    console = Console(highlight=False)
    if not settings.retention.limits.any:
        console.print("no rule is set below [retention]: everything is kept")
    elif not found:
        console.print("nothing is old enough")
    else:
        console.print("would be purged:" if dry_run else "purged:", _table(found))


def pin(ctx: typer.Context, studies: _Studies) -> None:
    """Pin studies: nothing of them is purged until they are unpinned."""
    _change_pins(ctx, studies, Pins.pin, "pin", "pinned")


def unpin(ctx: typer.Context, studies: _Studies) -> None:
    """Let the rules of retention have pinned studies again."""
    _change_pins(ctx, studies, Pins.unpin, "unpin", "unpinned")


def _change_pins(
    ctx: typer.Context,
    studies: Sequence[str],
    change: Callable[[Pins, Sequence[str]], Sequence[str]],
    action: str,
    verb: str,
) -> None:
    settings = settings_of(ctx)
    index = open_index(settings)
    unknown = change(Pins(index.engine), studies)
    for uid in sorted(set(studies) - set(unknown)):
        record_access(settings, index, uid, Action.UPDATE, action)
    index.close()
    typer.echo(f"{counted(len(studies) - len(unknown), 'study', 'studies')} {verb}")
    if unknown:
        raise NodeError(
            f"{len(unknown)} of the named studies are unknown, such as {unknown[0]}; see `dicom-node status "
            "--studies`"
        )


def _run(work: Purge, record: Callable[[str, str], None]) -> list[Purged]:
    """Purge with a bar on standard error, where that is a terminal."""
    total = sum(each.count for each in work.preview())
    with Progress(console=stderr_console, transient=True) as progress:
        task = progress.add_task("purging", total=total)
        return work.run(progress=lambda count, _size: progress.advance(task, count), erasing=record)


def _table(found: Sequence[Purged]) -> Table:
    table = Table("rule", "what", "count", "MiB", "oldest", "newest", box=None, pad_edge=False)
    for name in ("count", "MiB"):
        next(column for column in table.columns if column.header == name).justify = "right"
    for each in found:
        size = f"{each.size / 2**20:.1f}" if each.size else ""
        table.add_row(each.setting, each.what, str(each.count), size, _day(each.oldest), _day(each.newest))
    return table


def _day(time: float | None) -> str:
    return "" if time is None else datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d")
