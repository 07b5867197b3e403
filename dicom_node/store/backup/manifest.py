"""Manifest of a backup: what it holds, with the SHA-256 of every file, and who made it."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import os
import re
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dicom_node.errors import ConfigurationError, StorageFailed
from dicom_node.store import database

DESCRIPTION: Final = "backup.json"
"""File that says what the backup is. It is written last: a folder without it is no backup."""

SUMS: Final = "SHA256SUMS"
"""File with the SHA-256 of every other file, as ``sha256sum --check`` reads it."""

INDEX: Final = "index.sqlite"
INCOMPLETE: Final = ".incomplete"
"""Suffix of the name of a backup that is being written, or was interrupted."""

_FORMAT = 1
_NAME = re.compile(r"\d{8}T\d{6}Z(-\d+)?")
_ESCAPES = {"\\": "\\\\", "\n": "\\n", "\r": "\\r"}
_LINE = re.compile(r"(\\?)([0-9a-f]{64}) [ *](.+)")


@dataclass(frozen=True, slots=True)
class Manifest:
    """Contents of a backup.

    Attributes
    ----------
    made_at
        Time of the index in it, ISO 8601 in UTC.
    host
        Name of the host that made it.
    version
        Version of dicom-node that made it.
    schema
        Revision of the index's schema.
    source
        Kind of the node's database: sqlite or postgresql.
    damaged
        Files whose content was not the stored one when the backup was made, relative to it.
    absent
        Files that the index names and that were not there.
    sums
        SHA-256 of every file, by its path relative to the backup.
    """

    made_at: str
    host: str
    version: str
    schema: str
    source: str
    damaged: tuple[str, ...]
    absent: tuple[str, ...]
    sums: Mapping[str, str]

    @classmethod
    def new(
        cls,
        made_at: str,
        source: str,
        sums: Mapping[str, str],
        *,
        damaged: Iterable[str] = (),
        absent: Iterable[str] = (),
    ) -> Manifest:
        """Return the manifest of a backup that this process makes."""
        return cls(
            made_at=made_at,
            host=socket.gethostname(),
            version=importlib.metadata.version("dicom-node"),
            schema=database.newest_schema(),
            source=source,
            damaged=tuple(sorted(damaged)),
            absent=tuple(sorted(absent)),
            sums=sums,
        )

    def write(self, folder: Path) -> None:
        """Write the manifest, durably, into the folder of its backup."""
        sums = "".join(_line(name, self.sums[name]) for name in sorted(self.sums))
        content = sums.encode(errors="surrogateescape")
        _write(folder / SUMS, content)
        description: dict[str, Any] = {"format": _FORMAT, "sums_sha256": hashlib.sha256(content).hexdigest()}
        description |= {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name != "sums"
        }
        description["sha256"] = _own_digest(description)
        _write(folder / DESCRIPTION, json.dumps(description, indent=2).encode())

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read the manifest of a backup.

        Raises
        ------
        ConfigurationError
            When the folder is no backup, or an interrupted one, or a newer version made it.
        StorageFailed
            When the manifest is damaged.
        """
        description = _description(folder)
        try:
            content = (folder / SUMS).read_bytes()
        except OSError as error:
            raise StorageFailed(f"{folder / SUMS}: {error.strerror}; use another backup") from None
        if hashlib.sha256(content).hexdigest() != description["sums_sha256"]:
            raise _damaged(folder / SUMS)
        sums = dict(map(_parsed, content.decode(errors="surrogateescape").removesuffix("\n").split("\n")))
        fields = {field.name for field in dataclasses.fields(cls)} - {"sums"}
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in description.items()
            if name in fields
        }
        return cls(sums=sums, **values)


def backups_in(folder: Path) -> list[Path]:
    """Return the finished backups in a folder, the oldest first."""
    if not folder.is_dir():
        return []
    return sorted(each for each in folder.iterdir() if _NAME.fullmatch(each.name) and is_backup(each))


def is_backup(folder: Path) -> bool:
    """Return whether a folder says that it is a finished backup."""
    return (folder / DESCRIPTION).is_file() and not folder.name.endswith(INCOMPLETE)


def find_backup(path: Path) -> Path:
    """Return the backup that a path names: the folder itself, or the newest one in it.

    Raises
    ------
    ConfigurationError
        When there is none.
    """
    if is_backup(path):
        return path
    if path.name.endswith(INCOMPLETE):
        raise ConfigurationError(f"{path}: this backup was interrupted; use a finished one beside it")
    if found := backups_in(path):
        return found[-1]
    what = "it holds no finished backup" if path.is_dir() else "there is no such folder"
    raise ConfigurationError(f"{path}: {what}; name a folder that `dicom-node backup DEST` wrote")


def _description(folder: Path) -> dict[str, Any]:
    path = folder / DESCRIPTION
    try:
        found = json.loads(path.read_bytes())
        number, digest = found["format"], found.pop("sha256")
        if isinstance(number, int) and number > _FORMAT:
            raise ConfigurationError(f"{folder}: {_too_new(found)}")
        intact = digest == _own_digest(found)
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}; name a finished backup") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise _damaged(path) from None
    if not intact:
        raise _damaged(path)
    if str(found["schema"]) > database.newest_schema():
        raise ConfigurationError(f"{folder}: {_too_new(found)}")
    return dict(found)


def _too_new(description: Mapping[str, Any]) -> str:
    return (
        f"dicom-node {description.get('version', 'of a newer version')} made this backup, and this one is "
        "older; install that version or a later one"
    )


def _damaged(path: Path) -> StorageFailed:
    return StorageFailed(f"{path}: the manifest is damaged; use another backup")


def _own_digest(description: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()


def _line(name: str, digest: str) -> str:
    escaped = "".join(_ESCAPES.get(letter, letter) for letter in name)
    return f"{'' if escaped == name else chr(92)}{digest}  {escaped}\n"


def _parsed(line: str) -> tuple[str, str]:
    match = _LINE.fullmatch(line)
    if match is None:
        raise StorageFailed(f"{SUMS}: a line is no SHA-256 with a name; use another backup")
    mark, digest, name = match.groups()
    if mark:
        plain = {escaped: letter for letter, escaped in _ESCAPES.items()}
        name = re.sub(r"\\[\\nr]", lambda found: plain[found[0]], name)
    if name.startswith("/") or ".." in name.split("/"):
        raise StorageFailed(f"{SUMS}: {name!r} leads out of the backup; use another backup")
    return name, digest


def _write(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
