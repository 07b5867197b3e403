"""Rejection of an association: the reasons of an A-ASSOCIATE-RJ, sent or received (PS3.8 9.3.4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

RESULTS: Final = {1: "permanent", 2: "transient"}
_REASONS: Final = {
    1: {
        1: "no reason given",
        2: "application context name not supported",
        3: "calling AE title not recognised",
        7: "called AE title not recognised",
    },
    2: {1: "no reason given", 2: "protocol version not supported"},
    3: {1: "temporary congestion", 2: "local limit exceeded"},
}
"""Reasons by source (PS3.8 table 9-21)."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """Result, source and reason of an A-ASSOCIATE-RJ; those of a peer may be any numbers."""

    result: int
    source: int
    reason: int

    def __str__(self) -> str:
        """Return the sentence for logs and errors."""
        result = RESULTS.get(self.result, "")
        reason = _REASONS.get(self.source, {}).get(self.reason, "a reason that the standard does not define")
        numbers = f"{self.result}/{self.source}/{self.reason}"
        return f"association rejected{result and f' ({result})'}: {reason} ({numbers})"


APPLICATION_CONTEXT: Final = Rejection(1, 1, 2)
CALLING_AE: Final = Rejection(1, 1, 3)
CALLED_AE: Final = Rejection(1, 1, 7)
PROTOCOL_VERSION: Final = Rejection(1, 2, 2)
LIMIT: Final = Rejection(2, 3, 2)
