"""Disk usage: bytes of what the node keeps, one row a day, and the day when the disk will be full."""

from __future__ import annotations

import contextlib
import enum
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from sqlalchemy import delete, func, select, text

from dicom_node.store import database
from dicom_node.store.retention_rules import DAY
from dicom_node.store.states import FileState
from dicom_node.store.tables import disk_usage, instance, result

FEWEST_DAYS: Final = 7
"""Days that must have been measured before anything is foretold."""
_FITTED_DAYS: Final = 28
"""Days, the last ones, through which the line is laid."""
_FARTHEST_DAYS: Final = 3650
"""Days beyond which a day is not foretold: by then everything is different."""


class Outlook(enum.StrEnum):
    """Outlook for the disk."""

    UNKNOWN = "unknown"  # too few days were measured
    STEADY = "steady"  # not within ten years by the growth of the last four weeks
    FILLING = "filling"
    FULL = "full"  # films are refused now


@dataclass(frozen=True, slots=True)
class Forecast:
    """Forecast of the day when films will be refused because the disk is full.

    Attributes
    ----------
    full_at
        That time, in seconds since the epoch; None unless the outlook is FILLING or FULL.
    bytes_per_day
        Growth of what the node keeps; None while the outlook is UNKNOWN.
    days
        Number of days that were measured, at most 28.
    days_left
        Days until `full_at`; None without one.
    """

    outlook: Outlook
    full_at: float | None
    bytes_per_day: float | None
    days: int
    days_left: float | None

    def __str__(self) -> str:
        match self.outlook:
            case Outlook.UNKNOWN:
                return f"not known yet: its use was measured on {self.days} of {FEWEST_DAYS} days"
            case Outlook.STEADY:
                return "not within ten years, by the growth of the last four weeks"
            case Outlook.FULL:
                return "the disk is full: films are refused"
        assert self.full_at is not None
        assert self.bytes_per_day is not None
        day = datetime.fromtimestamp(self.full_at, UTC).strftime("%Y-%m-%d")
        return f"{day}, by a growth of {self.bytes_per_day / 2**20:.0f} MiB a day"


class DiskUsage(database.Repository):
    """Bytes of films, results, heat maps and the index, by day."""

    def record(self, maps: Path) -> None:
        """Write the row of today.

        Parameters
        ----------
        maps
            Folder of the heat maps, whose sizes stand in no table.

        Raises
        ------
        StorageFull, StorageFailed
            When the database cannot be read or written.
        """
        now = self._clock()
        day = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d")
        with database.reading(self._engine) as connection:
            films, results = (
                connection.execute(
                    select(func.coalesce(func.sum(table.c.size), 0)).where(
                        table.c.file_state == FileState.KEPT
                    )
                ).scalar_one()
                for table in (instance, result)
            )
            if self._engine.dialect.name == "postgresql":
                index = connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one()
            else:
                path = Path(str(self._engine.url.database))
                index = _sizes(path.parent.glob(f"{path.name}*"))
        values = {
            "at": now,
            "films": int(films),
            "results": int(results),
            "maps": _sizes(maps.rglob("*")),
            "index_bytes": int(index),
        }
        with database.writing(self._engine) as connection:
            connection.execute(delete(disk_usage).where(disk_usage.c.day == day))
            connection.execute(disk_usage.insert().values(day=day, **values))

    def recorded_today(self) -> bool:
        """Return whether the row of today is there."""
        day = datetime.fromtimestamp(self._clock(), UTC).strftime("%Y-%m-%d")
        with database.reading(self._engine) as connection:
            return (
                connection.execute(select(disk_usage.c.day).where(disk_usage.c.day == day)).first()
                is not None
            )

    def forecast(self, free: int) -> Forecast:
        """Return when the disk will be full, by a straight line through the last four weeks.

        Parameters
        ----------
        free
            Free space above the reserve, in bytes; films are refused when there is none.
        """
        now = self._clock()
        table = disk_usage.c
        total = (table.films + table.results + table.maps + table.index_bytes).label("total")
        query = select(table.at, total).where(table.at > now - _FITTED_DAYS * DAY).order_by(table.at)
        with database.reading(self._engine) as connection:
            rows = connection.execute(query).all()
        growth = None
        if len(rows) >= FEWEST_DAYS:
            days = [(row.at - rows[0].at) / DAY for row in rows]
            growth = statistics.linear_regression(days, [float(row.total) for row in rows]).slope
        if free <= 0:
            return Forecast(Outlook.FULL, now, growth, len(rows), 0.0)
        if growth is None:
            return Forecast(Outlook.UNKNOWN, None, None, len(rows), None)
        if growth <= free / _FARTHEST_DAYS:
            return Forecast(Outlook.STEADY, None, growth, len(rows), None)
        left = free / growth
        return Forecast(Outlook.FILLING, now + left * DAY, growth, len(rows), left)


def _sizes(paths: Iterable[Path]) -> int:
    """Return the bytes of files; what goes meanwhile, or cannot be asked, does not count."""
    size = 0
    for path in paths:
        with contextlib.suppress(OSError):
            size += path.stat().st_size
    return size
