"""Verification of a backup: every hash, and the audit of its index."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine

from dicom_node.errors import StorageFailed
from dicom_node.store.audit import Audit, IndexQueries
from dicom_node.store.backup import file_copy, index_copy
from dicom_node.store.backup.manifest import DESCRIPTION, INDEX, SUMS, Manifest
from dicom_node.store.files import Spool


@dataclass(frozen=True, slots=True)
class Verification:
    """Outcome of the verification of a backup.

    Attributes
    ----------
    manifest
        Its manifest.
    faults
        One sentence for each file that is missing, changed or not of the backup.
    audit
        Audit of its index and files; None when the index cannot be read.
    """

    manifest: Manifest
    faults: tuple[str, ...]
    audit: Audit | None

    @property
    def intact(self) -> bool:
        """True when every file is the one that was written, and nothing was lost."""
        return not self.faults and self.audit is not None and self.audit.conserved


def verify(folder: Path, progress: file_copy.Progress = lambda _done, _all: None) -> Verification:
    """Read every file of a backup, and audit its index.

    Raises
    ------
    ConfigurationError, StorageFailed
        As :meth:`Manifest.read`.
    """
    manifest = Manifest.read(folder)
    faults = []
    for done, (name, expected) in enumerate(sorted(manifest.sums.items()), 1):
        if fault := fault_of(folder / name, expected):
            faults.append(f"{name}: {fault}")
        progress(done, len(manifest.sums))
    known = {*manifest.sums, SUMS, DESCRIPTION}
    present = (path.relative_to(folder) for path in folder.rglob("*") if not path.is_dir())
    faults += [f"{name}: it is not of this backup" for name in sorted(map(str, present)) if name not in known]
    faults += [f"{name}: it was damaged when the backup was made" for name in manifest.damaged]
    audit = None
    try:
        with working_copy(folder) as copy:
            audit = IndexQueries(copy).audit(Spool(folder / "spool"), Spool(folder / "results"))
    except StorageFailed as error:
        faults.append(f"{INDEX}: {error}")
    return Verification(manifest, tuple(faults), audit)


def fault_of(path: Path, expected: str) -> str:
    """Return what is wrong with a file of a backup; empty when it has the expected SHA-256."""
    try:
        found = file_copy.digest(path).file
    except OSError as error:
        return error.strerror or "it cannot be read"
    return "" if found == expected else "the file has changed (SHA-256)"


@contextlib.contextmanager
def working_copy(folder: Path) -> Iterator[Engine]:
    """Open a copy of a backup's index with the schema of this version; the backup stays as it is.

    Raises
    ------
    StorageFull, StorageFailed
        When it is missing or damaged.
    """
    with tempfile.TemporaryDirectory(prefix="dicom-node-") as place:
        path = Path(place) / INDEX
        try:
            shutil.copyfile(folder / INDEX, path)
        except OSError as error:
            raise StorageFailed(error.strerror or "it cannot be copied") from None
        with index_copy.opened(path) as copy:
            yield copy
