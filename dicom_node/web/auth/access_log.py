"""Who looked at what, and when: one row for each view and each change."""

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
"""A page that keeps itself current is one view a minute, not one a second."""
_REMEMBERED: Final = 10_000


@dataclass(frozen=True, slots=True)
class Access:
    """One view or change; `at` in seconds since the epoch."""

    at: float
    reader: str
    address: str
    action: str
    study_id: int | None


class Accesses(database.Records):
    """The table of accesses.

    Parameters
    ----------
    engine, clock
        As for :class:`dicom_node.store.database.Records`.
    """

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.time) -> None:
        super().__init__(engine, clock)
        self._lock = threading.Lock()
        self._seen: dict[tuple[str, str, str, int | None], float] = {}

    def record(
        self, reader: str, address: str, action: str, study_id: int | None = None, *, repeats: bool = False
    ) -> None:
        """Record an access; durable when this returns.

        Parameters
        ----------
        repeats
            Whether the same within a minute is another one, as for a change; a view is not.
        """
        now, key = self._clock(), (reader, address, action, study_id)
        with self._lock:
            if not repeats and now - self._seen.get(key, 0) < SAME_SECONDS:
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
