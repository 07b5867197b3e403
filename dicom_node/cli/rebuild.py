"""``rebuild``: make the index anew from the received files and the results."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from dicom_node.cli.context import settings_of
from dicom_node.cli.options import AsJson
from dicom_node.cli.output import counted
from dicom_node.config.data_dir import DataDir
from dicom_node.config.settings import Settings
from dicom_node.errors import ConfigurationError, NodeError
from dicom_node.store import database
from dicom_node.store.index import Index

if TYPE_CHECKING:
    from dicom_node.recovery.index_rebuild import Progress, Rebuild

LOST = (
    "accounts, feedback, notes and tags, access log",
    "words, similar cases and heat maps on the page (`dicom-node retry --reported` makes them again)",
    "which results were confirmed: all are sent again, which changes nothing where they are",
)
"""Facts that stand only in the index."""
_SHOWN = 20


def rebuild(
    ctx: typer.Context,
    missing: Annotated[
        bool,
        typer.Option("--missing", help="keep the index, and enter only the received files that it lacks"),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make the index anew from the received files and the results; the node must be stopped.

    What is there of the index is set aside under another name, and never deleted. An index in PostgreSQL must
    be empty. Every file is read and compared with its hash. A damaged file is named; when its film is sent
    again it is repaired. Exit code 1 when a file is damaged.
    """
    from dicom_node.recovery.index_rebuild import IndexRebuild

    settings = settings_of(ctx)
    data_dir = DataDir(settings)
    if not data_dir.root.is_dir():
        raise ConfigurationError(f"data_dir {data_dir.root}: there is no such folder")
    console = Console(stderr=True, highlight=False)
    with data_dir.locked(shared=False), console.status("reading") as shown:

        def progress(part: str, number: int, total: int) -> None:
            if number % 50 == 0 or number == total:
                shown.update(f"{part}: {number} of {total}")

        data_dir.prepare(alone=True)
        if missing:
            index = Index.open(settings.database, create=False)
            found = IndexRebuild(settings, index, progress).add_missing()
        else:
            moved = _made_way(settings)
            index = Index.open(settings.database)
            found = _rebuilt(settings, index, progress)
            found.set_aside = moved
        index.close()
    if as_json:
        typer.echo(json.dumps({**dataclasses.asdict(found), "lost": [] if missing else LOST}, indent=2))
    else:
        _print(found, missing=missing)
    if found.damaged or found.unreadable:
        raise typer.Exit(1)


def _made_way(settings: Settings) -> list[str]:
    """Set the file of SQLite aside; return where it lies."""
    from dicom_node.recovery.index_rebuild import set_aside_index

    url = database.parse_address(settings.database)
    if url.get_backend_name() == "sqlite":
        return set_aside_index(Path(url.database or ""))
    return []


def _rebuilt(settings: Settings, index: Index, progress: Progress) -> Rebuild:
    from dicom_node.recovery.index_rebuild import IndexRebuild
    from dicom_node.store.restored_studies import RestoredStudies

    if not RestoredStudies(index.engine).is_empty():
        raise NodeError(
            "the database is not empty: name an empty one in database_url, or enter what is missing with "
            "`dicom-node rebuild --missing`"
        )
    return IndexRebuild(settings, index, progress).run()


def _print(found: Rebuild, *, missing: bool) -> None:
    console = Console(highlight=False, soft_wrap=True)
    for path in found.set_aside:
        console.print(f"set aside: {path}", markup=False)
    console.print(
        f"entered {counted(found.instances, 'film')} of {counted(found.studies, 'study', 'studies')}, "
        f"{counted(found.results, 'result')}; waiting to be sent again: "
        f"{counted(found.deliveries, 'delivery', 'deliveries')}, to be read: "
        f"{counted(found.read_again, 'study', 'studies')}"
    )
    if found.given_up:
        console.print(f"{found.given_up} results of analyses that were given up stay without a row")
    for noun, entries in (("damaged", found.damaged), ("not entered", found.unreadable)):
        for name, reason in entries[:_SHOWN]:
            console.print(f"{noun}: {name}: {reason}", markup=False)
        if (left := len(entries) - _SHOWN) > 0:
            console.print(f"{noun}: {left} more; see --json")
    if not missing:
        console.print("what stood only in the index is not restored:")
        for text in LOST:
            console.print(f"  {text}", markup=False)
