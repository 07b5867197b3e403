"""Celery task that calls the pipeline, and the worker process."""

from __future__ import annotations

import logging
import signal
import sys
import warnings

from celery import Celery
from celery.apps.worker import Worker
from celery.exceptions import SecurityWarning
from celery.signals import worker_ready, worker_shutdown
from celery.worker import WorkController, state

from dicom_node.config.settings import Settings
from dicom_node.errors import ConfigurationError, StorageFailed, StorageFull
from dicom_node.runtime import readiness
from worker.app import ANALYSE, QUEUE, make_app, queue_length
from worker.consumption import ConsumptionWatch
from worker.pipeline import Pipeline

_LOG = logging.getLogger(__name__)


def register(app: Celery, pipeline: Pipeline, consumption: ConsumptionWatch) -> None:
    """Register the pipeline as the application's task."""

    @app.task(name=ANALYSE)
    def analyse(study: int | str, revision: int) -> None:
        with consumption.busy():
            try:
                # Messages of earlier versions name a study by its Study Instance UID.
                uid = study if isinstance(study, str) else pipeline.uid_of(study)
                if uid is not None:
                    pipeline.analyse(uid, revision)
            except (StorageFull, StorageFailed) as error:
                _LOG.error("revision %d was not analysed: %s", revision, error)
            # Broad on purpose: whatever fails in one study, the worker goes on with the next. The lease of
            # the failed study lapses, and the sweep queues it again.
            except Exception:  # noqa: BLE001
                _LOG.exception("revision %d was not analysed", revision)


def run_worker(settings: Settings) -> None:
    """Analyse studies until SIGTERM; body of the worker process.

    One process and one thread of tasks (``pool_cls="solo"``): forked children cannot use CUDA, and torch
    already uses every core.
    """
    if settings.broker_url is None:
        raise ConfigurationError("broker_url is not set; give the address of a Redis or Valkey server")
    app = make_app(settings.broker_url)
    consumption = ConsumptionWatch(lambda: queue_length(app))
    # Celery warns root of messages that carry code; these are JSON.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    with Pipeline.open(settings) as pipeline:
        register(app, pipeline, consumption)
        pipeline.warm_up()

        def begin(**_: object) -> None:
            readiness.notify_ready()
            readiness.keep_alive(lambda: not pipeline.overdue)
            consumption.start()

        worker_ready.connect(begin, weak=False)
        worker_shutdown.connect(lambda **_: pipeline.stop(), weak=False)
        worker = _Worker(
            app=app,
            pool_cls="solo",
            concurrency=1,
            queues=[QUEUE],
            loglevel=settings.log_level,
            quiet=True,
            without_gossip=True,
            without_heartbeat=True,
            without_mingle=True,
        )
        worker.start()
    sys.exit(worker.exitcode)


class _Worker(Worker):
    """Celery's worker, without its own lines on standard output and with one signal to end it."""

    def install_platform_tweaks(self, worker: WorkController) -> None:  # noqa: ARG002
        """Handle SIGTERM: the worker ends when the study that it reads is finished."""
        signal.signal(signal.SIGTERM, lambda *_: setattr(state, "should_stop", 0))
