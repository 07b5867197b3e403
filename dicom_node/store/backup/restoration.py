"""Restoration of a backup into an empty data directory and an empty database, of any host.

The index gets its place last: until then the folder is marked, and no node starts there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import Engine

from dicom_node.errors import ConfigurationError, StorageFailed
from dicom_node.store import database
from dicom_node.store.audit import Audit, IndexQueries
from dicom_node.store.backup import file_copy, index_copy
from dicom_node.store.backup.manifest import INDEX, Manifest
from dicom_node.store.backup.verification import fault_of
from dicom_node.store.deletion_lock import DELETION_LOCK
from dicom_node.store.files import Spool, storage_error

UNFINISHED: Final = "restoring.sqlite"
"""Index of a data directory that is being restored, or whose restoration was interrupted."""

_IN_EMPTY: Final = frozenset({"lock", DELETION_LOCK, "lost+found"})


@dataclass(frozen=True, slots=True)
class Restoration:
    """Outcome of a restoration.

    Attributes
    ----------
    manifest
        Manifest of the backup.
    files
        Number of files that were restored.
    faults
        One sentence for each file of the backup that is damaged or missing: it was left out.
    audit
        Audit of the restored index and files.
    """

    manifest: Manifest
    files: int
    faults: tuple[str, ...]
    audit: Audit


def restore(
    backup: Path, root: Path, address: str, progress: file_copy.Progress = lambda _done, _all: None
) -> Restoration:
    """Restore a backup. The caller holds the lock of the data directory.

    A damaged file is left out and named, so that it takes nothing else with it; a damaged index ends the
    restoration before it begins.

    Parameters
    ----------
    backup
        Folder of the backup.
    root
        Data directory, which is empty.
    address
        Database of the node, for SQLAlchemy; it is empty.

    Raises
    ------
    ConfigurationError
        When the folder or the database is not empty, or as :meth:`Manifest.read`.
    StorageFull, StorageFailed
        When it cannot be restored; nothing starts from what there is of it.
    """
    manifest = Manifest.read(backup)
    _check_target(root, address)
    if fault := fault_of(backup / INDEX, manifest.sums.get(INDEX, "")):
        raise StorageFailed(f"{backup / INDEX}: {fault}; use another backup")
    names = sorted(set(manifest.sums) - {INDEX})
    try:
        file_copy.check_room(root, sum(_size(backup / name) for name in [INDEX, *names]))
        index = root / UNFINISHED
        file_copy.digest(backup / INDEX, index)
        faults = []
        for done, name in enumerate(names, 1):
            if fault := _restore_file(backup / name, root / name, manifest.sums[name]):
                faults.append(f"{name}: {fault}")
            progress(done, len(names))
        file_copy.sync_folders(path for path in (root, *root.rglob("*")) if path.is_dir())
        with index_copy.opened(index) as copy:
            index_copy.release_all(copy)
        with _connected(address) as engine:
            _put_index(index, engine)
            audit = IndexQueries(engine).audit(Spool(root / "spool"), Spool(root / "results"))
    except OSError as error:
        raise storage_error(error, error.filename or root) from error
    return Restoration(manifest, len(names) + 1 - len(faults), tuple(faults), audit)


def check_finished(root: Path) -> None:
    """Check that no restoration into a data directory was interrupted.

    Raises
    ------
    ConfigurationError
        When one was.
    """
    if (root / UNFINISHED).exists():
        raise ConfigurationError(
            f"data_dir {root}: a restoration was interrupted; empty the folder and run "
            "`dicom-node restore SRC` again"
        )


def _check_target(root: Path, address: str) -> None:
    check_finished(root)
    present = sorted(entry.name for entry in root.iterdir() if entry.name not in _IN_EMPTY)
    if present:
        raise ConfigurationError(
            f"data_dir {root}: it is not empty ({present[0]}); restore into an empty folder"
        )
    url = database.parse_address(address)
    if url.get_backend_name() == "sqlite":
        if Path(str(url.database)).exists():
            raise ConfigurationError(f"database_url: {url.database} exists already; name a new file")
        return
    with _connected(address) as engine:
        index_copy.check_empty(engine)


def _restore_file(source: Path, target: Path, expected: str) -> str:
    """Copy one file of a backup; return what is wrong with it, and then leave it out."""
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        found = file_copy.digest(source, target).file
    except OSError as error:
        if error.filename != str(source):
            raise
        return f"{error.strerror}; it is left out"
    if found != expected:
        target.unlink()
        return "the file has changed (SHA-256); it is left out"
    return ""


def _put_index(index: Path, engine: Engine) -> None:
    if engine.dialect.name == "sqlite":
        target = Path(str(engine.url.database))
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            index.rename(target)
        except OSError:  # another file system
            file_copy.digest(index, target)
            index.unlink()
        file_copy.sync_folders({target.parent, index.parent})
        return
    with _connected(f"sqlite:///{index.resolve()}") as copy:
        index_copy.load(copy, engine)
    index.unlink()
    for left_over in (f"{index}-wal", f"{index}-shm"):
        Path(left_over).unlink(missing_ok=True)
    file_copy.sync_folders([index.parent])


@contextlib.contextmanager
def _connected(address: str) -> Iterator[Engine]:
    engine = database.connect(address)
    try:
        yield engine
    finally:
        engine.dispose()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
