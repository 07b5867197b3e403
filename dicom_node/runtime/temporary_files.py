"""Temporary files whose names say which process made them, so that others can tell when it has ended.

A process that is killed leaves its temporary files behind. Whoever comes later removes those of a process
that has ended. A file whose process cannot be seen, such as that of another container, is removed when it is
a day old; one of a living process never.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from dicom_node.runtime.lease_owner import LeaseOwner

STALE_SECONDS: Final = 86400.0
"""Age from which a file is removed although it is not known whether its process has ended."""

_NAME = re.compile(r"tmp-(?P<boot>[0-9a-f]*)-(?P<namespace>\d+)-(?P<pid>\d+)-(?P<started>\d+)-")
_EARLIER_NAME = re.compile(r"tmp[a-z0-9_]{8}(\..*)?")  # as Python makes them: earlier versions of the node
_OWNER_FILE = "owner"


def create(folder: Path, suffix: str = "") -> tuple[int, Path]:
    """Create a temporary file that only this user can read.

    Returns
    -------
    int
        Descriptor, open for reading and writing.
    Path
        Path of the file; the caller removes or renames it.

    Raises
    ------
    OSError
        As :func:`tempfile.mkstemp`.
    """
    descriptor, name = tempfile.mkstemp(suffix, _prefix(os.getpid()), folder)
    return descriptor, Path(name)


@functools.lru_cache(maxsize=1)
def _prefix(_pid: int) -> str:  # the argument: after a fork the cached value is that of the parent
    owner = LeaseOwner.this_process()
    return f"tmp-{owner.boot}-{owner.namespace}-{owner.pid}-{owner.started}-"


@contextlib.contextmanager
def private_folder(prefix: str) -> Iterator[Path]:
    """Make a folder among the temporary files of the system; it is removed after the block.

    Folders of the same prefix that processes left behind are removed first.
    """
    for folder in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        with contextlib.suppress(OSError, ValueError):
            if LeaseOwner.parse((folder / _OWNER_FILE).read_text("utf-8")).dead:
                shutil.rmtree(folder, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=prefix) as name:
        folder = Path(name)
        (folder / _OWNER_FILE).write_text(str(LeaseOwner.this_process()), "utf-8")
        yield folder


def remove_left_over(folder: Path, *, alone: bool = False, all_files: bool = False) -> int:
    """Remove the temporary files in a folder whose processes have ended; return their number.

    Parameters
    ----------
    alone
        Whether no other process uses the folder: then every temporary file goes.
    all_files
        Whether the folder holds nothing but temporary files, whatever their names.

    Raises
    ------
    OSError
        When the folder cannot be read; one that is not there holds nothing.
    """
    removed = 0
    stale_before = time.time() - (0 if alone else STALE_SECONDS)
    try:
        entries = list(os.scandir(folder))
    except FileNotFoundError:
        return 0
    for entry in entries:
        owned = _NAME.match(entry.name)
        if not (owned or all_files or _EARLIER_NAME.fullmatch(entry.name)):
            continue
        with contextlib.suppress(FileNotFoundError):
            if (
                entry.is_file(follow_symlinks=False)
                and ((owned is not None and _owner(owned).dead) or entry.stat().st_mtime <= stale_before)
                and not _is_alive(owned)
            ):
                Path(entry.path).unlink()
                removed += 1
    return removed


def _owner(named: re.Match[str]) -> LeaseOwner:
    return LeaseOwner("", int(named["pid"]), int(named["started"]), named["boot"], int(named["namespace"]))


def _is_alive(named: re.Match[str] | None) -> bool:
    return named is not None and _owner(named).alive
