"""Chain of entries in files: append-only, one writer at a time, and checked from end to end.

A file is named by the number of its first entry and its day, and a new one begins with each day and when one
is full; the chain goes on from file to file. The index records how far the chain goes. Where files and index
disagree, the writer goes on from the later of both: entries that were cut off stay missing for ever.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from dicom_node.audit_trail.entry import ORIGIN, Entry, Link
from dicom_node.errors import BadInstance, NodeError, StorageFailed
from dicom_node.store.audit_trail_head import HeadRecord
from dicom_node.store.files import storage_error

_LOG = logging.getLogger(__name__)
_NAME: Final = re.compile(r"(\d{12})-(\d{8})\.jsonl")
_TAIL: Final = 1 << 20
"""Bytes at the end of a file among which its last entry is looked for; an entry is far shorter."""
_MOST_PROBLEMS: Final = 100


class Head(Protocol):
    """Record of how far the chain goes, such as :class:`dicom_node.store.audit_trail_head.AuditTrailHead`."""

    def read(self) -> HeadRecord | None:
        """Return the record; None when there is none."""

    def record(self, head: HeadRecord) -> None:
        """Write the record."""


@dataclass(frozen=True, slots=True)
class Verification:
    """Outcome of a check of the whole chain.

    Attributes
    ----------
    entries
        Number of entries that were read.
    problems
        One sentence for each problem, the first hundred; empty when the trail is complete and unchanged.
    """

    entries: int
    problems: Sequence[str]


class AuditChain:
    """Chain of entries in a folder.

    Parameters
    ----------
    folder
        Folder of the files; it is made, for this user only.
    head
        Record of the head in the index; None to go by the files alone.
    file_bytes
        Size from which a new file begins.
    clock
        Function that returns the time in seconds since the epoch; tests pass another one.
    """

    def __init__(
        self,
        folder: Path,
        head: Head | None,
        file_bytes: int = 64 * 2**20,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._folder = folder
        self._head = head
        self._file_bytes = file_bytes
        self._clock = clock
        self._known: HeadRecord | None = None  # the head that this object recorded or read last
        self._seen: tuple[Path, int] | None = None  # the newest file and its size after the last append

    # -- writing -----------------------------------------------------------------------------------

    def append(self, messages: Sequence[str]) -> None:
        """Append messages; they are durable when this returns.

        Raises
        ------
        StorageFull, StorageFailed
            When they could not be written; nothing of them is left behind.
        """
        with self._locked():
            link = self._last()
            begin = self._begin()
            path, size = self._file_for(link.number + 1)
            lines = []
            for message in messages:
                entry = Entry.after(link, message)
                link = entry.link
                lines.append(entry.line)
            self._write(path, size, b"".join(lines))
            first = self._known or begin
            self._known = HeadRecord(first.first_number, first.first_previous, link.number, link.hash)
            self._record(self._known)

    def purge(self, before: float) -> int:
        """Remove the files all of whose entries are older than a time; the newest file stays.

        Parameters
        ----------
        before
            Time in seconds since the epoch.

        Returns
        -------
        int
            Number of entries that were removed; the caller writes an entry about it.

        Raises
        ------
        StorageFull, StorageFailed
            When the index cannot record where the trail begins now; then nothing is removed.
        """
        day = time.strftime("%Y%m%d", time.gmtime(before))
        with self._locked():
            last = self._last()
            files = self._files()
            old = [path for path in files[:-1] if _day(path) < day]
            # In order and without a gap: an older file behind a newer one (a clock that was set back) stays.
            old = files[: next((n for n, path in enumerate(files) if path not in old), 0)]
            if not old:
                return 0
            kept = files[len(old)]
            begin = next(self._entries([kept]))[2]
            if begin is None:
                raise StorageFailed(f"{kept}: its first line is no entry; see `dicom-node audit verify`")
            record = HeadRecord(begin.number, begin.previous, last.number, last.hash)
            if self._head is not None:
                self._head.record(record)
            self._known = record
            removed = _number(kept) - _number(old[0])
            for path in old:
                path.unlink()
            return removed

    def _last(self) -> Link:
        """Return the link from which the chain goes on."""
        in_files = self._last_in_files()
        recorded = None
        if self._head is not None:
            with contextlib.suppress(NodeError):  # the database is away: the files and this object know
                recorded = self._head.read()
        candidates = [each for each in (recorded, self._known) if each is not None]
        newest = max(candidates, key=lambda each: each.number, default=None)
        self._known = newest
        if newest is None or (in_files.number > newest.number):
            return in_files
        return Link(newest.number, newest.hash)

    def _begin(self) -> HeadRecord:
        """Return a head whose begin is the oldest entry in the files: the index was made anew."""
        for _, _, entry in self._entries([] if self._known else self._files()):
            if entry is not None:
                return HeadRecord(entry.number, entry.previous, 0, ORIGIN.hash)
        return HeadRecord(1, ORIGIN.hash, 0, ORIGIN.hash)

    def _last_in_files(self) -> Link:
        for path in reversed(self._files()):
            with _translated(path):
                size = path.stat().st_size
                if self._known is not None and self._seen == (path, size):
                    return Link(self._known.number, self._known.hash)
                if size == 0:
                    continue
                with path.open("rb") as stream:
                    stream.seek(max(0, size - _TAIL))
                    tail = stream.read()
            for line in reversed(tail.splitlines()):
                with contextlib.suppress(BadInstance):
                    return Entry.parse(line).link
        return ORIGIN

    def _file_for(self, number: int) -> tuple[Path, int]:
        """Return the file for the next entry and its size, without the torn line of a killed writer."""
        today = time.strftime("%Y%m%d", time.gmtime(self._clock()))
        files = self._files()
        if files:
            path = files[-1]
            with _translated(path):
                size = path.stat().st_size
                if self._seen != (path, size):
                    size = _without_torn_line(path, size)
            if _day(path) == today and size < self._file_bytes:
                return path, size
        return self._folder / f"{number:012d}-{today}.jsonl", 0

    def _write(self, path: Path, size: int, content: bytes) -> None:
        with _translated(path):
            new = not path.exists()
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                try:
                    _write_all(descriptor, content)
                    os.fsync(descriptor)
                except OSError:
                    os.ftruncate(descriptor, size)
                    raise
            finally:
                os.close(descriptor)
            if new:
                _sync(self._folder)
        self._seen = (path, size + len(content))

    def _record(self, head: HeadRecord) -> None:
        if self._head is None:
            return
        try:
            self._head.record(head)
        except NodeError as error:  # the entry is durable; the next one records the head
            _LOG.warning("the head of the audit trail was not recorded: %s", error)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock of the only writer."""
        with _translated(self._folder):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    # -- reading -----------------------------------------------------------------------------------

    def entries(self, after: int = 0) -> Iterator[Entry]:
        """Yield the entries with a greater number, as they are written; lines that are none are left out."""
        files = self._files()
        wanted = [
            path
            for path, following in zip(files, [*files[1:], None], strict=False)
            if following is None or _number(following) > after + 1
        ]
        for _, _, entry in self._entries(wanted):
            if entry is not None and entry.number > after:
                yield entry

    def end(self) -> tuple[str, int]:
        """Return the name of the newest file and its size in bytes, which change with each new entry."""
        files = self._files()
        return (files[-1].name, files[-1].stat().st_size) if files else ("", 0)

    def verify(self) -> Verification:
        """Check every entry, its place and its hash, and both ends of the chain.

        Raises
        ------
        StorageFailed
            When a file or the index cannot be read.
        """
        with self._locked() if self._folder.exists() else contextlib.nullcontext():
            record = None if self._head is None else self._head.read()
            sizes = {path: path.stat().st_size for path in self._files()}
        problems: list[str] = []
        begin = Link(record.first_number - 1, record.first_previous) if record else ORIGIN
        link, count = begin, 0
        for path, line, entry in self._entries(sizes, sizes):
            where = f"{path.name} line {line}"
            if entry is None:
                problems.append(f"{where}: the line is no entry")
                continue
            count += 1
            problems += [f"{where}: {text}" for text in _mistakes(entry, link)]
            if record and entry.number == record.number and entry.hash != record.hash:
                problems.append(f"{where}: entry {entry.number} is not the one that the index recorded")
            link = entry.link
        if record and link.number < record.number:
            problems.append(f"the end: entries {link.number + 1} to {record.number} are missing")
        if record is None and count and self._head is not None:
            problems.append(
                "the end: the index does not know the trail; whether its end is missing is unknown"
            )
        return Verification(count, problems[:_MOST_PROBLEMS])

    def _files(self) -> list[Path]:
        try:
            names = sorted(each.name for each in self._folder.iterdir() if _NAME.fullmatch(each.name))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise storage_error(error, self._folder) from error
        return [self._folder / name for name in names]

    def _entries(
        self, files: Sequence[Path] | dict[Path, int], sizes: dict[Path, int] | None = None
    ) -> Iterator[tuple[Path, int, Entry | None]]:
        """Yield file, number of the line and entry of each line; None for a line that is no entry."""
        for path in files:
            left = sizes[path] if sizes else None
            with _translated(path), path.open("rb") as stream:
                for number, line in enumerate(stream, 1):
                    if left is not None:
                        if left <= 0:
                            break
                        left -= len(line)
                    try:
                        yield path, number, Entry.parse(line)
                    except BadInstance:
                        yield path, number, None


def _mistakes(entry: Entry, before: Link) -> Iterator[str]:
    """Yield what is wrong with an entry after the link of the one before."""
    if not entry.intact:
        yield f"entry {entry.number} was changed"
    if entry.number > before.number + 1:
        yield f"entries {before.number + 1} to {entry.number - 1} are missing"
    elif entry.number != before.number + 1:
        yield f"entry {entry.number} stands after entry {before.number}"
    elif entry.previous != before.hash:
        yield f"entry {entry.number} does not follow from the one before it, which was changed or replaced"


def _number(path: Path) -> int:
    return int(path.name[:12])


def _day(path: Path) -> str:
    return path.name[13:21]


def _without_torn_line(path: Path, size: int) -> int:
    """Remove what a killed writer left of a line, which nobody was told is there; return the size."""
    with path.open("r+b") as stream:
        start = max(0, size - _TAIL)
        stream.seek(start)
        tail = stream.read()
        if not tail or tail.endswith(b"\n"):
            return size
        whole = start + tail.rfind(b"\n") + 1
        _LOG.warning("%s: an unfinished entry of a killed process was removed", path)
        stream.truncate(whole)
    return whole


def _write_all(descriptor: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _translated(where: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise storage_error(error, where) from error
