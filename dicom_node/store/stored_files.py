"""Comparison of what the index says of stored files with what lies on the disk, for the audit."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence

from sqlalchemy import Engine, Table, select

from dicom_node.store import database
from dicom_node.store.files import Spool, damage
from dicom_node.store.states import FileState

_YOUNG_SECONDS = 3600.0
"""Age below which a file may still get its row: an instance may be on its way, or will be sent again."""


def without_row(spool: Spool, known: set[str]) -> Iterator[str]:
    """Yield a sentence for each received file that the index does not know, unless it has just come."""
    before = time.time() - _YOUNG_SECONDS
    for name in sorted(set(spool.names()) - known):
        try:
            young = spool.path(name).stat().st_mtime > before
        except FileNotFoundError:
            continue
        if not young:
            yield f"received file {name} is not in the index; `dicom-node rebuild --missing` enters it"


def missing(
    spool: Spool, rows: Iterable[tuple[str, int, str]], noun: str, *, read_files: bool
) -> Iterator[tuple[str, str]]:
    """Yield name and a sentence for each file that is missing or changed; a row is (name, bytes, digest)."""
    for name, size, digest in rows:
        path = spool.path(name)
        try:
            actual = path.stat().st_size
        except OSError as error:
            yield name, f"{noun} {name}: {error.strerror}"
            continue
        if actual != size or (read_files and damage(path, digest)):
            yield name, f"{noun} {name}: the file has changed ({actual} of {size} bytes)"


def still_kept(engine: Engine, table: Table, names: Sequence[str]) -> list[str]:
    """Return those of the files that no purge has begun to remove."""
    gone: set[str] = set()
    with database.reading(engine) as connection:
        for start in range(0, len(names), 500):
            query = select(table.c.file).where(
                table.c.file.in_(names[start : start + 500]), table.c.file_state != FileState.KEPT
            )
            gone |= set(connection.execute(query).scalars())
    return [name for name in names if name not in gone]
