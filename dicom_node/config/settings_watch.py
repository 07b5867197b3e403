"""Watch over the configuration file of a running node: changed models are taken, other changes are named."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from dicom_node.config.settings import Settings, load_settings
from dicom_node.errors import ConfigurationError

_LOG = logging.getLogger(__name__)
_SECONDS: Final = 2.0
_TAKEN: Final = frozenset({"models", "worker"})
"""Sections that only the workers read, which are started again for them."""


class SettingsWatch:
    """Watch over a configuration file.

    Parameters
    ----------
    config
        Configuration file; None where there is none, which never changes.
    settings
        Settings that the node runs by.
    check
        Function that says in one sentence why models cannot be used; empty when they can.
    """

    def __init__(
        self, config: Path | None, settings: Settings, check: Callable[[Settings], str] = lambda _: ""
    ) -> None:
        self._config = config
        self._settings = settings
        self._check = check
        self._seen = self._look()
        self._due = 0.0

    def models_changed(self) -> bool:
        """Return whether the file now names other models, which can be used; looks every two seconds.

        A wrong file, and a change of anything else, is logged once, and the node goes on as it is.
        """
        if self._config is None or time.monotonic() < self._due:
            return False
        self._due = time.monotonic() + _SECONDS
        if (seen := self._look()) == self._seen:
            return False
        self._seen = seen
        try:
            now = load_settings(self._config)
        except ConfigurationError as error:
            _LOG.error("the configuration file was changed, and is not taken: %s", error)
            return False
        changed = {
            name for name in type(now).model_fields if getattr(now, name) != getattr(self._settings, name)
        }
        if not changed:
            return False
        if others := sorted(changed - _TAKEN):
            _LOG.warning(
                "the configuration file was changed in %s: start the node again to have it taken",
                ", ".join(others),
            )
            return False
        if wrong := self._check(now):
            _LOG.error("the configuration file names other models, which are not taken: %s", wrong)
            return False
        self._settings = now
        return True

    def _look(self) -> tuple[int, int, int] | None:
        try:
            status = self._config.stat() if self._config else None
        except OSError:
            return None
        return None if status is None else (status.st_mtime_ns, status.st_size, status.st_ino)
