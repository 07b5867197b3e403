"""Retention in the background of the sweep: what the disk holds, once a day, and the purge by the rules."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from sqlalchemy import Engine

from dicom_node.audit_trail import events
from dicom_node.audit_trail.trail import AuditTrail
from dicom_node.config.data_dir import DataDir
from dicom_node.config.settings import Settings
from dicom_node.errors import StorageFailed, StorageFull
from dicom_node.runtime import logs
from dicom_node.store.disk_usage import DiskUsage
from dicom_node.store.files import storage_error
from dicom_node.store.purge import Purged

_LOG = logging.getLogger(__name__)


class RetentionTask:
    """Task that applies the rules of retention again and again, in a thread of its own.

    Parameters
    ----------
    settings
        Settings of the node.
    engine
        Engine of the index.
    clock
        Function that returns the time in seconds since the epoch; tests pass another one.
    """

    def __init__(self, settings: Settings, engine: Engine, clock: Callable[[], float] = time.time) -> None:
        data_dir = DataDir(settings)
        self._seconds = settings.retention.check_seconds
        self._maps = data_dir.maps.root
        self._purge = data_dir.purge(engine, clock)
        self._usage = DiskUsage(engine, clock)
        self._trail = AuditTrail.open(settings, engine)
        self._outage = logs.Outage(
            _LOG,
            "retention",
            "check the disk, its permissions and the database; until then nothing is purged",
        )

    def _record(self, uid: str, setting: str) -> None:
        self._trail.record_about(
            lambda: events.study_deleted(None, self._trail.subjects.of_uid(uid), f"retention.{setting}")
        )

    def start(self, stop: threading.Event) -> None:
        """Start the thread, which ends when `stop` is set."""
        threading.Thread(target=self.run, args=(stop,), name="retention", daemon=True).start()

    def run(self, stop: threading.Event) -> None:
        """Apply the rules until `stop` is set."""
        while not stop.is_set():
            try:
                self.once(stop)
                self._outage.end()
            except (StorageFailed, StorageFull) as error:
                self._outage.begin(error)
            except OSError as error:  # of a shared folder, whose files may be stale for a while
                self._outage.begin(storage_error(error, self._maps))
            stop.wait(self._seconds)

    def once(self, stop: threading.Event | None = None) -> list[Purged]:
        """Record the disk usage of the day if that is still to be done, and purge; return what went.

        Raises
        ------
        StorageFull, StorageFailed
            When the disk or the database fails; the next call goes on.
        """
        if not self._usage.recorded_today():
            self._usage.record(self._maps)
        went = self._purge.run(stop, erasing=self._record)
        for each in went:
            _LOG.info(
                "purged %d %s, %d bytes, by retention.%s", each.count, each.what, each.size, each.setting
            )
        if self._purge.stuck is not None:
            raise self._purge.stuck
        return went
