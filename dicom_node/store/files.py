"""Durable files under names made of their content, never of anything a peer sent."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dicom_node.errors import BadInstance, StorageFailed, StorageFull

_SHARDS = tuple(f"{number:02x}" for number in range(256))
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_CHUNK = 1 << 20
_STALE_SECONDS = 86400.0
# PS3.10 7.1: 128 bytes preamble, DICM, then (0002,0000) UL 4: the length of the rest of the meta group.
_PREFIX = slice(128, 132)
_GROUP_LENGTH = b"\x02\x00\x00\x00UL\x04\x00"
_META_START = 144


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file that is on disk for good.

    Attributes
    ----------
    digest
        SHA-256, lower-case hexadecimal, of the encoded data set: the bytes after the file meta information,
        which belong to the transfer and not to the image.
    size
        Of the whole file, bytes.
    name
        Path below the spool's root.
    """

    digest: str
    size: int
    name: str


class Spool:
    """A folder of DICOM files that are either whole and durable or not there.

    Parameters
    ----------
    root
        The folder; made by :meth:`prepare`.
    min_free_bytes
        Below this much free space :meth:`check_room` refuses.
    """

    def __init__(self, root: Path, min_free_bytes: int = 0) -> None:
        self.root = root
        self.incoming = root / "incoming"
        self._min_free_bytes = min_free_bytes

    def prepare(self, *, alone: bool = False) -> None:
        """Make the folders and remove what an earlier process left half received.

        Parameters
        ----------
        alone
            Whether no other process uses the spool; else only what is a day old is removed.

        Raises
        ------
        StorageFull, StorageFailed
            When the folder cannot be written.
        """
        with _translated(self.root):
            self.incoming.mkdir(parents=True, exist_ok=True)
            stale_before = time.time() - (0 if alone else _STALE_SECONDS)
            for left_over in self.incoming.iterdir():
                with contextlib.suppress(FileNotFoundError):
                    if left_over.stat().st_mtime <= stale_before:
                        left_over.unlink()
            for shard in _SHARDS:
                (self.root / shard).mkdir(exist_ok=True)
            _sync_folder(self.root)
            _sync_folder(self.root.parent)

    def check_room(self) -> None:
        """Raise :class:`StorageFull` when less than the reserve is free."""
        with _translated(self.root):
            status = os.statvfs(self.root)
        free = status.f_bavail * status.f_frsize
        if free < self._min_free_bytes:
            raise StorageFull(
                f"{self.root}: {free // 2**20} MiB free, below the reserve of "
                f"{self._min_free_bytes // 2**20} MiB; free space or lower dicom.min_free_bytes"
            )

    def adopt(self, temporary: Path) -> StoredFile:
        """Keep a received Part 10 file for good.

        The temporary file stays the caller's to remove; both names are links to the same bytes.

        Parameters
        ----------
        temporary
            A whole file on the spool's filesystem.

        Returns
        -------
        StoredFile
            Durable when this returns: file, name and folder.

        Raises
        ------
        BadInstance
            When the file is no DICOM Part 10 file.
        StorageFull, StorageFailed
            When it cannot be kept; nothing is left behind.
        """
        with _translated(temporary):
            digest = digest_of(temporary)
            size = temporary.stat().st_size
            with temporary.open("rb") as stream:
                os.fsync(stream.fileno())
            name = f"{digest[:2]}/{digest}.dcm"
            target = self.root / name
            try:
                os.link(temporary, target)
            except FileExistsError:
                # The same data set again. An earlier crash may have come before its fsync, so make sure now.
                with target.open("rb") as stream:
                    os.fsync(stream.fileno())
            _sync_folder(target.parent)
        return StoredFile(digest=digest, size=size, name=name)

    def keep(self, content: bytes) -> StoredFile:
        """Write an encoded Part 10 file for good; the same content twice is one file.

        Raises
        ------
        BadInstance, StorageFull, StorageFailed
            As :meth:`adopt`.
        """
        with _translated(self.incoming):
            handle, name = tempfile.mkstemp(dir=self.incoming)
        temporary = Path(name)
        try:
            with _translated(temporary), os.fdopen(handle, "wb") as stream:
                stream.write(content)
            return self.adopt(temporary)
        finally:
            temporary.unlink(missing_ok=True)

    def path(self, name: str) -> Path:
        """Return the path of a stored file."""
        return self.root / name

    def names(self) -> Iterator[str]:
        """Yield the name of every stored file."""
        for shard in _SHARDS:
            with contextlib.suppress(FileNotFoundError):
                yield from (f"{shard}/{entry.name}" for entry in os.scandir(self.root / shard))


def data_set_offset(head: bytes) -> int:
    """Return where the data set begins in a Part 10 file (PS3.10 7.1).

    Parameters
    ----------
    head
        The first 144 bytes or more.

    Raises
    ------
    BadInstance
        When they are no preamble, prefix and group length.
    """
    if len(head) < _META_START or head[_PREFIX] != b"DICM" or head[132:140] != _GROUP_LENGTH:
        raise BadInstance(
            "no DICOM Part 10 file: preamble, DICM and (0002,0000) expected at its start (PS3.10 7.1)"
        )
    return _META_START + int.from_bytes(head[140:144], "little")


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a Part 10 file's encoded data set.

    Raises
    ------
    BadInstance
        When it is no Part 10 file.
    OSError
        When it cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as stream:
        stream.seek(data_set_offset(stream.read(_META_START)))
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _sync_folder(folder: Path) -> None:
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
        kind = StorageFull if error.errno in _NO_ROOM else StorageFailed
        raise kind(f"{where}: {error.strerror or error}; check the disk and its permissions") from error
