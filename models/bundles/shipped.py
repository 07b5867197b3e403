"""The bundles that come with the package, and how one is found by its name."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

from models.errors import BundleError

NAME = re.compile(r"(?P<name>[a-z0-9]+(-[a-z0-9]+)*?)-(?P<version>\d+\.\d+\.\d+)")
"""How a bundle's folder is called."""


def shipped_folder() -> Path:
    """Folder of the bundles that come with the package."""
    return Path(str(resources.files("models"))) / "bundles"


def find_folder(name_or_path: str | Path, manifest: str) -> Path:
    """Find a bundle of one kind.

    Parameters
    ----------
    name_or_path
        A folder; or a shipped bundle's ``name-version``; or its ``name`` alone for the newest version.
    manifest
        Name of the file that makes a folder a bundle of the kind that is looked for.

    Raises
    ------
    BundleError
        If there is none.
    """
    path = Path(name_or_path)
    if (path / manifest).is_file():
        return path
    shipped = {
        folder.name: match
        for folder in shipped_folder().glob("*")
        if (match := NAME.fullmatch(folder.name)) and (folder / manifest).is_file()
    }
    wanted = str(name_or_path)
    matching = [name for name, match in shipped.items() if wanted in (name, match["name"])]
    if not matching:
        raise BundleError(
            f"no bundle {wanted!r}: it is neither a folder with a {manifest} nor one of "
            f"{', '.join(sorted(shipped)) or 'the shipped ones, for there are none'}"
        )
    newest = max(matching, key=lambda name: [int(part) for part in shipped[name]["version"].split(".")])
    return shipped_folder() / newest
