"""Access log: one row for each view and each change, with user, address and time.

The page reads its rows; the audit trail gets the same fact as a chained message. Both are written here: the
rows are found by study and time in one query, and the trail is evidence that nothing was changed.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Engine, select

from dicom_node.audit_trail.alerts import Alerts
from dicom_node.audit_trail.events import Actor
from dicom_node.audit_trail.trail import AuditTrail
from dicom_node.store import database
from dicom_node.store.tables import access
from dicom_node.web.auth.audited_actions import message_of

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
    trail
        Audit trail of the node; None to keep none.
    """

    def __init__(
        self, engine: Engine, clock: Callable[[], float] = time.time, trail: AuditTrail | None = None
    ) -> None:
        super().__init__(engine, clock)
        self._trail = trail
        self._alerts = Alerts(trail) if trail else None
        self._lock = threading.Lock()
        self._seen: dict[tuple[str, str, str, int | None], float] = {}

    def record(
        self,
        reader: str,
        address: str,
        action: str,
        study_id: int | None = None,
        *,
        always: bool = False,
        query: str = "",
    ) -> None:
        """Write an access to the database, to the audit trail and to the log.

        Parameters
        ----------
        query
            Keys of a query, without their values, for the audit trail.
        always
            True to record it even if an equal access was recorded within the last minute: for changes.
        """
        now, key = self._clock(), (reader, address, action, study_id)
        with self._lock:
            # Nothing is the same as what comes later, by a clock that was set back.
            if not always and 0 <= now - self._seen.get(key, -math.inf) < SAME_SECONDS:
                return
        with database.writing(self._engine) as connection:
            connection.execute(
                access.insert().values(
                    at=now, reader=reader, address=address, action=action, study_id=study_id
                )
            )
        with self._lock:  # once it is written: what failed is recorded when it is tried again
            if len(self._seen) >= _REMEMBERED:
                self._seen.clear()
            self._seen[key] = now
        if (trail := self._trail) is not None:
            trail.record_about(
                lambda: message_of(
                    Actor(reader, address),
                    action,
                    None if study_id is None else trail.subjects.of_study(study_id),
                    query,
                )
            )
        _LOG.info("%s from %s: %s%s", reader, address, action, "" if study_id is None else f" {study_id}")

    def record_refusal(self, reader: str, address: str, what: str) -> None:
        """Write to the audit trail that a reader was refused something; many refusals become few entries."""
        if self._alerts is not None:
            self._alerts.access_refused(Actor(reader, address), what)

    def latest(self, limit: int = 200) -> list[Access]:
        """Return the last accesses, newest first."""
        columns = (access.c.at, access.c.reader, access.c.address, access.c.action, access.c.study_id)
        with database.reading(self._engine) as connection:
            rows = connection.execute(select(*columns).order_by(access.c.id.desc()).limit(limit)).all()
        return [Access(*row) for row in rows]
