"""Spool of durable DICOM files, named by their content and never by anything that a peer sent."""

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

from dicom_node.errors import BadInstance, NodeError, StorageFailed, StorageFull

_SHARDS = tuple(f"{number:02x}" for number in range(256))
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_CHUNK = 1 << 20
_STALE_SECONDS = 86400.0
# PS3.10 7.1: a preamble of 128 bytes, DICM, then (0002,0000) UL 4: the length of the rest of group 0002.
_PREFIX = slice(128, 132)
_GROUP_LENGTH = b"\x02\x00\x00\x00UL\x04\x00"
_META_START = 144


@dataclass(frozen=True, slots=True)
class StoredFile:
    """File that is durable on disk.

    Attributes
    ----------
    digest
        SHA-256, lower-case hexadecimal, of the encoded data set: of all bytes after the file meta
        information, which belongs to the transfer and not to the image.
    size
        Size of the whole file, in bytes.
    name
        Path relative to the spool's root.
    """

    digest: str
    size: int
    name: str


class Spool:
    """Folder of DICOM files; each is either complete and durable, or not there.

    Parameters
    ----------
    root
        Folder of the spool; :meth:`prepare` makes it.
    min_free_bytes
        Reserve: with less free space :meth:`check_room` refuses, in bytes.
    """

    def __init__(self, root: Path, min_free_bytes: int = 0) -> None:
        self.root = root
        self.incoming = root / "incoming"
        self._min_free_bytes = min_free_bytes

    def prepare(self, *, alone: bool = False) -> None:
        """Make the folders, and remove partly received files of an earlier process.

        Parameters
        ----------
        alone
            Whether no other process uses the spool; otherwise only files older than a day are removed.

        Raises
        ------
        StorageFull, StorageFailed
            When the folders cannot be made.
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
            sync_folder(self.root)
            sync_folder(self.root.parent)

    @property
    def min_free_bytes(self) -> int:
        """Reserve, in bytes; 0 for none."""
        return self._min_free_bytes

    def check_room(self, promised_bytes: int = 0) -> None:
        """Raise :class:`StorageFull` when the free space is less than the reserve.

        Parameters
        ----------
        promised_bytes
            Space that belongs to the reserve too: for the results of films that were accepted, see
            :class:`dicom_node.store.reserve.Reserve`.
        """
        free = free_bytes(self.root)
        if free < self._min_free_bytes + promised_bytes:
            promised = f" and {promised_bytes // 2**20} MiB for results to come" if promised_bytes else ""
            raise StorageFull(
                f"{self.root}: {free // 2**20} MiB free, below the reserve of "
                f"{self._min_free_bytes // 2**20} MiB{promised}; free space or lower dicom.min_free_bytes"
            )

    def adopt(self, temporary: Path) -> StoredFile:
        """Store a received Part 10 file.

        The spool gets a second link to the bytes; the caller removes the temporary one.

        Parameters
        ----------
        temporary
            Complete file on the spool's file system.

        Returns
        -------
        StoredFile
            The stored file; its bytes, its name and its folder are durable.

        Raises
        ------
        BadInstance
            When the file is no DICOM Part 10 file.
        StorageFull, StorageFailed
            When it cannot be stored; nothing is left behind.
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
                # The same data set again. An earlier process may have crashed before its fsync, so do it now.
                with target.open("rb") as stream:
                    os.fsync(stream.fileno())
            sync_folder(target.parent)
        return StoredFile(digest=digest, size=size, name=name)

    def keep(self, content: bytes) -> StoredFile:
        """Store an encoded Part 10 file; the same content twice is one file.

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
    """Return the offset of the data set in a Part 10 file, in bytes (PS3.10 7.1).

    Parameters
    ----------
    head
        First 144 bytes of the file or more.

    Raises
    ------
    BadInstance
        When they are no preamble, prefix and group length.
    """
    if len(head) < _META_START or head[_PREFIX] != b"DICM" or head[132:140] != _GROUP_LENGTH:
        raise BadInstance(
            "no DICOM Part 10 file: it must begin with a preamble, DICM and (0002,0000) (PS3.10 7.1)"
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


def sync_folder(folder: Path) -> None:
    """Make the names of a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def free_bytes(folder: Path) -> int:
    """Return the free space of a folder's disk for this user, in bytes.

    Raises
    ------
    StorageFailed
        When the folder is not there.
    """
    with _translated(folder):
        status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def disk_is_full(error: OSError) -> bool:
    """Return whether an error says that there is no room: on the disk, in the quota, or in a file."""
    return error.errno in _NO_ROOM


def storage_error(error: OSError, where: object) -> NodeError:
    """Return the error of the node for an error of the disk.

    Parameters
    ----------
    where
        File or folder, as the message is to name it.

    Returns
    -------
    StorageFull or StorageFailed
        StorageFull as :func:`disk_is_full` says.
    """
    if disk_is_full(error):
        return StorageFull(f"{where}: {error.strerror}; free space on its disk")
    return StorageFailed(f"{where}: {error.strerror or error}; check the disk and its permissions")


@contextlib.contextmanager
def _translated(where: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise storage_error(error, where) from error
