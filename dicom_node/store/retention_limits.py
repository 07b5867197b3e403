"""Limits of the rules of retention: ages and free space."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class RetentionLimits:
    """Limits of the rules.

    Attributes
    ----------
    days
        Ages in days, by the names of the settings that are set.
    free_below, free_until
        Free space in bytes: below the first the oldest files go, until there is the second; None for never.
    least_days
        Age in days below which nothing goes for the sake of free space.
    """

    days: Mapping[str, float] = field(default_factory=dict)
    free_below: int | None = None
    free_until: int | None = None
    least_days: float = 1.0

    @property
    def any(self) -> bool:
        """True when a rule is set."""
        return bool(self.days) or self.free_below is not None
