"""Reserve: free space that films must leave, for the node itself and for the results of accepted films.

Results outgrow films: five heat maps of one film are some 36 MB. A film that is acknowledged will be
analysed, so the room for its results is promised with it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from sqlalchemy import Engine, func, select

from dicom_node.store import database
from dicom_node.store.files import Spool
from dicom_node.store.states import OPEN, StudyState
from dicom_node.store.tables import instance, result, study

DEFAULT_BYTES: Final = 40 * 2**20
"""Bytes of results of one film, until this node has measured its own: those of five heat maps and reports."""
_SAMPLE: Final = 100
"""Studies that were reported last, over which the node measures."""
_FEWEST: Final = 10
"""Films from which the measurement counts."""
_COUNT_SECONDS: Final = 1.0
_MEASURE_SECONDS: Final = 60.0


class Reserve:
    """Reserve of one data directory.

    Parameters
    ----------
    engine
        Engine of the index.
    spool
        Spool of received films, with the settings' own reserve; when that is 0, there is none at all.
    clock
        Monotonic clock, in seconds; tests pass another one.
    """

    def __init__(self, engine: Engine, spool: Spool, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._spool = spool
        self._clock = clock
        self._lock = threading.Lock()
        self._counted_at = self._measured_at = -float("inf")
        self._films = 0
        self._bytes_each = DEFAULT_BYTES

    def check_room(self) -> None:
        """Raise :class:`StorageFull` when there is no room for one more film and its results.

        Raises
        ------
        StorageFull
        StorageFailed
            When the database does not answer.
        """
        if not self._spool.min_free_bytes:
            return
        with self._lock:
            promised = self._promised_bytes()
            self._spool.check_room(promised)
            self._films += 1  # the one that comes; the next count finds it in the index

    def total_bytes(self) -> int:
        """Return the free space below which films are refused, in bytes."""
        if not self._spool.min_free_bytes:
            return 0
        with self._lock:
            return self._spool.min_free_bytes + self._promised_bytes()

    def _promised_bytes(self) -> int:
        now = self._clock()
        if now - self._measured_at >= _MEASURE_SECONDS:
            self._bytes_each, self._measured_at = measured_bytes(self._engine) or DEFAULT_BYTES, now
        if now - self._counted_at >= _COUNT_SECONDS:
            self._films, self._counted_at = _open_films(self._engine), now
        return self._films * self._bytes_each


def measured_bytes(engine: Engine) -> int | None:
    """Return the bytes of results that one film of the studies reported last made; None before ten films."""
    last = (
        select(study.c.id, study.c.revision)
        .where(study.c.state == StudyState.REPORTED)
        .order_by(study.c.updated_at.desc())
        .limit(_SAMPLE)
        .subquery()
    )
    films = (
        select(func.count())
        .select_from(instance.join(last, last.c.id == instance.c.study_id))
        .where(instance.c.set_aside == "")
    )
    written = select(func.coalesce(func.sum(result.c.size), 0)).select_from(
        result.join(last, (last.c.id == result.c.study_id) & (last.c.revision == result.c.revision))
    )
    with database.reading(engine) as connection:
        count = connection.execute(films).scalar_one()
        size = connection.execute(written).scalar_one()
    return int(size) // count + 1 if count >= _FEWEST else None


def _open_films(engine: Engine) -> int:
    """Count the films whose analysis is still to come."""
    query = (
        select(func.count())
        .select_from(instance.join(study, study.c.id == instance.c.study_id))
        .where(study.c.state.in_(sorted(OPEN)), instance.c.set_aside == "")
    )
    with database.reading(engine) as connection:
        return int(connection.execute(query).scalar_one())
