"""Copy of a file: durable, with its digests; or a second link to it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, TypeAlias

from dicom_node.errors import BadInstance, StorageFull
from dicom_node.store.files import data_set_offset

Progress: TypeAlias = Callable[[int, int], None]
"""Function that is told how many of how many files are done."""

_CHUNK: Final = 1 << 20
_SLACK: Final = 64 << 20
"""Bytes that stay free, for folders and file systems."""


@dataclass(frozen=True, slots=True)
class Digests:
    """Digests of one file.

    Attributes
    ----------
    file
        SHA-256 of all its bytes.
    data_set
        SHA-256 of what follows the file meta information (PS3.10 7.1); of all bytes when there is none.
    """

    file: str
    data_set: str

    def match(self, name: str) -> bool:
        """Return whether a file of the spool, the results or the maps holds what it is named by."""
        return Path(name).stem == (self.data_set if name.endswith(".dcm") else self.file)


def digest(source: Path, target: Path | None = None) -> Digests:
    """Read a file once for its digests, and copy it durably when there is a target.

    The copy gets the time of the file, and only its owner may read it.

    Raises
    ------
    OSError
        When one cannot be read or the other cannot be written.
    """
    whole, data_set = hashlib.sha256(), hashlib.sha256()
    skip = position = 0
    with contextlib.ExitStack() as stack:
        stream = stack.enter_context(source.open("rb", buffering=0))
        copy = None if target is None else stack.enter_context(_created(target))
        while chunk := stream.read(_CHUNK):
            if position == 0:
                skip = _offset(chunk)
            whole.update(chunk)
            data_set.update(chunk[max(0, skip - position) :])
            position += len(chunk)
            if copy is not None:
                copy.write(chunk)
        if copy is not None and target is not None:
            copy.flush()
            times = source.stat()
            os.utime(copy.fileno(), ns=(times.st_atime_ns, times.st_mtime_ns))
            os.fsync(copy.fileno())
    return Digests(whole.hexdigest(), data_set.hexdigest())


def _created(path: Path) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb")


def _offset(head: bytes) -> int:
    try:
        return data_set_offset(head)
    except BadInstance:
        return 0


def can_link(source: Path, target: Path) -> bool:
    """Return whether files of one folder can be linked into another: one file system that has links."""
    probe, second = source / ".link", target / ".link"
    try:
        probe.touch()
        os.link(probe, second)
    except OSError:
        return False
    finally:
        for left_over in (probe, second):
            with contextlib.suppress(OSError):
                left_over.unlink()
    return True


def check_room(folder: Path, needed: int) -> None:
    """Check that a folder's file system has room for so many bytes.

    Raises
    ------
    StorageFull
        When it has not.
    """
    free = shutil.disk_usage(folder).free
    if free < needed + _SLACK:
        raise StorageFull(
            f"{folder}: {needed // 2**20} MiB are needed and {free // 2**20} MiB are free; "
            "free space on its disk"
        )


def sync_folders(folders: Iterable[Path]) -> None:
    """Make the names in folders durable."""
    for folder in folders:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
