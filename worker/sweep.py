"""Sweep: looks in the database for studies that are due, and queues them for analysis."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from celery import Celery

from dicom_node.config.data_dir import DataDir
from dicom_node.config.sections import StudySettings
from dicom_node.config.settings import Settings
from dicom_node.errors import ConfigurationError, StorageFailed, StorageFull
from dicom_node.runtime import logs, readiness
from dicom_node.runtime.stop_signal import stop_event
from dicom_node.store.analysis_leases import AnalysisLeases
from dicom_node.store.index import Index
from dicom_node.store.storage_check import StorageCheck, StorageWatch
from worker.app import ANALYSE, BROKER_ERRORS, make_app, queue_length
from worker.retention import RetentionTask

_LOG = logging.getLogger(__name__)
_HOUSEKEEPING_SECONDS = 1.0
_LOST_SECONDS = 10.0
_FAULT_PAUSE = 1.0


class Sweep:
    """Sweep that completes quiet studies, releases expired leases and queues complete studies.

    Parameters
    ----------
    index
        Database of the node.
    leases
        Claims on studies in that database.
    settings
        Settings of study completion.
    publish
        Function that puts (Study Instance UID, revision) into the queue.
    queued
        Function that returns the number of waiting messages.
    prior_seconds
        Longest wait of a study for its prior, in seconds; None when no prior is looked for.
    """

    def __init__(
        self,
        index: Index,
        leases: AnalysisLeases,
        settings: StudySettings,
        publish: Callable[[str, int], None],
        queued: Callable[[], int],
        prior_seconds: float | None = None,
    ) -> None:
        self._index = index
        self._leases = leases
        self._settings = settings
        self._publish = publish
        self._queued = queued
        self._prior_seconds = prior_seconds
        self._broker = logs.Outage(
            _LOG,
            "the broker",
            "start it, or correct broker_url; until then films are received, but not analysed",
        )

    def run(self, stop: threading.Event) -> None:
        """Sweep until `stop` is set; retry while the database or the broker does not answer."""
        since_housekeeping = _HOUSEKEEPING_SECONDS
        database = logs.Outage(_LOG, "the database", "check its disk, or start its server (database_url)")
        while not stop.is_set():
            pause = self._settings.poll_seconds
            try:
                since_housekeeping += pause
                thorough = since_housekeeping >= _HOUSEKEEPING_SECONDS
                if thorough:
                    since_housekeeping = 0.0
                self.once(thorough=thorough)
                database.end()
            except (StorageFailed, StorageFull) as error:
                database.begin(error)
                pause = _FAULT_PAUSE
            stop.wait(pause)

    def once(self, *, thorough: bool = True) -> int:
        """Sweep once and return the number of studies queued.

        Studies are completed and released while the broker is away, too.

        Parameters
        ----------
        thorough
            Also release expired leases, and queue again the studies whose message was lost.

        Raises
        ------
        StorageFull, StorageFailed
            When the database does not answer.
        """
        if thorough and (released := self._leases.release_expired()):
            _LOG.warning("%d studies released: their workers ended or do not answer", released)
        self._index.complete_due(self._settings.quiet_seconds, self._settings.forced_seconds)
        if self._broker.began and not thorough:
            return 0
        try:
            count = self._queue(thorough=thorough)
        except BROKER_ERRORS as error:
            self._broker.begin(error)
            return 0
        if thorough:
            self._broker.end()
        return count

    def _queue(self, *, thorough: bool) -> int:
        messages_wait = not thorough or self._queued() > 0
        requeue_seconds = self._settings.requeue_seconds
        if not messages_wait:
            requeue_seconds = min(requeue_seconds, _LOST_SECONDS)
        due = self._index.take_queueable(requeue_seconds, self._prior_seconds, messages_wait=messages_wait)
        for number, (uid, revision) in enumerate(due):
            try:
                self._publish(uid, revision)
            except BROKER_ERRORS:
                for left in due[number:]:
                    self._index.unqueue(*left)
                raise
            with logs.study(uid):
                _LOG.info("revision %d is complete and queued", revision)
        return len(due)


def publisher(app: Celery, index: Index) -> Callable[[str, int], None]:
    """Return the function that queues a study, by its number: no UID is in the broker."""

    def publish(study_instance_uid: str, revision: int) -> None:
        app.send_task(ANALYSE, args=[index.study_id(study_instance_uid), revision])

    return publish


def run_sweep(settings: Settings) -> None:
    """Sweep until SIGTERM; body of the sweep process."""
    if settings.broker_url is None:
        raise ConfigurationError("broker_url is not set; give the address of a Redis or Valkey server")
    stop = stop_event()
    index = Index.open(settings.database, create=False)
    app = make_app(settings.broker_url)

    prior_seconds = None
    if settings.prior_source is not None:
        from dicom_node.priors.fetcher import PriorFetcher  # noqa: PLC0415 - most nodes do not need it

        prior_seconds = settings.priors.wait_seconds
        PriorFetcher(settings, index).start(stop)
    RetentionTask(settings, index.engine).start(stop)
    sweep = Sweep(
        index,
        AnalysisLeases(index.engine),
        settings.study,
        publisher(app, index),
        lambda: queue_length(app),
        prior_seconds,
    )
    data_dir = DataDir(settings)
    StorageWatch(
        StorageCheck(index.engine, data_dir.spool, data_dir.results),
        data_dir.root / "index.sqlite" if settings.database_url is None else None,
        settings.storage_check.files_per_day,
        data_dir.remove_left_over,
    ).start(stop)
    readiness.notify_ready()
    sweep.run(stop)
    app.close()
    index.close()
