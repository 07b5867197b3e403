"""Year of a node by the clock of the test: films come, are reported, confirmed or not, and purged."""

from __future__ import annotations

import random
from collections.abc import Callable

from dicom_node.store.disk_usage import DiskUsage
from dicom_node.store.purge import Purge
from dicom_node.store.retention_limits import RetentionLimits
from dicom_node.store.states import FileState, StudyState
from tests.support.holdings import DAY, Holdings

DAYS = 365
FILM, RESULT = 400, 900
"""Bytes of a film and of a result: results outgrow films."""


class SimulatedYear:
    """Node that receives `films` films in a year, on a disk with room for a tenth of what they make.

    Parameters
    ----------
    held
        Its data directory.
    films
        Number of films.
    step
        Days from one look at the rules to the next.
    say
        Function that is told a line each month.
    """

    def __init__(
        self, held: Holdings, films: int, *, step: int = 1, say: Callable[[str], None] = lambda _line: None
    ) -> None:
        self._step = step
        self.held, self._say, self._films = held, say, films
        self._random = random.Random(films)
        self.capacity = films * (FILM + RESULT) // 10
        self.waiting: dict[str, int] = {}
        """Studies that the destination has not confirmed yet, with the day on which it will."""
        self.most_bytes = 0
        limits = RetentionLimits(
            {
                "films_days": 90,
                "results_days": 180,
                "unconfirmed_days": 30,
                "trials_days": 7,
                "set_aside_days": 30,
            },
            free_below=self.capacity // 10,
            free_until=self.capacity // 5,
        )
        self.purge = Purge(
            held.index.engine,
            held.spool,
            held.results,
            held.maps.root,
            held.folder / "thumbnails",
            limits,
            clock=held.clock,
            free=self.free,
        )

    def free(self) -> int:
        """Free space of the simulated disk, in bytes."""
        return self.capacity - self.held.kept_bytes()

    def run(self) -> None:
        """Let the year pass; asserts each day that nothing unconfirmed is gone and the disk never full."""
        begun, count = self.held.clock.now, 0
        usage = DiskUsage(self.held.index.engine, self.held.clock)
        for day in range(0, DAYS, self._step):
            self.held.clock.now = begun + day * DAY
            while count < self._films * min(day + self._step, DAYS) // DAYS:
                count += 1
                self._study(f"1.{count}", day)
            self._deliver(day)
            self.held.clock.now += DAY / 2
            self.purge.run()
            usage.record(self.held.maps.root)
            self.most_bytes = max(self.most_bytes, self.capacity - self.free())
            assert self.free() >= self.capacity // 10, f"day {day}: {self.free()} bytes free"
            if day // 30 != (day - self._step) // 30:
                self._check(day)
        self._check(DAYS - 1)

    def _study(self, uid: str, day: int) -> None:
        draw = self._random.random()
        if draw < 0.01:
            self.held.trial(uid)
            self.held.end(uid, destinations=())
            return
        self.held.film(uid, size=FILM)
        if draw < 0.03:
            return  # its analysis is still to come at the end of the year
        if draw < 0.05:
            self.held.end(uid, StudyState.SKIPPED, size=RESULT, destinations=())
        else:
            self.held.end(uid, size=RESULT)
            # Some are confirmed after weeks, a few never.
            self.waiting[uid] = day + (10**6 if draw < 0.06 else 40 if draw < 0.1 else 1)

    def _deliver(self, day: int) -> None:
        due = {uid for uid, when in self.waiting.items() if when <= day}
        self.held.confirm_studies(due)
        for uid in due:
            del self.waiting[uid]

    def _check(self, day: int) -> None:
        audit = self.held.audit()
        assert audit.conserved, audit.violations[:3]
        assert audit.received == sum(audit.fates.values())
        states = self.held.states()
        lost = [uid for uid in self.waiting if states[f"{uid}.1"] is not FileState.KEPT]
        assert not lost, f"day {day}: purged without a confirmation: {lost[:3]}"
        self._say(
            f"day {day + 1}: {audit.received} received, {audit.fates['purged']} purged, {self.free()} free"
        )
