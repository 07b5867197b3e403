"""Trace that the purge of a file leaves in its row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

from sqlalchemy import RowMapping

from dicom_node.store.states import FileState


@dataclass(frozen=True, slots=True)
class PurgeTrace:
    """Trace of a file that was purged.

    Attributes
    ----------
    at
        Time of the purge, in seconds since the epoch.
    setting
        Setting of the rule that purged it, such as ``films_days``.
    """

    at: float
    setting: str

    @classmethod
    def of(cls, row: Mapping[str, Any] | RowMapping) -> Self | None:
        """Return the trace in a row of ``instance``, ``result`` or ``reading``; None for a kept file."""
        if row["file_state"] == FileState.KEPT:
            return None
        return cls(row["purged_at"] or 0.0, row["purged_by"])

    def __str__(self) -> str:
        day = datetime.fromtimestamp(self.at, UTC).strftime("%Y-%m-%d")
        return f"purged on {day} by retention.{self.setting}"


def sentence(noun: str, traces: Sequence[PurgeTrace]) -> str:
    """Return a clause that says how many files were purged, and of the last one when and by what.

    Parameters
    ----------
    noun
        Word for one of them, such as ``film``.
    traces
        At least one.
    """
    last = max(traces, key=lambda trace: trace.at)
    number = f"{len(traces)} {noun}s were" if len(traces) > 1 else f"a {noun} was"
    return f"{number} {last}"
