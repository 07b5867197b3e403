"""Private files: what the node keeps, and the secrets that it is given, can be read by its user alone."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dicom_node.config.destinations import DicomwebDestination
from dicom_node.errors import ConfigurationError

if TYPE_CHECKING:
    from dicom_node.config.settings import Settings

_LOG = logging.getLogger(__name__)

FOLDER_MODE: Final = 0o700
_OTHERS: Final = 0o077  # group and all others
_LEVELS_TO_LOOK_AT = 2


def make_new_files_private() -> None:
    """Have this process, and the processes that it starts, create folders 0700 and files 0600."""
    os.umask(_OTHERS)


def is_loose(path: Path) -> bool:
    """Return whether other users may do anything with a file or folder; False when it is not there."""
    try:
        found = path.lstat()
    except OSError:
        return False
    return not stat.S_ISLNK(found.st_mode) and bool(found.st_mode & _OTHERS)


def tighten(root: Path) -> None:
    """Take a folder and all that it holds from other users, and say so in one line.

    All of it is gone through only when the folder, or something in its upper two levels, is open to others.

    Parameters
    ----------
    root
        Folder of the node.
    """
    if not (is_loose(root) or any(map(is_loose, _below(root, _LEVELS_TO_LOOK_AT)))):
        return
    changed, failed = 0, 0
    for path in [root, *_below(root)]:
        if is_loose(path):
            try:
                path.chmod(stat.S_IMODE(path.lstat().st_mode) & ~_OTHERS)
                changed += 1
            except OSError:
                failed += 1
    if changed:
        _LOG.warning("%s: %d files and folders were open to other users; they no longer are", root, changed)
    if failed:
        _LOG.error(
            "%s: %d files and folders are open to other users and belong to another one; chown them",
            root,
            failed,
        )


def _below(folder: Path, levels: int = 64) -> Iterator[Path]:
    try:
        entries = [*os.scandir(folder)]
    except OSError:
        return
    for entry in entries:
        yield Path(entry.path)
        if levels > 1 and entry.is_dir(follow_symlinks=False):
            yield from _below(Path(entry.path), levels - 1)


def check_private(path: Path, setting: str) -> None:
    """Check that only its owner can read a file that holds a secret; one that is not there passes.

    Parameters
    ----------
    path
        File.
    setting
        Name of the setting, for the error.

    Raises
    ------
    ConfigurationError
        When group or others may read or write it.
    """
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return  # whoever reads it says so
    if mode & _OTHERS:
        raise ConfigurationError(
            f"{setting} {path}: other users can read it (mode {mode:04o}); chmod 600 {path}, and "
            "let it belong to the user of the node"
        )


def secret_files(settings: Settings) -> Iterator[tuple[str, Path]]:
    """Yield every file of the settings that holds a secret, with the name of its setting."""
    named: list[tuple[str, Path | None]] = [
        ("dicom.tls_key", settings.dicom.tls_key),
        ("oidc.client_secret_file", settings.oidc.client_secret_file),
    ]
    for each in settings.destinations:
        named.append((f"destination {each.name}: tls_key", each.tls_key))
        if isinstance(each, DicomwebDestination):
            named.append((f"destination {each.name}: token_file", each.token_file))
            named.append((f"destination {each.name}: password_file", each.password_file))
    yield from ((setting, path) for setting, path in named if path is not None)


def check_secrets(settings: Settings) -> None:
    """Check every file of :func:`secret_files`.

    Raises
    ------
    ConfigurationError
        For the first one that others can read.
    """
    for setting, path in secret_files(settings):
        check_private(path, setting)
