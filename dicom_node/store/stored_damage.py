"""Damage of stored files that a check found: each is recorded once, and marked when the file is mended."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from sqlalchemy import Connection, select, update

from dicom_node.store import database
from dicom_node.store.tables import damaged_file


class Part(enum.StrEnum):
    """Part of what is stored that is checked."""

    RECEIVED = "received"
    RESULTS = "results"
    INDEX = "index"


@dataclass(frozen=True, slots=True)
class Damage:
    """Damage of a stored file; times in seconds since the epoch.

    Attributes
    ----------
    file
        Name in its spool; for the index the name of its file.
    reason
        What is wrong with it, as one clause.
    """

    part: Part
    file: str
    reason: str
    found_at: float


class StoredDamage(database.Repository):
    """Damage of stored files that was found and not yet mended."""

    def open(self) -> list[Damage]:
        """Return what is not mended, the last found first."""
        columns = [damaged_file.c[name] for name in Damage.__dataclass_fields__]
        query = select(*columns).where(damaged_file.c.mended_at.is_(None)).order_by(damaged_file.c.id.desc())
        with database.reading(self._engine) as connection:
            return [
                Damage(Part(row.part), row.file, row.reason, row.found_at)
                for row in connection.execute(query)
            ]

    def record(self, part: Part, file: str, reason: str) -> bool:
        """Record what a check found; return whether it was not known before.

        Parameters
        ----------
        reason
            What is wrong with the file, as one clause; empty when it is intact.
        """
        now = self._clock()
        with database.reading(self._engine) as connection:
            known = connection.execute(select(damaged_file).where(damaged_file.c.file == file)).first()
        if not reason and (known is None or known.mended_at is not None):
            return False
        with database.writing(self._engine) as connection:
            if not reason:
                mark_mended(connection, file, now)
                return False
            values = {"part": part, "reason": reason[:256], "found_at": now, "mended_at": None}
            if known is None:
                connection.execute(damaged_file.insert().values(file=file, **values))
                return True
            if known.mended_at is None:
                return False
            connection.execute(update(damaged_file).where(damaged_file.c.id == known.id).values(**values))
        return True


def mark_mended(connection: Connection, file: str, now: float) -> None:
    """Record within the caller's transaction that a file is intact again."""
    connection.execute(
        update(damaged_file)
        .where(damaged_file.c.file == file, damaged_file.c.mended_at.is_(None))
        .values(mended_at=now)
    )
