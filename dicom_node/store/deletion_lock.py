"""Deletion lock: whoever copies the stored files keeps others from deleting some of them meanwhile."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from dicom_node.store.files import storage_error

DELETION_LOCK: Final = "deletion.lock"
"""Name of the lock's file in the data directory."""


@contextlib.contextmanager
def no_deletion(root: Path) -> Iterator[None]:
    """Hold the lock while stored files are copied; several processes may.

    A deletion that has begun ends first. The lock goes with its process, however that ends.

    Parameters
    ----------
    root
        Data directory.

    Raises
    ------
    StorageFull, StorageFailed
        When the lock cannot be opened.
    """
    with _opened(root) as descriptor:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield


@contextlib.contextmanager
def deletion(root: Path) -> Iterator[bool]:
    """Hold the lock while stored files are deleted; keep it for one batch, not for all.

    Yields
    ------
    bool
        False when the stored files are being copied: delete nothing, and try again later.

    Raises
    ------
    StorageFull, StorageFailed
        As :func:`no_deletion`.
    """
    with _opened(root) as descriptor:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


@contextlib.contextmanager
def _opened(root: Path) -> Iterator[int]:
    path = root / DELETION_LOCK
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise storage_error(error, path) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)
