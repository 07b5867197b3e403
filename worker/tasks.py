"""Celery task that calls the pipeline, and the worker process."""

from __future__ import annotations

import logging

from celery import Celery
from celery.signals import worker_ready, worker_shutdown

from dicom_node.config.settings import Settings
from dicom_node.errors import ConfigurationError
from dicom_node.runtime import readiness
from worker.app import ANALYSE, QUEUE, make_app
from worker.pipeline import Pipeline

_LOG = logging.getLogger(__name__)


def register(app: Celery, pipeline: Pipeline) -> None:
    """Register the pipeline as the application's task."""

    @app.task(name=ANALYSE)
    def analyse(study_instance_uid: str, revision: int) -> None:
        try:
            pipeline.analyse(study_instance_uid, revision)
        # Broad on purpose: whatever fails in one study, the worker goes on with the next. The lease of the
        # failed study lapses, and the sweep queues it again.
        except Exception:  # noqa: BLE001
            _LOG.exception("revision %d was not analysed", revision)


def run_worker(settings: Settings) -> None:
    """Analyse studies until SIGTERM; body of the worker process.

    One process and one thread of tasks (``--pool=solo``): forked children cannot use CUDA, and torch already
    uses every core.
    """
    if settings.broker_url is None:
        raise ConfigurationError("broker_url is not set; give the address of a Redis or Valkey server")
    app = make_app(settings.broker_url)
    with Pipeline.open(settings) as pipeline:
        register(app, pipeline)
        pipeline.warm_up()
        worker_ready.connect(_say_ready, weak=False)
        worker_shutdown.connect(lambda **_: pipeline.stop(), weak=False)
        app.worker_main(
            [
                "--quiet",
                "worker",
                "--pool=solo",
                "--without-gossip",
                "--without-heartbeat",
                "--without-mingle",
                f"--loglevel={settings.log_level}",
                f"--queues={QUEUE}",
            ]
        )


def _say_ready(**_: object) -> None:
    readiness.notify_ready()
