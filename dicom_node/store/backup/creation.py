"""Creation of a backup, while the node runs.

The index is copied first and the files afterwards. A file is there before its row and never changes, so each
file that the copy names is found, whatever arrives meanwhile; and nothing is deleted meanwhile
(:mod:`dicom_node.store.deletion_lock`).
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import Engine

from dicom_node.errors import AlreadyRunning, ConfigurationError, StorageFailed
from dicom_node.store.audit import Audit, IndexQueries
from dicom_node.store.backup import file_copy, index_copy
from dicom_node.store.backup.manifest import INCOMPLETE, INDEX, Manifest, backups_in
from dicom_node.store.deletion_lock import DELETION_LOCK, no_deletion
from dicom_node.store.files import Spool, storage_error

NOT_KEPT: Final = frozenset({"lock", DELETION_LOCK, "broker", "thumbnails"})
"""Entries of a data directory that no backup holds: they are made anew.

The broker's queue too: the index says what waits.
"""

_NAMED: Final = ("spool", "results", "maps")
"""Folders of files named by their content. Of them a backup holds what its index names."""


@dataclass(frozen=True, slots=True)
class BackupReport:
    """Outcome of a backup.

    Attributes
    ----------
    folder
        The backup.
    files, size
        Number of its files, and their size in bytes.
    linked, copied
        Number of files that take no new space, and of those that were copied.
    manifest
        Its manifest.
    audit
        Audit of the backup's index and files.
    removed
        Earlier backups that were removed, by name; and interrupted ones.
    """

    folder: Path
    files: int
    size: int
    linked: int
    copied: int
    manifest: Manifest
    audit: Audit
    removed: tuple[str, ...]


class BackupWriter:
    """Writer of backups of one data directory.

    Parameters
    ----------
    root
        Data directory.
    engine
        Engine of its index.
    destination
        Folder that gets the backup as a folder of its own, named by the time.
    link
        Whether files may be links to those of the data directory, when both are on one file system.
    """

    def __init__(self, root: Path, engine: Engine, destination: Path, *, link: bool = True) -> None:
        self._root = root.resolve()
        self._engine = engine
        self._destination = destination.resolve()
        self._link = link
        if self._destination.is_relative_to(self._root):
            raise ConfigurationError(f"{destination}: it lies in the data directory; name another folder")

    def write(
        self, *, keep: int | None = None, progress: file_copy.Progress = lambda _done, _all: None
    ) -> BackupReport:
        """Write a backup; it has its name only when it is whole and durable.

        Parameters
        ----------
        keep
            Number of backups to keep in the folder, this one among them; all when None.

        Raises
        ------
        AlreadyRunning
            When another backup is being written into the folder.
        ConfigurationError, StorageFull, StorageFailed
            When it cannot be written; what there is of it ends with ``.incomplete``.
        """
        with self._prepared(), no_deletion(self._root):
            removed = _remove(self._destination.glob(f"*{INCOMPLETE}"))
            earlier = backups_in(self._destination)
            made_at = dt.datetime.now(dt.UTC)
            folder = self._new_folder(made_at)
            working = folder.with_name(folder.name + INCOMPLETE)
            working.mkdir(mode=0o700)
            files = _Files(self._root, working, earlier[-1] if earlier else None, link=self._link)
            with _translated(working):
                files.take_index(self._engine)
                files.take(self._names(), progress)
                audit = files.audit()
                manifest = Manifest.new(
                    made_at.isoformat(timespec="seconds"),
                    self._engine.dialect.name,
                    files.sums,
                    damaged=files.damaged,
                    absent=files.absent,
                )
                manifest.write(working)
                file_copy.sync_folders(path for path in (working, *working.rglob("*")) if path.is_dir())
                working.rename(folder)
                file_copy.sync_folders([self._destination])
                if keep is not None:
                    removed += _remove(reversed(backups_in(self._destination)[:-keep]))
        return BackupReport(
            folder=folder,
            files=len(files.sums),
            size=files.size,
            linked=files.linked,
            copied=files.copied,
            manifest=manifest,
            audit=audit,
            removed=tuple(removed),
        )

    @contextlib.contextmanager
    def _prepared(self) -> Iterator[None]:
        """Make the folder, and hold it against other backups."""
        with _translated(self._destination):
            self._destination.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self._destination, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError:
            raise AlreadyRunning(f"{self._destination}: another backup is being written there") from None
        finally:
            os.close(descriptor)

    def _new_folder(self, made_at: dt.datetime) -> Path:
        name, number = f"{made_at:%Y%m%dT%H%M%SZ}", 1
        while (folder := self._destination / name).exists():
            number += 1
            name = f"{made_at:%Y%m%dT%H%M%SZ}-{number}"
        return folder

    def _names(self) -> Iterator[str]:
        """Yield the other files of the data directory, which the index does not name."""
        skipped = {*NOT_KEPT, *_NAMED}
        index = INDEX if self._engine.dialect.name != "sqlite" else Path(str(self._engine.url.database)).name
        for entry in sorted(self._root.iterdir()):
            # The index was copied in a way of its own; beside it lie its log and its lock.
            if entry.name in skipped or entry.name.startswith((INDEX, index)):
                continue
            for path in [entry] if not entry.is_dir() else sorted(entry.rglob("*")):
                if path.is_file():
                    yield str(path.relative_to(self._root))


class _Files:
    """Files of a backup that is being written.

    Attributes
    ----------
    sums
        SHA-256 of each file, by its path relative to the backup.
    damaged, absent
        Files that are not what they are named by; and files that are not there, where the audit says whether
        they should be.
    """

    def __init__(self, root: Path, folder: Path, earlier: Path | None, *, link: bool) -> None:
        self._root = root
        self._folder = folder
        self._earlier = earlier if earlier is not None and file_copy.can_link(earlier, folder) else None
        self._known: Mapping[str, str] = {}
        self._known_damaged: frozenset[str] = frozenset()
        if self._earlier is not None:
            with contextlib.suppress(StorageFailed, ConfigurationError):
                manifest = Manifest.read(self._earlier)
                self._known, self._known_damaged = manifest.sums, frozenset(manifest.damaged)
        self._link = link and file_copy.can_link(root, folder)
        self.sums: dict[str, str] = {}
        self.damaged: list[str] = []
        self.absent: list[str] = []
        self.size = self.linked = self.copied = 0

    def take_index(self, engine: Engine) -> None:
        """Copy the index."""
        if engine.dialect.name == "sqlite":
            file_copy.check_room(self._folder, Path(str(engine.url.database)).stat().st_size)
        index_copy.take_snapshot(engine, self._folder / INDEX)

    def take(self, others: Iterator[str], progress: file_copy.Progress) -> None:
        """Take over the files that the index names, and others."""
        with index_copy.opened(self._folder / INDEX) as copy:
            named = sorted(index_copy.named_files(copy))
        work = [(name, True) for name in named] + [(name, False) for name in others]
        file_copy.check_room(self._folder, sum(self._new_bytes(*each) for each in work))
        for done, (name, by_content) in enumerate(work, 1):
            target = self._folder / name
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                if by_content:
                    self._take_named(name, target)
                else:
                    self._take_other(name, target)
            except FileNotFoundError:
                self.absent.append(name)
            progress(done, len(work))

    def audit(self) -> Audit:
        """Audit what was written; the index is not opened again."""
        path = self._folder / INDEX
        with index_copy.opened(path) as copy:
            found = IndexQueries(copy).audit(Spool(self._folder / "spool"), Spool(self._folder / "results"))
        self._count(INDEX, file_copy.digest(path).file)
        self.copied += 1
        return found

    def _new_bytes(self, name: str, by_content: bool) -> int:  # noqa: FBT001
        linked = self._is_known(name) or (by_content and self._link)
        try:
            return 0 if linked else (self._root / name).stat().st_size
        except OSError:
            return 0

    def _is_known(self, name: str) -> bool:
        return name in self._known and name not in self._known_damaged

    def _take_named(self, name: str, target: Path) -> None:
        if self._is_known(name) and self._linked_to_earlier(name, target):
            self._count(name, self._known[name])
            return
        source = self._root / name
        if self._link:
            os.link(source, target)
            self.linked += 1
            digests = file_copy.digest(target)
        else:
            digests = file_copy.digest(source, target)
            self.copied += 1
        self._count(name, digests.file)
        if not digests.match(name):
            self.damaged.append(name)

    def _take_other(self, name: str, target: Path) -> None:
        """Take a file that may change: it is copied, unless the earlier backup has the very same."""
        source = self._root / name
        found = file_copy.digest(source).file
        if self._known.get(name) == found and self._linked_to_earlier(name, target):
            self._count(name, found)
            return
        self._count(name, file_copy.digest(source, target).file)
        self.copied += 1

    def _linked_to_earlier(self, name: str, target: Path) -> bool:
        assert self._earlier is not None
        try:
            os.link(self._earlier / name, target)
        except OSError:
            return False
        self.linked += 1
        return True

    def _count(self, name: str, digest: str) -> None:
        self.sums[name] = digest
        self.size += (self._folder / name).stat().st_size


def _remove(folders: Iterator[Path] | reversed[Path]) -> list[str]:
    removed = []
    for folder in folders:
        # First it loses the name of a backup: what is left of an interrupted removal is none.
        doomed = folder if folder.name.endswith(INCOMPLETE) else folder.with_name(folder.name + INCOMPLETE)
        folder.rename(doomed)
        shutil.rmtree(doomed)
        removed.append(folder.name)
    return removed


@contextlib.contextmanager
def _translated(where: Path) -> Iterator[None]:
    try:
        yield
    except BlockingIOError:
        raise
    except OSError as error:
        raise storage_error(error, error.filename or where) from error
