"""Promotion of a shadow model: a change of roles in the configuration file, whose comments stay."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import tomlkit
from tomlkit.exceptions import TOMLKitError

from dicom_node.config.served_models import ModelRole
from dicom_node.config.settings import Settings, load_settings
from dicom_node.errors import ConfigurationError, StorageFailed


@dataclass(frozen=True, slots=True)
class Promotion:
    """Change of roles.

    Attributes
    ----------
    promoted
        Name of the entry that became primary.
    demoted
        Names of the entries that became shadows.
    """

    promoted: str
    demoted: tuple[str, ...]

    def __str__(self) -> str:
        shadows = f", {' and '.join(self.demoted)} shadow" if self.demoted else ""
        return f"{self.promoted} primary{shadows}"


def promote(config: Path, settings: Settings, name: str, *, beside: bool) -> Promotion:
    """Make a model of the configuration file primary, and the primary ones shadows.

    The file is replaced only when the changed one is valid.

    Parameters
    ----------
    config
        Configuration file.
    settings
        Settings that were read from it.
    name
        Name of the entry.
    beside
        Whether the other primary models stay primary.

    Raises
    ------
    ConfigurationError
        If there is no such entry in the file, it is primary already, or the changed settings are wrong.
    StorageFailed
        If the file cannot be written.
    """
    names = [each.name for each in settings.models]
    if name not in names:
        known = ", ".join(names) or "there are none; list them as [[models]] in the configuration file"
        raise ConfigurationError(f"no model of the settings is named {name!r}: {known}")
    others = () if beside else tuple(each.name for each in settings.primary_models if each.name != name)
    if next(each for each in settings.models if each.name == name).role is ModelRole.PRIMARY and not others:
        raise ConfigurationError(f"the model {name} is primary already")
    try:
        document = tomlkit.parse(config.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, TOMLKitError) as error:
        raise ConfigurationError(f"{config}: cannot be read: {error}") from None
    entries = {str(entry.get("name")): entry for entry in document.get("models", [])}
    if missing := [each for each in (name, *others) if each not in entries]:
        raise ConfigurationError(
            f"{config}: has no [[models]] named {missing[0]!r}: a variable sets it; change its role there"
        )
    for each in (name, *others):
        entries[each]["role"] = (ModelRole.PRIMARY if each == name else ModelRole.SHADOW).value
    _replace(config, tomlkit.dumps(document))
    return Promotion(name, others)


def _replace(config: Path, text: str) -> None:
    """Replace a file by one with other content and the same owner and mode, if that is a valid one."""
    target = config.resolve()
    try:
        status = target.stat()
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}-", suffix=".toml")
        draft = Path(name)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            load_settings(draft)
            draft.chmod(status.st_mode & 0o777)
            if (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
                os.chown(draft, status.st_uid, status.st_gid)
            draft.replace(target)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise StorageFailed(f"{config}: {error.strerror}; make it and its folder writable") from error
