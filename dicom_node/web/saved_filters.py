"""Saved filters of the worklist: a name and the conditions of the list, for each reader.

The words of a search are not part of them: they may name a patient, and are stored nowhere.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import delete, func, select

from dicom_node.store import database
from dicom_node.store.tables import saved_filter

NAME_LENGTH: Final = 64
CONDITIONS_LENGTH: Final = 512
MOST_FILTERS: Final = 50
"""Most filters of one reader."""


class SavedFilters(database.Repository):
    """Repository of the saved filters."""

    def save(self, reader: str, name: str, conditions: str) -> None:
        """Store a filter; it replaces the reader's earlier one of this name.

        Parameters
        ----------
        conditions
            Query string of the worklist's address.

        Raises
        ------
        ValueError
            When the name is empty or too long, the conditions are too long, or the reader has `MOST_FILTERS`
            already.
        """
        name = " ".join(name.replace("\0", " ").split())
        if not 0 < len(name) <= NAME_LENGTH:
            raise ValueError(f"the name of a filter has 1 to {NAME_LENGTH} characters")
        if len(conditions) > CONDITIONS_LENGTH:
            raise ValueError("the conditions of the filter are too long")
        with database.writing(self._engine) as connection:
            connection.execute(
                delete(saved_filter).where(saved_filter.c.reader == reader, saved_filter.c.name == name)
            )
            count = select(func.count()).where(saved_filter.c.reader == reader)
            if connection.execute(count).scalar_one() >= MOST_FILTERS:
                raise ValueError(f"you have {MOST_FILTERS} filters; remove one first")
            connection.execute(saved_filter.insert().values(reader=reader, name=name, conditions=conditions))

    def remove(self, reader: str, name: str) -> bool:
        """Remove a filter; return False when there is none of this name."""
        with database.writing(self._engine) as connection:
            done = connection.execute(
                delete(saved_filter).where(saved_filter.c.reader == reader, saved_filter.c.name == name)
            )
        return done.rowcount > 0

    def of(self, reader: str) -> dict[str, str]:
        """Return the conditions of a reader's filters by name, sorted by name."""
        query = (
            select(saved_filter.c.name, saved_filter.c.conditions)
            .where(saved_filter.c.reader == reader)
            .order_by(saved_filter.c.name)
        )
        with database.reading(self._engine) as connection:
            found: dict[str, str] = database.as_mapping(connection, query)
        return found
