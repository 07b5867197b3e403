"""Wake-ups of an association's threads, which pynetdicom lets look for work a thousand times a second."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any, Final

_LONGEST_SECONDS: Final = 0.25
"""Longest time in which an association's own thread notices that nothing came for too long."""


class Checkpoint(threading.Event):
    """Event that an association's own thread waits for before it looks whether there is something to do.

    Attributes
    ----------
    waiting
        Whether the thread is here.
    """

    def __init__(self) -> None:
        super().__init__()
        self._news = threading.Event()
        self.waiting = False

    def tell(self) -> None:
        """Say that something came."""
        self._news.set()

    def set(self) -> None:
        """Let the thread pass, and look at once: the association may be about to end."""
        super().set()
        self.tell()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for something to do, or for a while, and then until the thread may pass."""
        self.waiting = True
        try:
            self._news.wait(_LONGEST_SECONDS)
            self._news.clear()
            return super().wait(timeout)
        finally:
            self.waiting = False


class TellingQueue(queue.Queue[Any]):
    """Queue that calls a function after every item."""

    def __init__(self, tell: Callable[[], None]) -> None:
        super().__init__()
        self._tell = tell

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:  # noqa: FBT001, FBT002
        """Add an item, and tell."""
        super().put(item, block, timeout)
        self._tell()
