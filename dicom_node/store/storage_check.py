"""Check of what is stored: files are read and compared with their hashes, some each day, one after another.

Received files and results take turns, each in the order of their rows, so that in time every file is read.
The files of one day are spread over the day. The index is read as a whole too
(:func:`dicom_node.store.index_file.check_content`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Engine, Table, func, select, update

from dicom_node.errors import IndexDamaged, StorageFailed, StorageFull
from dicom_node.store import database, index_file
from dicom_node.store.files import Spool, damage
from dicom_node.store.states import FileState
from dicom_node.store.stored_damage import Damage, Part, StoredDamage
from dicom_node.store.tables import instance, result, storage_check

_LOG = logging.getLogger(__name__)
_DAY: Final = 86400.0
_TURN_SECONDS: Final = 30.0
_INDEX_SECONDS: Final = 60.0
_LEFT_OVER_SECONDS: Final = 3600.0
_PAUSE_FACTOR: Final = 20
"""Shortest pause after the index was read, as a multiple of the time that it took."""
_MOST_AT_ONCE: Final = 100
_TABLES: Final[dict[Part, Table]] = {Part.RECEIVED: instance, Part.RESULTS: result}


@dataclass(frozen=True, slots=True)
class StorageCheckSummary:
    """Summary of the checks so far.

    Attributes
    ----------
    files
        Number of files that were read.
    checked_at
        Time of the last one, in seconds since the epoch; None before the first.
    damages
        What is damaged and not mended, the last found first.
    """

    files: int
    checked_at: float | None
    damages: tuple[Damage, ...]


def read_summary(engine: Engine) -> StorageCheckSummary:
    """Query what the checks found."""
    with database.reading(engine) as connection:
        files, at = connection.execute(
            select(func.sum(storage_check.c.files), func.max(storage_check.c.checked_at))
        ).one()
    return StorageCheckSummary(int(files or 0), at, tuple(StoredDamage(engine).open()))


class StorageCheck(database.Repository):
    """Check of received files and results.

    Parameters
    ----------
    engine
        Engine of the index.
    spool, results
        Spools of the received files and of the results.
    clock
        Function that returns the time in seconds since the epoch.
    """

    def __init__(
        self, engine: Engine, spool: Spool, results: Spool, clock: Callable[[], float] = time.time
    ) -> None:
        super().__init__(engine, clock)
        self._spools = {Part.RECEIVED: spool, Part.RESULTS: results}
        self._damage = StoredDamage(engine, clock)

    def check(self, part: Part, limit: int) -> int:
        """Check the next files of one part; after the last one the first follows. Return their number.

        Raises
        ------
        StorageFull, StorageFailed
            When the database does not answer.
        """
        table = _TABLES[part]
        with database.reading(self._engine) as connection:
            position = connection.execute(
                select(storage_check.c.position).where(storage_check.c.part == part)
            ).scalar_one_or_none()
            rows = connection.execute(
                select(table.c.id, table.c.file, table.c.size, table.c.digest)
                .where(table.c.id > (position or 0), table.c.file_state == FileState.KEPT)
                .order_by(table.c.id)
                .limit(limit)
            ).all()
        for row in rows:
            self._check_file(part, row)
        if rows or position:
            self._advance(
                part, rows[-1].id if len(rows) == limit else 0, len(rows), known=position is not None
            )
        return len(rows)

    def _check_file(self, part: Part, row: Any) -> None:
        path = self._spools[part].path(row.file)
        reason = damage(path, row.digest)
        if not reason and (actual := _size(path)) != row.size:
            reason = f"it has {actual} of {row.size} bytes"
        if reason and not self._is_kept(part, row.id):
            return  # a purge went on meanwhile
        if self._damage.record(part, row.file, reason):
            _LOG.error("%s/%s is damaged: %s; see `dicom-node status`", part, row.file, reason)

    def _is_kept(self, part: Part, key: int) -> bool:
        table = _TABLES[part]
        with database.reading(self._engine) as connection:
            state = connection.execute(
                select(table.c.file_state).where(table.c.id == key)
            ).scalar_one_or_none()
        return state == FileState.KEPT

    def _advance(self, part: Part, position: int, count: int, *, known: bool) -> None:
        values = {"position": position, "checked_at": self._clock()}
        with database.writing(self._engine) as connection:
            if known:
                connection.execute(
                    update(storage_check)
                    .where(storage_check.c.part == part)
                    .values(files=storage_check.c.files + count, **values)
                )
            else:
                connection.execute(storage_check.insert().values(part=part, files=count, **values))


class StorageWatch:
    """Thread that checks what is stored, and removes what ended processes left behind.

    Parameters
    ----------
    check
        Check of the files.
    index_path
        File of the SQLite index; None for another database.
    files_per_day
        Number of files to check each day.
    remove_left_over
        Function that removes temporary files of ended processes and returns their number.
    """

    def __init__(
        self,
        check: StorageCheck,
        index_path: Path | None,
        files_per_day: int,
        remove_left_over: Callable[[], int],
    ) -> None:
        self._check = check
        self._index_path = index_path
        self._files_per_day = files_per_day
        self._remove_left_over = remove_left_over
        self._due = 0.0
        self._index_at = self._left_over_at = time.monotonic()
        self._damaged = False

    def start(self, stop: threading.Event) -> None:
        """Start the thread; it ends when `stop` is set."""
        threading.Thread(target=self._run, args=(stop,), name="storage check", daemon=True).start()

    def _run(self, stop: threading.Event) -> None:
        while not stop.wait(_TURN_SECONDS):
            try:
                self.turn(_TURN_SECONDS)
            except (StorageFailed, StorageFull, OSError) as error:
                _LOG.debug("storage check: %s", error)  # the sweep says that the database is away

    def turn(self, seconds: float) -> None:
        """Do what is due after so many seconds.

        Raises
        ------
        StorageFull, StorageFailed
            When the database does not answer.
        """
        if (now := time.monotonic()) >= self._left_over_at:
            self._left_over_at = now + _LEFT_OVER_SECONDS
            if count := self._remove_left_over():
                _LOG.info("removed %d temporary files of processes that have ended", count)
        if self._index_path is not None and time.monotonic() >= self._index_at:
            self._check_index(self._index_path)
        self._due = min(self._due + self._files_per_day * seconds / _DAY, _MOST_AT_ONCE)
        while self._due >= 1:
            self._due -= 1
            if not self._check.check(Part.RECEIVED, 1) + self._check.check(Part.RESULTS, 1):
                break

    def _check_index(self, path: Path) -> None:
        began = time.monotonic()
        try:
            index_file.check_content(path)
        except IndexDamaged as error:
            if not self._damaged:
                _LOG.error("%s", error)
            self._damaged = True
        took = time.monotonic() - began
        self._index_at = time.monotonic() + max(_INDEX_SECONDS, _PAUSE_FACTOR * took)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
