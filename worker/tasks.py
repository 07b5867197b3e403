"""The Celery task, a shell around the pipeline, and the process that runs it."""

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
    """Make the pipeline the application's task."""

    @app.task(name=ANALYSE)
    def analyse(study_instance_uid: str, revision: int) -> None:
        try:
            pipeline.analyse(study_instance_uid, revision)
        except Exception:  # noqa: BLE001 - the outer edge: the worker lives on, the lease gives the study back
            _LOG.exception("revision %d was not analysed", revision)


def run_worker(settings: Settings) -> None:
    """Analyse studies until SIGTERM: the body of the worker process.

    One process, one thread of tasks (``--pool=solo``): forked children could not use CUDA, and torch
    uses every core already.
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
    readiness.ready()
