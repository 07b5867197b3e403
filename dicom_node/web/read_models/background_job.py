"""An answer that takes long, asked for again in the background: no page view may wait for it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from dicom_node.errors import NodeError

_LOG = logging.getLogger(__name__)
_LONGEST_SHARE = 20

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Finished(Generic[Answer]):
    """One answer and the time of its end, in seconds since the epoch."""

    answer: Answer
    at: float


class Repeated(Generic[Answer]):
    """Asks at once and then every so often, in a thread of its own.

    Parameters
    ----------
    name
        Of the thread, and in the log.
    run
        Makes one answer.
    seconds
        From the end of one to the start of the next; longer when one takes long, so that at most a
        twentieth of the time is spent on it.
    """

    def __init__(self, name: str, run: Callable[[], Answer], *, seconds: float = 60.0) -> None:
        self._name = name
        self._run = run
        self._seconds = seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._repeat, name=name, daemon=True)
        self.latest: Finished[Answer] | None = None

    def start(self) -> None:
        """Ask for the first time."""
        self._thread.start()

    def stop(self) -> None:
        """Ask no more; a question that runs is left to end with the process."""
        self._stop.set()

    def _repeat(self) -> None:
        pause = 0.0
        while not self._stop.wait(pause):
            began = time.monotonic()
            try:
                self.latest = Finished(self._run(), time.time())
            except NodeError as error:
                _LOG.warning("%s: %s", self._name, error)
            pause = max(self._seconds, _LONGEST_SHARE * (time.monotonic() - began))
