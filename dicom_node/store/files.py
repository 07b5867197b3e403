"""Spool of durable DICOM files, named by their content and never by anything that a peer sent."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import mmap
import os
import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dicom_node.errors import BadInstance, NodeError, StorageFailed, StorageFull
from dicom_node.runtime import temporary_files
from dicom_node.store.group_commit import GroupCommit

_SHARDS = tuple(f"{number:02x}" for number in range(256))
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_CHUNK = 1 << 20
# PS3.10 7.1: a preamble of 128 bytes, DICM, then (0002,0000) UL 4: the length of the rest of group 0002.
_PREFIX = slice(128, 132)
_GROUP_LENGTH = b"\x02\x00\x00\x00UL\x04\x00"
HEAD_BYTES: Final = 144
"""Bytes of a Part 10 file from which :func:`data_set_offset` finds the data set."""
_SHORT = struct.Struct("<HH2sH")
_LONG_VRS = frozenset({b"OB", b"UN", b"UR", b"UT"})
_DESCRIPTION = frozenset({0x0002, 0x0003, 0x0010})


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
    placed_at
        Time at which this call placed the file, in seconds since the epoch; 0 when the same data set, intact,
        was there already.
    """

    digest: str
    size: int
    name: str
    placed_at: float = 0.0


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
        self._folder_syncs = {shard: GroupCommit(self._sync_shards) for shard in _SHARDS}

    def prepare(self, *, alone: bool = False) -> None:
        """Make the folders, and remove partly received files of an earlier process.

        Parameters
        ----------
        alone
            Whether no other process uses the spool: then every temporary file goes; otherwise those of
            processes that have ended, see :mod:`dicom_node.runtime.temporary_files`.

        Raises
        ------
        StorageFull, StorageFailed
            When the folders cannot be made.
        """
        with _translated(self.root):
            self.incoming.mkdir(parents=True, exist_ok=True)
            self.remove_left_over(alone=alone)
            for shard in _SHARDS:
                (self.root / shard).mkdir(exist_ok=True)
            sync_folder(self.root)
            sync_folder(self.root.parent)

    def remove_left_over(self, *, alone: bool = False) -> int:
        """Remove partly received files of processes that have ended; return their number.

        Raises
        ------
        StorageFull, StorageFailed
            When the folder cannot be read.
        """
        with _translated(self.incoming):
            return temporary_files.remove_left_over(self.incoming, alone=alone, all_files=True)

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

    def adopt(self, temporary: Path, digest: str = "") -> StoredFile:
        """Store a received Part 10 file.

        Where the same data set lies already, it is read and compared: a damaged file is replaced. The spool
        gets a second link to the bytes; the caller removes the temporary one.

        Parameters
        ----------
        temporary
            Complete file on the spool's file system.
        digest
            Digest of its data set, from whoever wrote it; without one the file is read.

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
            digest = digest or digest_of(temporary)
            size = _sync_file(temporary)
            name = f"{digest[:2]}/{digest}.dcm"
            target = self.root / name
            placed_at = 0.0
            try:
                # No rename: it would overwrite a file that another process has just placed, and it would take
                # the only name of the bytes, which are placed again when a purge removes the file before its
                # row is committed. It would not be faster either: see decision 0026.
                os.link(temporary, target)
                placed_at = time.time()
            except FileExistsError:
                if not _holds_the_same(target, temporary, digest):
                    _replace(target, temporary)
                    placed_at = time.time()
            self._folder_syncs[digest[:2]].commit(digest[:2])
        return StoredFile(digest=digest, size=size, name=name, placed_at=placed_at)

    def _sync_shards(self, shards: Sequence[str]) -> list[Exception | None]:
        """Make the names of one folder durable, once for all who placed a file there."""
        sync_folder(self.root / shards[0])
        return [None] * len(shards)

    def keep(self, content: bytes | mmap.mmap) -> StoredFile:
        """Store an encoded Part 10 file; the same content twice is one file.

        Raises
        ------
        BadInstance, StorageFull, StorageFailed
            As :meth:`adopt`.
        """
        with _translated(self.incoming):
            handle, temporary = temporary_files.create(self.incoming)
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
    if len(head) < HEAD_BYTES or head[_PREFIX] != b"DICM" or head[132:140] != _GROUP_LENGTH:
        raise BadInstance(
            "no DICOM Part 10 file: it must begin with a preamble, DICM and (0002,0000) (PS3.10 7.1)"
        )
    return HEAD_BYTES + int.from_bytes(head[140:144], "little")


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
        stream.seek(data_set_offset(stream.read(HEAD_BYTES)))
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def damage(path: Path, digest: str) -> str:
    """Return what is wrong with a stored file, as a clause; empty when its data set has the digest.

    Parameters
    ----------
    digest
        Digest of the data set, as in :class:`StoredFile`.
    """
    try:
        return "" if digest_of(path) == digest else "its content has changed"
    except FileNotFoundError:
        return "it is missing"
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    except BadInstance:
        return "it is no DICOM file any more"


def _holds_the_same(target: Path, temporary: Path, digest: str) -> bool:
    """Return whether a stored file is intact, described as a received one is, and durable."""
    try:
        if damage(target, digest) or described(target) != described(temporary):
            return False
        _sync_file(target)  # an earlier process may have crashed before its fsync
    except FileNotFoundError:
        if not temporary.exists():
            raise
        return False  # a purge has just removed it
    return True


def described(path: Path) -> dict[int, bytes]:
    """Return what the file meta information says of the data set (PS3.10 7.1).

    Returns
    -------
    dict
        Values of (0002,0002) SOP class, (0002,0003) SOP instance and (0002,0010) transfer syntax, by element
        number, as they stand in the file; those that it lacks are left out.

    Raises
    ------
    BadInstance
        When it is no Part 10 file.
    OSError
        When it cannot be read.
    """
    with path.open("rb") as stream:
        head = stream.read(HEAD_BYTES)
        meta = stream.read(data_set_offset(head) - HEAD_BYTES)
    found, position = {}, 0
    while position + _SHORT.size <= len(meta):
        _, element, vr, length = _SHORT.unpack_from(meta, position)
        position += _SHORT.size
        if vr in _LONG_VRS:
            length = int.from_bytes(meta[position : position + 4], "little")
            position += 4
        if element in _DESCRIPTION:
            found[element] = meta[position : position + length]
        position += length
    return found


def _replace(target: Path, temporary: Path) -> None:
    """Put a second link to a file in the place of another one, in one step."""
    beside = temporary.with_name(f"{temporary.name}.new")
    os.link(temporary, beside)
    try:
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)


def _sync_file(path: Path) -> int:
    """Make the content of a file durable; return its size, in bytes."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        return os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)


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
