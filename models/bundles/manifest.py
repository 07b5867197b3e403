"""Manifest of a folder: a TOML file with the sha256 of every other file, and how a folder is verified.

Nothing is guessed or repaired: a folder with an extra, missing or altered file is refused.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.errors import BundleError

WEIGHTS = "weights.safetensors"
GRAPH = "graph.onnx"
"""ONNX graph whose initialisers lie in the weights file: no weight is stored twice."""
METRICS = "metrics.json"
CARD = "README.md"
AMENDABLE = (METRICS, CARD)
"""Files that may be added to a finished bundle, because no prediction depends on them."""


def read_file(path: Path, name: str) -> bytes:
    """Read one file of a folder.

    Raises
    ------
    BundleError
        If the file cannot be read.
    """
    try:
        return (path / name).read_bytes()
    except OSError as error:
        raise BundleError(f"bundle {path}: {name} cannot be read: {error.strerror}") from error


def read_verified(path: Path, name: str, sha256: str) -> bytes:
    """Read one file and check its hash, so that what is loaded is what was verified.

    Raises
    ------
    BundleError
        If the file cannot be read or was altered since.
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
        If the file cannot be read or is not TOML.
    """
    try:
        return tomllib.loads(read_file(path, name).decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BundleError(f"bundle {path}: {name} is not TOML: {error}") from error


def verify_folder(
    path: Path, manifest: str, hashes: Mapping[str, str], *, required: set[str], optional: set[str]
) -> None:
    """Check that a folder holds the files that its manifest names, unaltered, and no other.

    Parameters
    ----------
    manifest
        File name of the manifest.
    hashes
        Hashes in the manifest by file name, sha256 in lower-case hexadecimal.
    required, optional
        Names of the files that must be listed, and of those that may be.

    Raises
    ------
    BundleError
        If a file is missing, extra or altered.
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


def file_hashes(folder: Path, names: tuple[str, ...]) -> dict[str, str]:
    """Sha256 of the files that exist, by name."""
    return {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
        for name in names
        if (folder / name).exists()
    }


def to_toml(entries: Mapping[str, Any], tables: Mapping[str, Mapping[str, Any]]) -> str:
    """Write entries and tables as TOML.

    Parameters
    ----------
    entries
        Top-level entries.
    tables
        Tables by name; a dot in a name makes a nested table.
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
    # JSON strings, numbers, booleans and lists are written the same way in TOML.
    return json.dumps(value, ensure_ascii=False)
