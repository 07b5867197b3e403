"""Event stream: watches the index for changed studies, updates the study headers, notifies browsers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Final

from sqlalchemy import Connection, Engine, Select, func, select, tuple_

from dicom_node.errors import NodeError
from dicom_node.store import database
from dicom_node.store.tables import delivery, feedback, reading, result, study, study_note, study_tag
from dicom_node.web.read_models.study_headers import StudyHeaders

_LOG = logging.getLogger(__name__)
POLL_SECONDS: Final = 0.5
HEARTBEAT_SECONDS: Final = 15.0
CHECK_SECONDS: Final = 2.0
"""Interval in which a listener's session is looked for; before each event it is looked for too."""
MAX_LISTENERS: Final = 64
MAX_LISTENERS_OF_ONE: Final = 16
"""Most listeners of one account."""
_OVERLAP_SECONDS: Final = 10.0
"""Overlap of two polls: the time in a row is older than its commit, and clocks of hosts differ."""
CATCH_UP_SECONDS: Final = 120.0
"""Interval of the looks for studies whose headers could not be read, or whose change was not noticed."""
_MISSED_SECONDS: Final = 10.0
"""Age of the events that a new listener gets: they may have come after its page was made."""
_MAX_EVENTS = 200
_PAGE = 2000
_CHANGES: Final[dict[str, Select[int, int, float]]] = {
    "study": select(study.c.id, study.c.id.label("study_id"), study.c.updated_at),
    "delivery": select(delivery.c.id, result.c.study_id, delivery.c.updated_at).join(
        result, delivery.c.result_id == result.c.id
    ),
    "feedback": select(feedback.c.id, reading.c.study_id, feedback.c.at).join(
        reading, feedback.c.reading_id == reading.c.id
    ),
    "tag": select(study_tag.c.id, study_tag.c.study_id, study_tag.c.at),
    "note": select(study_note.c.id, study_note.c.study_id, study_note.c.at),
}
"""Table -> the numbers of its rows and of their studies, and when each row was written."""


class EventStream:
    """Thread that polls the index, and the server-sent events for all listeners.

    Parameters
    ----------
    engine
        Database of the index.
    study_headers
        Table to update with the headers of changed studies.
    """

    def __init__(self, engine: Engine, study_headers: StudyHeaders) -> None:
        self._engine = engine
        self.study_headers = study_headers
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="event-stream", daemon=True)
        self._listeners: dict[asyncio.Queue[str | None], str] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._recent: deque[tuple[float, str]] = deque(maxlen=_MAX_EVENTS)
        self._seen: dict[tuple[str, int], float] = {}
        self._since = 0.0

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start the thread; listeners run in `loop`."""
        self._loop = loop
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread and end every stream; callable from any thread."""
        self._stop.set()
        self._put(None)

    async def listen(self, name: str, valid: Callable[[], bool]) -> AsyncIterator[str]:
        """Yield server-sent events until :meth:`stop`, or until a session ends.

        The event ``studies`` has the data ``{"ids": [...]}``, the numbers of the changed studies; the list is
        empty when too many have changed.

        Parameters
        ----------
        name
            Name of the listener's account.
        valid
            Function that says whether the session still is; it is called in a thread.
        """
        queue: asyncio.Queue[str | None] = asyncio.Queue()
        self._listeners[queue] = name
        spoken = time.monotonic()
        try:
            recent = [event for at, event in self._recent if time.monotonic() - at < _MISSED_SECONDS]
            yield "retry: 2000\n\n" + "".join(recent)
            while not self._stop.is_set():
                try:
                    event = await asyncio.wait_for(queue.get(), CHECK_SECONDS)
                except TimeoutError:
                    event = ""
                if event is None or not await asyncio.to_thread(valid):
                    return
                if not event and time.monotonic() - spoken >= HEARTBEAT_SECONDS:
                    event = ": still here\n\n"
                if event:
                    spoken = time.monotonic()
                    yield event
        finally:
            self._listeners.pop(queue, None)

    def has_room(self, name: str) -> bool:
        """Return whether one more browser may listen, of the account `name`."""
        own = sum(each == name for each in self._listeners.values())
        return len(self._listeners) < MAX_LISTENERS and own < MAX_LISTENERS_OF_ONE

    def _watch(self) -> None:
        below: int | None = None
        catching_up, due = True, 0.0
        self._read_start_time()
        while not self._stop.wait(0 if catching_up else POLL_SECONDS):
            if not catching_up and time.monotonic() >= due:
                catching_up, below = True, None
            try:
                if changed := self._changed():
                    self.study_headers.update(changed)
                    self._tell(changed)
                if catching_up:  # studies that came while the web process was not running
                    stale = self.study_headers.outdated(below)
                    self.study_headers.update(stale)
                    catching_up, due = bool(stale), time.monotonic() + CATCH_UP_SECONDS
                    below = stale[-1] if stale else below
                    if catching_up:
                        self._tell(stale)
            except NodeError as error:
                _LOG.warning("event stream: %s", error)
                self._stop.wait(POLL_SECONDS)

    def _read_start_time(self) -> None:
        with contextlib.suppress(NodeError), database.reading(self._engine) as connection:
            newest = connection.execute(select(func.max(study.c.updated_at))).scalar_one_or_none()
            self._since = newest or 0.0

    def _changed(self) -> list[int]:
        """Return the studies that have changed since the last poll, each once."""
        # A row from the future, or a clock that was set back, must not hide what is written from now on.
        now = time.time()
        self._since = min(self._since, now)
        since = self._since - _OVERLAP_SECONDS
        with database.reading(self._engine) as connection:
            rows = [
                (name, *row) for name, query in _CHANGES.items() for row in _pages(connection, query, since)
            ]
        fresh: dict[int, None] = {}
        for table, key, study_id, at in rows:
            if self._seen.get((table, key)) != at:
                self._seen[table, key] = at
                fresh[study_id] = None
            self._since = max(self._since, min(at, now))
        horizon = self._since - 2 * _OVERLAP_SECONDS
        self._seen = {key: at for key, at in self._seen.items() if at > horizon}
        return list(fresh)

    def _tell(self, studies: list[int]) -> None:
        ids = studies if len(studies) <= _MAX_EVENTS else []
        event = f"event: studies\ndata: {json.dumps({'ids': ids})}\n\n"
        self._put(event)

    def _put(self, event: str | None) -> None:
        def put() -> None:
            if event is not None:
                self._recent.append((time.monotonic(), event))
            for queue in self._listeners:
                if event is None or queue.qsize() < _MAX_EVENTS:  # a slow listener gets later events only
                    queue.put_nowait(event)

        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(put)


def _pages(
    connection: Connection, query: Select[int, int, float], since: float
) -> list[tuple[int, int, float]]:
    """Return the rows of a query of :data:`_CHANGES` that were written after a time, a page at a time."""
    row_id, _, at = query.selected_columns
    found: list[tuple[int, int, float]] = []
    after = (since, -1)
    while True:
        page = connection.execute(
            query.where(tuple_(at, row_id) > after).order_by(at, row_id).limit(_PAGE)
        ).all()
        found += [(row[0], row[1], row[2]) for row in page]
        if len(page) < _PAGE:
            return found
        after = (page[-1][2], page[-1][0])
