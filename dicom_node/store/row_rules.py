"""Rules of retention for rows that have no file: they are deleted, by age alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import ColumnElement, Connection, FromClause, delete, exists, func, select, update

from dicom_node.store.retention_rules import DAY
from dicom_node.store.states import FileState, ResultState
from dicom_node.store.tables import (
    access,
    commitment,
    commitment_item,
    delivery,
    forgotten,
    instance,
    place,
    reading,
    study,
)

_ROWS: Final = 500
"""Rows that one transaction deletes."""


@dataclass(frozen=True, slots=True)
class OldRows:
    """Number of rows that are old enough, and the times of the oldest and the newest."""

    count: int
    oldest: float | None
    newest: float | None


@dataclass(frozen=True, slots=True)
class RowRule:
    """Rule by which rows are deleted when they are old enough.

    Attributes
    ----------
    setting
        Name of the setting with the age in days.
    what
        Word for the rows.
    key, since
        Primary key of the table, and the time from which the age counts.
    source
        Table, with what it is joined with.
    condition
        Further condition.
    after
        Function that is called, in the same transaction, with the number of deleted rows, the time, and the
        time before which a row is old enough.
    """

    setting: str
    what: str
    key: ColumnElement[int]
    since: ColumnElement[float]
    source: FromClause
    condition: ColumnElement[bool]
    after: Callable[[Connection, int, float, float], None] | None = None

    def old(self, connection: Connection, now: float, days: float) -> OldRows:
        """Count the rows that would be deleted."""
        aggregates = (func.count(), func.min(self.since), func.max(self.since))
        row = connection.execute(
            select(*aggregates).select_from(self.source).where(self.condition, self.since <= now - days * DAY)
        ).one()
        return OldRows(*row)

    def delete(self, connection: Connection, now: float, days: float) -> OldRows:
        """Delete one batch of rows within the caller's transaction."""
        limit = now - days * DAY
        rows = connection.execute(
            select(self.key, self.since.label("since"))
            .select_from(self.source)
            .where(self.condition, self.since <= limit)
            .order_by(self.since)
            .limit(_ROWS)
        ).all()
        if not rows:
            return OldRows(0, None, None)
        table = self.key.table
        connection.execute(delete(table).where(self.key.in_([row[0] for row in rows])))
        if self.after is not None:
            self.after(connection, len(rows), now, limit)
        return OldRows(len(rows), rows[0].since, rows[-1].since)


def _count_forgotten(connection: Connection, count: int, now: float, limit: float) -> None:
    """Add to the number of purged instances without a row, and delete requests for commitment as old."""
    day = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d")
    added = update(forgotten).where(forgotten.c.day == day).values(instances=forgotten.c.instances + count)
    if not connection.execute(added).rowcount:
        connection.execute(forgotten.insert().values(day=day, instances=count))
    # Unless an answer to it may still come.
    waits = exists().where(
        commitment_item.c.commitment_id == commitment.c.id,
        delivery.c.id == commitment_item.c.delivery_id,
        delivery.c.state == ResultState.SENT,
    )
    old = select(commitment.c.id).where(commitment.c.asked_at <= limit, ~waits.correlate(commitment))
    ids = connection.execute(old.limit(_ROWS)).scalars().all()
    connection.execute(delete(commitment_item).where(commitment_item.c.commitment_id.in_(ids)))
    connection.execute(delete(commitment).where(commitment.c.id.in_(ids)))


ROW_RULES: Final = (
    RowRule(
        "similar_days",
        "similar",
        place.c.reading_id,
        reading.c.created_at,
        place.join(reading, reading.c.id == place.c.reading_id).join(study, study.c.id == reading.c.study_id),
        study.c.pinned_at.is_(None),
    ),
    RowRule("accesses_days", "accesses", access.c.id, access.c.at, access, access.c.id > 0),
    RowRule(
        "audit_days",
        "audit",
        instance.c.id,
        instance.c.purged_at,
        instance,
        instance.c.file_state == FileState.PURGED,
        _count_forgotten,
    ),
)
"""Rules, in the order in which they are applied."""
