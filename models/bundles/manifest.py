"""A folder that is exactly what its manifest says: how one is read, verified and written.

The manifest is a TOML file that holds the sha256 of every other file in the folder. Nothing is guessed or
repaired: a folder with a file too many, too few or altered is refused.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.errors import BundleError

METRICS = "metrics.json"
CARD = "README.md"
ADDED = (METRICS, CARD)
"""May be written after the folder, for no answer depends on them."""


def read_file(path: Path, name: str) -> bytes:
    """Read one file of a folder.

    Raises
    ------
    BundleError
        If it cannot be read.
    """
    try:
        return (path / name).read_bytes()
    except OSError as error:
        raise BundleError(f"bundle {path}: {name} cannot be read: {error.strerror}") from error


def read_verified(path: Path, name: str, sha256: str) -> bytes:
    """Read one file again and hash it: what is loaded is what was verified, even if the folder changed.

    Raises
    ------
    BundleError
        If it cannot be read or is another one by now.
    """
    raw = read_file(path, name)
    if hashlib.sha256(raw).hexdigest() != sha256:
        raise BundleError(f"bundle {path}: {name} was altered after it was verified")
    return raw


def read_table(path: Path, name: str) -> dict[str, Any]:
    """Read a TOML file of a folder.

    Raises
    ------
    BundleError
        If it cannot be read or is not TOML.
    """
    try:
        return tomllib.loads(read_file(path, name).decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BundleError(f"bundle {path}: {name} is not TOML: {error}") from error


def verify(
    path: Path, manifest: str, hashes: Mapping[str, str], *, required: set[str], optional: set[str]
) -> None:
    """Check that a folder holds the files that its manifest names, unaltered, and no other.

    Parameters
    ----------
    manifest
        Name of the manifest.
    hashes
        That it holds: sha256 in lower-case hexadecimal, by file.
    required, optional
        Files that must be named, and those that may be.

    Raises
    ------
    BundleError
        If not.
    """
    here = {file.relative_to(path).as_posix() for file in path.rglob("*") if not file.is_dir()} - {manifest}
    named = set(hashes)
    for odd, what in (
        (required - named, "does not name"),
        (named - required - optional, "names the unknown file"),
        (here - named, "does not name"),
    ):
        if odd:
            raise BundleError(f"bundle {path}: {manifest} {what} {min(odd)}")
    for name, wanted in hashes.items():
        if hashlib.sha256(read_file(path, name)).hexdigest() != wanted:
            raise BundleError(f"bundle {path}: {name} was altered, its sha256 is not the one in {manifest}")


def sha256_of(folder: Path, names: tuple[str, ...]) -> dict[str, str]:
    """Sha256 of those of the files that are there, by name."""
    return {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
        for name in names
        if (folder / name).exists()
    }


def toml(entries: Mapping[str, Any], tables: Mapping[str, Mapping[str, Any]]) -> str:
    """Write entries and tables as TOML.

    Parameters
    ----------
    entries
        At the top.
    tables
        By name; a dot in a name makes a table within a table.
    """
    lines = _entries(entries)
    for name, table in tables.items():
        lines += ["", f"[{name}]", *_entries(table)]
    return "\n".join(lines) + "\n"


def _entries(table: Mapping[str, Any]) -> list[str]:
    return [f"{_key(key)} = {_value(value)}" for key, value in table.items()]


def _key(name: str) -> str:
    return name if name.isidentifier() else json.dumps(name)


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(_entries(value)) + " }"
    # What JSON writes of strings, numbers, truth values and lists is TOML.
    return json.dumps(value, ensure_ascii=False)
