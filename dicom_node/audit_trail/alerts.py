"""Alerts, limited: a stranger who is refused a thousand times a minute must not fill the disk with it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from dicom_node.audit_trail import events
from dicom_node.audit_trail.events import Actor
from dicom_node.audit_trail.message import AuditMessage
from dicom_node.audit_trail.trail import AuditTrail

SAME_SECONDS: Final = 60.0
"""Interval in which equal refusals of one peer are one entry."""
PER_MINUTE: Final = 60
"""Most entries about refusals in a minute and process; the next minute begins with the number left out."""


class Alerts:
    """Alerts about refused peers and readers, which several threads may raise.

    Parameters
    ----------
    trail
        Audit trail.
    clock
        Function that returns a time in seconds that never goes back; tests pass another one.
    """

    def __init__(self, trail: AuditTrail, clock: Callable[[], float] = time.monotonic) -> None:
        self._trail = trail
        self._clock = clock
        self._lock = threading.Lock()
        self._minute = -1
        self._entries = 0
        self._left_out = 0
        self._last: dict[tuple[str, str, str], float] = {}

    def association_refused(self, peer: Actor, reason: str, *, detail: str = "") -> None:
        """Record that a peer's association was refused.

        Parameters
        ----------
        reason
            Kind of refusal: refusals of one address for one reason count as equal.
        detail
            What was asked for and what would be right.
        """
        self._record((peer.address, "", reason), events.association_refused, peer, f"{reason}: {detail}")

    def access_refused(self, reader: Actor, what: str) -> None:
        """Record that a reader was refused something."""
        self._record((reader.address, reader.name, what), events.access_refused, reader, what)

    def _record(
        self,
        key: tuple[str, str, str],
        event: Callable[[Actor, str], AuditMessage],
        actor: Actor,
        text: str,
    ) -> None:
        now = self._clock()
        with self._lock:
            if now - self._last.get(key, -SAME_SECONDS) < SAME_SECONDS:
                return
            if self._minute != (minute := int(now // 60)):
                self._minute, self._entries = minute, 0
                self._last = {each: at for each, at in self._last.items() if now - at < SAME_SECONDS}
            if self._entries >= PER_MINUTE:
                self._left_out += 1
                return
            self._entries += 1
            self._last[key] = now
            left_out, self._left_out = self._left_out, 0
        more = f" ({left_out} other refusals before this one were left out)" if left_out else ""
        self._trail.record_about(lambda: event(actor, text + more))
