"""Audit trail of a node: records messages durably, and never disturbs whoever records them."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from sqlalchemy import Engine

from dicom_node.audit_trail import events
from dicom_node.audit_trail.chain import AuditChain
from dicom_node.audit_trail.message import AuditMessage
from dicom_node.audit_trail.subjects import Subjects
from dicom_node.config.data_dir import DataDir
from dicom_node.config.settings import Settings
from dicom_node.errors import NodeError
from dicom_node.runtime import logs
from dicom_node.runtime.printable import one_line
from dicom_node.store.audit_trail_head import AuditTrailHead

_LOG = logging.getLogger(__name__)

WAITING: Final = 10_000
"""Most messages that a process keeps in memory while the trail cannot be written."""
SOON_SECONDS: Final = 1.0
"""Most seconds in which frequent events are gathered."""
_RETRY_SECONDS: Final = 1.0
"""Least seconds between two tries to write while the trail cannot be written."""


class AuditTrail:
    """Audit trail of one node; its threads and processes may record at the same time.

    Parameters
    ----------
    chain
        Chain of the entries.
    subjects
        Reader of the subjects.
    source_id
        AuditSourceID of the messages: the AE title of the node.
    clock
        Function that returns a time in seconds that never goes back; tests pass another one.

    Attributes
    ----------
    trouble
        Sentence that says why entries wait to be written; empty when none do.
    lost
        Number of entries that this process had to drop because too many waited; the next entry says so.
    """

    def __init__(
        self,
        chain: AuditChain,
        subjects: Subjects,
        source_id: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.chain = chain
        self.subjects = subjects
        self.trouble = ""
        self.lost = 0
        self._source_id = source_id
        self._clock = clock
        self._waiting: deque[str] = deque()
        self._writing = threading.Lock()
        self._gathering = threading.Lock()
        self._soon: list[Callable[[], AuditMessage]] = []
        self._retry_at = 0.0
        self._timer: threading.Timer | None = None
        self._outage = logs.Outage(
            _LOG, "the audit trail", "entries wait in memory; free space, or mend the disk"
        )

    @classmethod
    def open(cls, settings: Settings, engine: Engine) -> AuditTrail:
        """Return the trail of a node, whose database schema is current."""
        data_dir = DataDir(settings)
        own = settings.audit_trail
        return cls(
            AuditChain(data_dir.audit_trail, AuditTrailHead(engine), own.file_bytes),
            Subjects(engine, data_dir.spool, data_dir.secret_key, own.patient),
            settings.dicom.ae_title,
        )

    def record(self, message: AuditMessage) -> None:
        """Record a message; it is durable when this returns, unless :attr:`trouble` says why not.

        Nothing is raised: a film is received and a page shown although the trail cannot be written.
        """
        self._waiting.append(message.to_xml(self._source_id))
        self._flush()

    def record_about(self, make: Callable[[], AuditMessage]) -> None:
        """Record the message that a function makes; an error in it is logged and goes no further."""
        self._add(make)
        self._flush()

    def record_soon(self, make: Callable[[], AuditMessage]) -> None:
        """Record the message that a function makes within :data:`SOON_SECONDS`, together with others.

        For events that come as often as films: they share one sync, and their sender does not wait for it.
        """
        with self._gathering:
            self._soon.append(make)
            if len(self._soon) > 1:
                return
            timer = threading.Timer(SOON_SECONDS, self._record_gathered)
            timer.daemon = True
            timer.name = "audit-trail"
            timer.start()

    def _record_gathered(self) -> None:
        with self._gathering:
            gathered, self._soon = self._soon, []
        for make in gathered:
            self._add(make)
        self._flush()

    def _add(self, make: Callable[[], AuditMessage]) -> None:
        try:
            self._waiting.append(make().to_xml(self._source_id))
        except Exception as error:  # noqa: BLE001 - what cannot be said must not undo what was done
            _LOG.error("an entry of the audit trail could not be made: %s", one_line(error))

    def close(self) -> None:
        """Write what was gathered, and try once more to write what waits."""
        self._record_gathered()
        self._flush(at_once=True)
        if (timer := self._timer) is not None:
            timer.cancel()
        if self._waiting:
            _LOG.error("%d entries of the audit trail were not written: %s", len(self._waiting), self.trouble)

    def _flush(self, *, at_once: bool = False) -> None:
        # Whoever gets the lock writes for all who wait for it: one sync for many.
        with self._writing:
            early = self.trouble and self._clock() < self._retry_at
            if not self._waiting or (early and not at_once):
                return
            while len(self._waiting) > WAITING:
                self._waiting.popleft()
                self.lost += 1
            batch = [self._waiting[number] for number in range(len(self._waiting))]
            gap = [events.recording_stopped(self.lost).to_xml(self._source_id)] if self.lost else []
            try:
                self.chain.append([*gap, *batch])
            except Exception as error:  # noqa: BLE001 - as record() promises
                self.trouble = one_line(error) if not isinstance(error, NodeError) else str(error)
                self._retry_at = self._clock() + _RETRY_SECONDS
                self._outage.begin(self.trouble)
                self._retry_later()
                return
            for _ in batch:
                self._waiting.popleft()
            self.trouble, self.lost = "", 0
            self._outage.end()

    def _retry_later(self) -> None:
        """Try again although nobody records anything more."""
        if self._timer is None or not self._timer.is_alive() or self._timer is threading.current_thread():
            self._timer = threading.Timer(_RETRY_SECONDS, self._flush)
            self._timer.daemon = True
            self._timer.name = "audit-trail"
            self._timer.start()
