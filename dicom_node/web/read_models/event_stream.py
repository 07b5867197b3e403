"""What changes while a reader looks: seen in the index, entered into the catalogue, told to browsers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import threading
import time
from collections import deque
from collections.abc import AsyncIterator
from typing import Final

from sqlalchemy import Engine, func, select

from dicom_node.errors import NodeError
from dicom_node.store import database
from dicom_node.store.tables import delivery, result, study
from dicom_node.web.read_models.study_headers import Catalogue

_LOG = logging.getLogger(__name__)
POLL_SECONDS: Final = 0.5
HEARTBEAT_SECONDS: Final = 15.0
MAX_LISTENERS: Final = 64
_OVERLAP_SECONDS: Final = 10.0
"""A transaction's time is older than its commit, and hosts' clocks differ."""
_MISSED_SECONDS: Final = 10.0
"""What changed between the making of a page and its listening is told when it begins to listen."""
_MOST = 200


class Changes:
    """Watches the index in a thread and tells everybody who listens.

    Parameters
    ----------
    engine
        Of the index.
    catalogue
        Gets the headers of what is new.

    Attributes
    ----------
    catalogue
        The same.
    """

    def __init__(self, engine: Engine, catalogue: Catalogue) -> None:
        self._engine = engine
        self.catalogue = catalogue
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="changes", daemon=True)
        self._listeners: set[asyncio.Queue[str | None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._recent: deque[tuple[float, str]] = deque(maxlen=_MOST)
        self._seen: dict[tuple[str, int], float] = {}
        self._since = 0.0

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to watch; listeners are told in `loop`."""
        self._loop = loop
        self._thread.start()

    def stop(self) -> None:
        """Watch no more and end every stream; from any thread."""
        self._stop.set()
        self._put(None)

    async def listen(self) -> AsyncIterator[str]:
        """Yield server-sent events until :meth:`stop`.

        ``studies`` carries ``{"ids": [...]}``, the numbers of the studies that changed; none when there are
        too many to tell.
        """
        queue: asyncio.Queue[str | None] = asyncio.Queue()
        self._listeners.add(queue)
        try:
            recent = [event for at, event in self._recent if time.monotonic() - at < _MISSED_SECONDS]
            yield "retry: 2000\n\n" + "".join(recent)
            while not self._stop.is_set():
                try:
                    event = await asyncio.wait_for(queue.get(), HEARTBEAT_SECONDS)
                except TimeoutError:
                    event = ": still here\n\n"
                if event is None:
                    return
                yield event
        finally:
            self._listeners.discard(queue)

    @property
    def listeners(self) -> int:
        """How many browsers listen."""
        return len(self._listeners)

    def _watch(self) -> None:
        below: int | None = None
        behind = True
        self._begin()
        while not self._stop.wait(0 if behind else POLL_SECONDS):
            try:
                if changed := self._changed():
                    self.catalogue.enter(changed)
                    self._tell(changed)
                if behind:  # what came while no page ran
                    stale = self.catalogue.stale(below)
                    self.catalogue.enter(stale)
                    behind = bool(stale)
                    below = stale[-1] if stale else below
                    if behind:
                        self._tell(stale)
            except NodeError as error:
                _LOG.warning("changes: %s", error)
                self._stop.wait(POLL_SECONDS)

    def _begin(self) -> None:
        with contextlib.suppress(NodeError), database.reading(self._engine) as connection:
            newest = connection.execute(select(func.max(study.c.updated_at))).scalar_one_or_none()
            self._since = newest or 0.0

    def _changed(self) -> list[int]:
        """Return the studies that changed since the last look, each once."""
        since = self._since - _OVERLAP_SECONDS
        with database.reading(self._engine) as connection:
            rows = [
                ("study", row.id, row.id, row.updated_at)
                for row in connection.execute(
                    select(study.c.id, study.c.updated_at)
                    .where(study.c.updated_at > since)
                    .order_by(study.c.updated_at)
                    .limit(_MOST * 10)
                )
            ]
            rows += [
                ("delivery", row.id, row.study_id, row.updated_at)
                for row in connection.execute(
                    select(delivery.c.id, result.c.study_id, delivery.c.updated_at)
                    .join(result, delivery.c.result_id == result.c.id)
                    .where(delivery.c.updated_at > since)
                    .order_by(delivery.c.updated_at)
                    .limit(_MOST * 10)
                )
            ]
        fresh: dict[int, None] = {}
        for table, key, study_id, at in rows:
            if self._seen.get((table, key)) != at:
                self._seen[table, key] = at
                fresh[study_id] = None
            self._since = max(self._since, at)
        horizon = self._since - 2 * _OVERLAP_SECONDS
        self._seen = {key: at for key, at in self._seen.items() if at > horizon}
        return list(fresh)

    def _tell(self, studies: list[int]) -> None:
        ids = studies if len(studies) <= _MOST else []
        event = f"event: studies\ndata: {json.dumps({'ids': ids})}\n\n"

        self._put(event)

    def _put(self, event: str | None) -> None:
        def put() -> None:
            if event is not None:
                self._recent.append((time.monotonic(), event))
            for queue in self._listeners:
                if event is None or queue.qsize() < _MOST:  # who does not read is told again when they do
                    queue.put_nowait(event)

        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(put)
