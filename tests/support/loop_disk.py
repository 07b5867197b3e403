"""Small ext4 file system in a file, which a test fills, breaks, or copies as a power cut would leave it."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self


def _run(*words: object) -> None:
    subprocess.run([str(word) for word in words], check=True, capture_output=True, timeout=60)


class LoopDisk:
    """Mounted file system.

    Attributes
    ----------
    path
        Folder in which it is mounted.
    """

    def __init__(self, folder: Path, mebibytes: int) -> None:
        self._image = folder / "disk.img"
        self.path = folder / "disk"
        self.path.mkdir()
        _run("truncate", "-s", f"{mebibytes}M", self._image)
        _run("mkfs.ext4", "-q", "-F", "-m", "0", self._image)
        _run("mount", "-o", "loop", self._image, self.path)

    def abort(self) -> None:
        """Make the file system read-only, as the kernel does after an error of the disk (ext4(5))."""
        _run("mount", "-o", "remount,abort", self.path)

    @contextmanager
    def as_after_a_power_cut(self, folder: Path) -> Iterator[Path]:
        """Mount a copy of what the disk holds now; what was not synced may be missing from it."""
        folder.mkdir()
        copy, mounted = folder / "copy.img", folder / "copy"
        mounted.mkdir()
        _run("cp", "--sparse=always", self._image, copy)
        _run("mount", "-o", "loop", copy, mounted)
        try:
            yield mounted
        finally:
            _run("umount", mounted)
            copy.unlink()

    def fill(self, leave_bytes: int = 0) -> Path:
        """Fill the disk but for some bytes; returns the file that takes the space."""
        filler = self.path / "filler"
        with filler.open("wb", buffering=0) as stream:
            with contextlib.suppress(OSError):
                while stream.write(bytes(4096)):
                    pass
            os.ftruncate(stream.fileno(), max(0, stream.tell() - leave_bytes))
        return filler

    def close(self) -> None:
        """Unmount it."""
        subprocess.run(["umount", "-l", str(self.path)], check=False, capture_output=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@functools.cache
def can_mount() -> bool:
    """Whether this user may mount a file system in a file."""
    if os.geteuid() != 0 or shutil.which("mkfs.ext4") is None:
        return False
    with tempfile.TemporaryDirectory() as folder:
        try:
            LoopDisk(Path(folder), 8).close()
        except (OSError, subprocess.SubprocessError):
            return False
    return True
