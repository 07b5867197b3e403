"""Access log: one row for each view and each change, with user, address and time."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Engine, select

from dicom_node.store import database
from dicom_node.store.tables import access

_LOG = logging.getLogger(__name__)

SAME_SECONDS: Final = 60.0
"""Interval in which equal views count once: an open page reloads itself with every change."""
_REMEMBERED: Final = 10_000


@dataclass(frozen=True, slots=True)
class Access:
    """One view or change; `at` in seconds since the epoch."""

    at: float
    reader: str
    address: str
    action: str
    study_id: int | None


class AccessLog(database.Repository):
    """Repository of the access log.

    Parameters
    ----------
    engine, clock
        As for :class:`dicom_node.store.database.Repository`.
    """

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.time) -> None:
        super().__init__(engine, clock)
        self._lock = threading.Lock()
        self._seen: dict[tuple[str, str, str, int | None], float] = {}

    def record(
        self, reader: str, address: str, action: str, study_id: int | None = None, *, always: bool = False
    ) -> None:
        """Write an access to the database, and to the log.

        Parameters
        ----------
        always
            True to record it even if an equal access was recorded within the last minute: for changes.
        """
        now, key = self._clock(), (reader, address, action, study_id)
        with self._lock:
            if not always and now - self._seen.get(key, 0) < SAME_SECONDS:
                return
            if len(self._seen) >= _REMEMBERED:
                self._seen.clear()
            self._seen[key] = now
        with database.writing(self._engine) as connection:
            connection.execute(
                access.insert().values(
                    at=now, reader=reader, address=address, action=action, study_id=study_id
                )
            )
        _LOG.info("%s from %s: %s%s", reader, address, action, "" if study_id is None else f" {study_id}")

    def latest(self, limit: int = 200) -> list[Access]:
        """Return the last accesses, newest first."""
        columns = (access.c.at, access.c.reader, access.c.address, access.c.action, access.c.study_id)
        with database.reading(self._engine) as connection:
            rows = connection.execute(select(*columns).order_by(access.c.id.desc()).limit(limit)).all()
        return [Access(*row) for row in rows]
