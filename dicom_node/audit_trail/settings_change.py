"""Changes of the settings between two starts of a node, by name and never by value."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dicom_node.audit_trail import events
from dicom_node.audit_trail.trail import AuditTrail
from dicom_node.config.settings import Settings
from dicom_node.errors import NodeError, StorageFailed

_LOG = logging.getLogger(__name__)


def record_changed_settings(trail: AuditTrail, settings: Settings, folder: Path) -> None:
    """Record in the audit trail which settings differ from those of the last start.

    Parameters
    ----------
    folder
        Folder of the trail, where the digests are kept.
    """
    try:
        names = changed_settings(settings, folder / "settings.json")
    except NodeError as error:
        _LOG.error("changed settings are not in the audit trail: %s", error)
        return
    if names:
        trail.record(events.settings_changed(events.operator(), names))


def changed_settings(settings: Settings, record: Path) -> list[str]:
    """Return the names of the settings that changed since the last call, and record those of now.

    Parameters
    ----------
    record
        File with a digest of each setting; it is made by the first call, for which nothing has changed.

    Raises
    ------
    StorageFailed
        When the file cannot be written.
    """
    now = dict(_digests("", settings.model_dump(mode="json")))
    try:
        before: Any = json.loads(record.read_text("utf-8"))
    except (OSError, ValueError):
        before = None
    try:
        record.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=record.parent)
        with contextlib.ExitStack() as undo:
            undo.callback(Path(temporary).unlink, missing_ok=True)
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                json.dump(now, stream)
            Path(temporary).replace(record)
    except OSError as error:
        raise StorageFailed(f"{record}: {error.strerror}; check the disk and its permissions") from error
    if not isinstance(before, dict):
        return []
    return sorted(name for name in {*now, *before} if now.get(name) != before.get(name))


def _digests(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """Yield each setting with a digest of its value; lists count as one setting."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _digests(f"{name}.{key}" if name else str(key), inner)
        return
    yield name, hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
