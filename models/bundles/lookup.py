"""Lookup of a bundle's folder, by path or by the name of a bundle that comes with the package."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

from models.bundles.manifest import read_table
from models.errors import BundleError, UnknownBundle

MANIFEST = "bundle.toml"
LABELS = "labels.toml"
GATE_MANIFEST = "gate.toml"

BUNDLE_NAME = re.compile(r"(?P<name>[a-z0-9]+(-[a-z0-9]+)*?)-(?P<version>\d+\.\d+\.\d+)")
"""Pattern of a bundle folder's name: ``name-version``."""


def shipped_folder() -> Path:
    """Folder of the bundles that come with the package."""
    return Path(str(resources.files("models"))) / "bundles"


def shipped_bundles() -> list[Path]:
    """Folders of the model bundles that come with the package, by name."""
    return sorted(file.parent for file in shipped_folder().glob(f"*/{MANIFEST}"))


def label_keys(name_or_path: str | Path) -> tuple[str, ...]:
    """Read the keys of a bundle's labels, in the order of its outputs, without verifying the bundle.

    Raises
    ------
    BundleError
        If there is no such bundle, or the file of its labels cannot be read.
    """
    folder = find_bundle_folder(name_or_path, MANIFEST)
    try:
        return tuple(map(str, read_table(folder, LABELS)["keys"]))
    except (KeyError, TypeError):
        raise BundleError(f"bundle {folder}: {LABELS} must hold keys and nothing else") from None


def find_bundle_folder(name_or_path: str | Path, manifest: str) -> Path:
    """Find the folder of a bundle.

    Parameters
    ----------
    name_or_path
        Path of a folder, or a shipped bundle's ``name-version``, or its ``name`` for the newest.
    manifest
        Name of the manifest file that a folder of this kind must hold, such as ``bundle.toml``.

    Raises
    ------
    UnknownBundle
        If there is no such bundle.
    """
    path = Path(name_or_path)
    if (path / manifest).is_file():
        return path
    shipped = {
        folder.name: match
        for folder in shipped_folder().glob("*")
        if (match := BUNDLE_NAME.fullmatch(folder.name)) and (folder / manifest).is_file()
    }
    wanted = str(name_or_path)
    matching = [name for name, match in shipped.items() if wanted in (name, match["name"])]
    if not matching:
        raise UnknownBundle(
            f"no bundle {wanted!r}: it is neither a folder with a {manifest} nor one of "
            f"{', '.join(sorted(shipped)) or 'the shipped ones, for there are none'}"
        )
    newest = max(matching, key=lambda name: [int(part) for part in shipped[name]["version"].split(".")])
    return shipped_folder() / newest
