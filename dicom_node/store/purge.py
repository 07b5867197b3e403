"""Purge: removes files by the rules of retention, so that a kill at any moment breaks nothing.

The row comes first: it is committed as PURGING, then the file goes, then the row is PURGED. What was begun is
finished by the next run. A film that arrives again meanwhile takes its row back to KEPT, so a file is only
removed in a transaction that holds its row (:mod:`dicom_node.store.reception` stores the film again).
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Engine, and_, literal, select, update

from dicom_node.errors import NodeError, StorageFailed
from dicom_node.store import database
from dicom_node.store.deletion_lock import deletion
from dicom_node.store.files import Spool, free_bytes, storage_error, sync_folder
from dicom_node.store.retention_limits import RetentionLimits
from dicom_node.store.retention_rules import (
    COLUMNS,
    FILE_RULES,
    SPACE_RULES,
    SPACE_SETTING,
    FileRule,
    Holding,
    candidates,
)
from dicom_node.store.row_rules import ROW_RULES, RowRule
from dicom_node.store.states import FileState
from dicom_node.store.tables import reading, study

_BATCH: Final = 16
"""Files of one transaction: a film that arrives waits for no more than these."""
_PAUSE_SECONDS: Final = 0.05
"""Pause between two transactions, so that whoever waits for the database gets it."""


@dataclass(frozen=True, slots=True)
class Purged:
    """Files, or rows without a file, that a rule purges.

    Attributes
    ----------
    setting
        Setting of the rule.
    what
        ``films``, ``results``, ``maps``, ``similar``, ``accesses`` or ``audit``.
    count
        Number of files or rows.
    size
        Size of the files, in bytes; 0 for rows.
    oldest, newest
        Times from which their ages count, in seconds since the epoch; None when there are none.
    """

    setting: str
    what: str
    count: int
    size: int
    oldest: float | None
    newest: float | None

    def joined(self, other: Purged) -> Purged:
        """Return both as one; they are of the same rule."""
        times = [each for each in (self.oldest, other.oldest, self.newest, other.newest) if each is not None]
        return Purged(
            self.setting,
            self.what,
            self.count + other.count,
            self.size + other.size,
            min(times, default=None),
            max(times, default=None),
        )


@dataclass(frozen=True, slots=True)
class _File:
    id: int
    name: str
    size: int
    since: float


class Purge(database.Repository):
    """Purge of one data directory.

    Parameters
    ----------
    engine, clock
        As for :class:`dicom_node.store.database.Repository`.
    spool, results
        Spools of the received films and of the results.
    maps, thumbnails
        Folders of the heat maps, and of the thumbnails of the page.
    limits
        Limits of the rules.
    free
        Function that returns the free space of the disk, in bytes; tests pass another one.
    """

    def __init__(
        self,
        engine: Engine,
        spool: Spool,
        results: Spool,
        maps: Path,
        thumbnails: Path,
        limits: RetentionLimits,
        *,
        clock: Callable[[], float] = time.time,
        free: Callable[[], int] | None = None,
    ) -> None:
        super().__init__(engine, clock)
        self._data_dir = spool.root.parent
        self._roots = {Holding.FILM: spool.root, Holding.RESULT: results.root, Holding.MAPS: maps}
        self._thumbnails = thumbnails
        self._limits = limits
        self._erasing: Callable[[str, str], None] | None = None
        self._not_removed: dict[tuple[Holding, int], NodeError] = {}
        self._free = free or (lambda: free_bytes(spool.root))

    @property
    def stuck(self) -> NodeError | None:
        """Error of the files that the last run could not remove; the next one tries again."""
        first = next(iter(self._not_removed.values()), None)
        if first is None or len(self._not_removed) == 1:
            return first
        return StorageFailed(f"{len(self._not_removed)} files cannot be removed, the first one: {first}")

    # -- what would go -------------------------------------------------------------------------------

    def preview(self) -> list[Purged]:
        """Return what :meth:`run` would purge now, by rule; nothing is changed."""
        now, found, gone = self._clock(), [], set()
        for rule in self._by_age():
            files = self._candidates(rule, now, self._limits.days[rule.setting])
            gone |= {(rule.holding, each.id) for each in files}
            found.append(_summary(rule.setting, rule.holding.value, files))
        if self._limits.free_below is not None:
            freed = sum(each.size for each in found)
            missing = self._missing(self._free() + freed)
            left = ((kind, each) for kind, each in self._oldest_first(now) if (kind, each.id) not in gone)
            chosen = _enough(left, missing)
            for rule in SPACE_RULES:
                files = [each for kind, each in chosen if kind is rule.holding]
                found.append(_summary(SPACE_SETTING, rule.holding.value, files))
        with database.reading(self._engine) as connection:
            for row_rule in self._by_row():
                old = row_rule.old(connection, now, self._limits.days[row_rule.setting])
                found.append(Purged(row_rule.setting, row_rule.what, old.count, 0, old.oldest, old.newest))
        return [each for each in found if each.count]

    # -- the purge -----------------------------------------------------------------------------------

    def run(
        self,
        stop: threading.Event | None = None,
        *,
        progress: Callable[[int, int], None] = lambda _count, _size: None,
        erasing: Callable[[str, str], None] | None = None,
    ) -> list[Purged]:
        """Finish what was begun, then purge by every rule; return what went.

        Parameters
        ----------
        stop
            When it is set, the run ends after the current batch.
        progress
            Function that is told the number of files, or rows, of each batch and their size in bytes.
        erasing
            Function that is told the Study Instance UID of each study that loses files, and the setting of
            the rule, while the files are still there.

        Raises
        ------
        StorageFull, StorageFailed
            When the database or the disk fails; the next run goes on. A few files that cannot be removed
            end no run: see `stuck`.
        """
        stop = stop or threading.Event()
        self._erasing = erasing
        self._not_removed.clear()
        self.finish()
        went: list[Purged] = []

        def note(setting: str, what: str, files: Sequence[_File]) -> None:
            if files:
                went.append(_summary(setting, what, files))
                progress(went[-1].count, went[-1].size)
                stop.wait(_PAUSE_SECONDS)

        for rule in self._by_age():
            while not stop.is_set():
                files = self._purge(rule)
                note(rule.setting, rule.holding.value, files)
                if not files:
                    break
        self._make_room(stop, note)
        for row_rule in self._by_row():
            while not stop.is_set() and (old := self._delete_rows(row_rule)).count:
                went.append(old)
                progress(old.count, 0)
                stop.wait(_PAUSE_SECONDS)
        return _joined(went)

    def finish(self) -> int:
        """Remove the files whose purge was begun; return their number."""
        count = 0
        for holding in Holding:
            done = 1
            while done:
                with deletion(self._data_dir) as free:
                    done = self._remove(holding) if free else 0
                count += done
        return count

    def _make_room(self, stop: threading.Event, note: Callable[[str, str, Sequence[_File]], None]) -> None:
        """Purge the oldest files until there is enough free space."""
        missing = self._missing(self._free())
        while missing > 0 and not stop.is_set():
            now, days = self._clock(), self._limits.least_days
            chosen = _enough(itertools.islice(self._oldest_first(now, _BATCH), _BATCH), missing)
            count = 0
            for rule in SPACE_RULES:
                files = self._take(rule, now, days, [each for kind, each in chosen if kind is rule.holding])
                missing -= sum(each.size for each in files)
                count += len(files)
                note(rule.setting, rule.holding.value, files)
            # Counted, too: some file systems tell only later what was freed.
            missing = min(missing, self._wanted - self._free())
            if not count:
                return

    @property
    def _wanted(self) -> int:
        return self._limits.free_until or self._limits.free_below or 0

    def _missing(self, free: int) -> int:
        """Return the bytes that are missing to the wanted free space; 0 when nothing is to be done."""
        below = self._limits.free_below
        return 0 if below is None or free >= below else self._wanted - free

    def _by_age(self) -> list[FileRule]:
        return [rule for rule in FILE_RULES if rule.setting in self._limits.days]

    def _by_row(self) -> list[RowRule]:
        return [rule for rule in ROW_RULES if rule.setting in self._limits.days]

    def _delete_rows(self, rule: RowRule) -> Purged:
        now = self._clock()
        with database.writing(self._engine) as connection:
            old = rule.delete(connection, now, self._limits.days[rule.setting])
        return Purged(rule.setting, rule.what, old.count, 0, old.oldest, old.newest)

    def _oldest_first(self, now: float, limit: int | None = None) -> Iterator[tuple[Holding, _File]]:
        """Yield the files that go for free space, the oldest first; at least `limit` of them."""
        lists = (
            [(each.since, rule.holding.value, each.id, rule.holding, each) for each in files]
            for rule in SPACE_RULES
            for files in [self._candidates(rule, now, self._limits.least_days, limit)]
        )
        return ((holding, file) for *_, holding, file in heapq.merge(*lists))

    def _candidates(self, rule: FileRule, now: float, days: float, limit: int | None = None) -> list[_File]:
        of = COLUMNS[rule.holding]
        query = candidates(rule, now, days, *_columns(rule.holding)).order_by(of.since, of.table.c.id)
        with database.reading(self._engine) as connection:
            rows = connection.execute(query.limit(limit)).all()
        return [self._file(rule.holding, row) for row in rows]

    def _file(self, holding: Holding, row: Any) -> _File:
        size = row.size
        if holding is Holding.MAPS:
            size = 0
            with contextlib.suppress(OSError):
                size = (self._roots[holding] / row.name).stat().st_size
        return _File(row.id, row.name, size, row.since)

    def _purge(self, rule: FileRule) -> list[_File]:
        """Purge the oldest files of a rule, at most one batch; return them."""
        now, days = self._clock(), self._limits.days[rule.setting]
        return self._take(rule, now, days, self._candidates(rule, now, days, _BATCH))

    def _take(self, rule: FileRule, now: float, days: float, files: Sequence[_File]) -> list[_File]:
        """Purge those files that the rule still lets go, unless a backup copies files now."""
        with deletion(self._data_dir) as free:
            marked = self._mark(rule, now, days, files) if free else []
            if marked and self._erasing is not None:
                for uid in self._studies_of(rule.holding, marked):
                    self._erasing(uid, rule.setting)
            if marked:
                self._remove(rule.holding)
        return [each for each in marked if (rule.holding, each.id) not in self._not_removed]

    def _studies_of(self, holding: Holding, files: Sequence[_File]) -> list[str]:
        table = COLUMNS[holding].table
        query = (
            select(study.c.study_instance_uid)
            .distinct()
            .join(table, table.c.study_id == study.c.id)
            .where(table.c.id.in_([each.id for each in files]))
        )
        with database.reading(self._engine) as connection:
            return [*connection.execute(query).scalars()]

    def _mark(self, rule: FileRule, now: float, days: float, files: Sequence[_File]) -> list[_File]:
        """Commit that files are going to be removed: those that the rule still lets go; return them."""
        if not files:
            return []
        table = COLUMNS[rule.holding].table
        with database.writing(self._engine) as connection:
            # The rows of the studies too: none of them may begin to be received or analysed meanwhile.
            held = candidates(rule, now, days, table.c.id).where(table.c.id.in_([each.id for each in files]))
            ids = set(connection.execute(held.with_for_update(of=[table, study])).scalars())
            connection.execute(
                update(table)
                .where(table.c.id.in_(ids), table.c.file_state == FileState.KEPT)
                .values(file_state=FileState.PURGING, purged_at=now, purged_by=rule.setting)
            )
        return [each for each in files if each.id in ids]

    def _remove(self, holding: Holding) -> int:
        """Remove files whose purge was begun, at most one batch; return the number of those that were tried.

        Raises
        ------
        StorageFull, StorageFailed
            When more files than a batch cannot be removed: then it is the disk, and no more are to be begun.
        """
        of = COLUMNS[holding]
        begun = and_(of.table.c.file_state == FileState.PURGING, self._removable(holding))
        with database.reading(self._engine) as connection:
            ids = connection.execute(select(of.table.c.id).where(begun).limit(_BATCH)).scalars().all()
        if not ids:
            return 0
        columns = (of.table.c.id, of.file.label("name"), of.table.c.purged_at)
        digest = (of.table.c.digest,) if "digest" in of.table.c else ()
        # In the transaction that holds the rows: the same film may just be arriving again.
        with database.writing(self._engine) as connection:
            rows = connection.execute(
                select(*columns, *digest).where(of.table.c.id.in_(ids), begun).with_for_update()
            ).all()
            removed = {row.name for row in rows}
            if holding is Holding.MAPS:
                removed -= _shared_maps(connection, removed)
            folders = set()
            for row in rows:
                path = self._roots[holding] / row.name
                try:
                    if row.name in removed:
                        path.unlink(missing_ok=True)
                        folders.add(path.parent)
                    if digest:
                        (self._thumbnails / row.digest[:2] / f"{row.digest}.png").unlink(missing_ok=True)
                except OSError as error:
                    self._not_removed[holding, row.id] = storage_error(error, path)
                    if len(self._not_removed) > _BATCH:
                        raise storage_error(error, path) from error
        # Durable before the rows say so, or a power cut brings files back that nobody knows.
        for folder in folders:
            try:
                sync_folder(folder)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise storage_error(error, folder) from error
        with database.writing(self._engine) as connection:
            connection.execute(
                update(of.table)
                .where(of.table.c.id.in_([row.id for row in rows]), begun, self._removable(holding))
                .values(file_state=FileState.PURGED)
            )
        return len(ids)

    def _removable(self, holding: Holding) -> ColumnElement[bool]:
        """Return the SQL condition that a file has not failed in this run."""
        failed = [key for kind, key in self._not_removed if kind is holding]
        return COLUMNS[holding].table.c.id.not_in(failed)


def _columns(holding: Holding) -> tuple[ColumnElement[Any], ...]:
    of = COLUMNS[holding]
    size = literal(0) if holding is Holding.MAPS else of.table.c.size
    return of.table.c.id, of.file.label("name"), size.label("size"), of.since.label("since")


def _shared_maps(connection: Connection, names: set[str]) -> set[str]:
    """Return the names of heat map files that another analysis has too: equal maps are one file."""
    kept = select(reading.c.maps).where(reading.c.maps.in_(names), reading.c.file_state == FileState.KEPT)
    return set(connection.execute(kept).scalars())


def _enough(files: Iterator[tuple[Holding, _File]], missing: int) -> list[tuple[Holding, _File]]:
    """Return files from the first on, until their sizes are `missing` bytes together."""
    chosen: list[tuple[Holding, _File]] = []
    while missing > 0 and (following := next(files, None)) is not None:
        chosen.append(following)
        missing -= following[1].size
    return chosen


def _summary(setting: str, what: str, files: Sequence[_File]) -> Purged:
    times = [each.since for each in files]
    return Purged(
        setting,
        what,
        len(files),
        sum(each.size for each in files),
        min(times, default=None),
        max(times, default=None),
    )


def _joined(went: Iterable[Purged]) -> list[Purged]:
    """Join the batches of each rule."""
    joined: dict[tuple[str, str], Purged] = {}
    for each in went:
        key = (each.setting, each.what)
        before = joined.get(key)
        joined[key] = each if before is None else before.joined(each)
    return list(joined.values())
