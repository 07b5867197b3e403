"""Periodic task: a slow computation that a thread repeats, so that no page view waits for it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from dicom_node.errors import NodeError

_LOG = logging.getLogger(__name__)
_PAUSE_FACTOR = 20

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class TaskResult(Generic[Value]):
    """Result of one run, and the time when it ended, in seconds since the epoch."""

    value: Value
    finished_at: float


class PeriodicTask(Generic[Value]):
    """Function that a thread of its own calls at the start and then at intervals.

    Parameters
    ----------
    name
        Name of the thread, and label in the log.
    run
        Function to call; its result becomes `latest`.
    seconds
        Pause between two runs. After a long run the pause is longer: at least 20 times the length of the run.

    Attributes
    ----------
    latest
        Last result; None before the first run has ended.
    """

    def __init__(self, name: str, run: Callable[[], Value], *, seconds: float = 60.0) -> None:
        self._name = name
        self._run = run
        self._seconds = seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._repeat, name=name, daemon=True)
        self.latest: TaskResult[Value] | None = None

    def start(self) -> None:
        """Start the thread; the first run begins at once."""
        self._thread.start()

    def stop(self) -> None:
        """Start no further run; one that is running ends with the process."""
        self._stop.set()

    def _repeat(self) -> None:
        pause = 0.0
        while not self._stop.wait(pause):
            began = time.monotonic()
            try:
                self.latest = TaskResult(self._run(), time.time())
            except NodeError as error:
                _LOG.warning("%s: %s", self._name, error)
            pause = max(self._seconds, _PAUSE_FACTOR * (time.monotonic() - began))
