"""Head of the audit trail in the index: how far the trail goes, so that a cut end is found."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select, update

from dicom_node.store import database
from dicom_node.store.tables import audit_trail_head

_ONLY = 1


@dataclass(frozen=True, slots=True)
class HeadRecord:
    """Knowledge of the index about the trail.

    Attributes
    ----------
    first_number, first_previous
        Number of the oldest entry that must be there, and hash of the one before it.
    number, hash
        Number and hash of the newest entry.
    """

    first_number: int
    first_previous: str
    number: int
    hash: str


class AuditTrailHead(database.Repository):
    """Repository of the head, one row.

    Parameters
    ----------
    engine, clock
        As for :class:`dicom_node.store.database.Repository`.
    """

    def read(self) -> HeadRecord | None:
        """Return the head; None when no entry was ever recorded."""
        row = audit_trail_head.c
        query = select(row.first_number, row.first_previous, row.number, row.hash)
        with database.reading(self._engine) as connection:
            found = connection.execute(query).first()
        return None if found is None else HeadRecord(*found)

    def record(self, head: HeadRecord) -> None:
        """Record the head; the caller holds the lock of the trail, so that nobody else does."""
        values = {
            "first_number": head.first_number,
            "first_previous": head.first_previous,
            "number": head.number,
            "hash": head.hash,
            "updated_at": self._clock(),
        }
        with database.writing(self._engine) as connection:
            done = connection.execute(update(audit_trail_head).values(**values))
            if not done.rowcount:
                connection.execute(audit_trail_head.insert().values(id=_ONLY, **values))
