"""Group commit: what several threads want durable while a commit runs becomes durable together by the next.

A commit costs about the same for one item as for many, because most of it is the wait for the disk. The first
thread that finds no commit running leads: it commits everybody who waits, itself included, and then hands the
lead to the first of those who came meanwhile. Nobody waits for company, so a lone item costs what it did.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

from dicom_node.errors import StorageFailed

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")

_LARGEST: Final = 64
"""Most items of a group: they hold the lock of the database together."""


class _Entry(Generic[Item, Outcome]):
    """Item that waits, with the outcome of its commit once there is one."""

    __slots__ = ("done", "item", "outcome", "woken")

    def __init__(self, item: Item) -> None:
        self.item = item
        # Never an outcome by omission: what is cut off in its commit was not committed.
        self.outcome: Outcome | Exception = StorageFailed("the commit was cut off; send again later")
        self.done = False
        self.woken = threading.Event()  # when it is done, or is to lead


class GroupCommit(Generic[Item, Outcome]):
    """Commits of many threads, one at a time and each for all who wait.

    Parameters
    ----------
    commit
        Function that commits items, in the order in which they came. It returns the outcome of each, in the
        same order: an exception for one that was not committed. What it raises is the outcome of all.
    largest
        Most items of one group.
    """

    def __init__(
        self,
        commit: Callable[[Sequence[Item]], Sequence[Outcome | Exception]],
        largest: int = _LARGEST,
    ) -> None:
        self._commit = commit
        self._largest = largest
        self._lock = threading.Lock()
        self._waiting: list[_Entry[Item, Outcome]] = []
        self._running = False

    def commit(self, item: Item) -> Outcome:
        """Return the outcome of an item once a commit that began after this call has ended.

        Raises
        ------
        Exception
            When the item was not committed.
        """
        entry: _Entry[Item, Outcome] = _Entry(item)
        with self._lock:
            self._waiting.append(entry)
            leads, self._running = not self._running, True
        if not leads:
            entry.woken.wait()
        if not entry.done:
            self._lead()
        if isinstance(entry.outcome, Exception):
            raise entry.outcome
        return entry.outcome

    def _lead(self) -> None:
        """Commit the group of those who wait, which begins with this thread's own item."""
        with self._lock:
            group = self._waiting[: self._largest]
            del self._waiting[: self._largest]
        try:
            outcomes = self._commit([entry.item for entry in group])
            for entry, outcome in zip(group, outcomes, strict=True):
                entry.outcome = outcome
        except Exception as error:  # noqa: BLE001 - whatever it is, each of the group must learn of it
            for entry in group:
                entry.outcome = error
        finally:
            # The lead goes on first: the next commit need not wait until this group is awake.
            with self._lock:
                self._running = bool(self._waiting)
                if self._running:
                    self._waiting[0].woken.set()
            for entry in group:
                entry.done = True
                entry.woken.set()
