"""Watch over the consumption of the queue: a worker that takes no messages ends, and is started again."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator

from worker.app import BROKER_ERRORS

_LOG = logging.getLogger(__name__)


class ConsumptionWatch:
    """Watch that ends this process when messages wait and none comes.

    After a connection was lost, a consumer may stay connected and take nothing.

    Parameters
    ----------
    waiting
        Function that returns the number of waiting messages.
    seconds
        Time without a message, while some wait, after which the process ends.
    """

    def __init__(self, waiting: Callable[[], int], seconds: float = 60.0) -> None:
        self._waiting = waiting
        self._seconds = seconds
        self._busy = False
        self._idle_since = time.monotonic()

    @contextlib.contextmanager
    def busy(self) -> Iterator[None]:
        """Return a context in which a message is worked on."""
        self._busy = True
        try:
            yield
        finally:
            self._idle_since = time.monotonic()
            self._busy = False

    def start(self) -> None:
        """Watch from now on, in a thread."""
        self._idle_since = time.monotonic()
        threading.Thread(target=self._run, name="consumption", daemon=True).start()

    def _run(self) -> None:
        while True:
            time.sleep(self._seconds / 6)
            if self._is_stuck():
                _LOG.error("no message came for %.0f s though some wait: the worker ends", self._seconds)
                os._exit(os.EX_TEMPFAIL)

    def _is_stuck(self) -> bool:
        try:
            none_waits = self._waiting() == 0
        except BROKER_ERRORS:
            none_waits = True  # as far as a consumer can know
        if none_waits:
            self._idle_since = time.monotonic()
        return not self._busy and time.monotonic() - self._idle_since > self._seconds
