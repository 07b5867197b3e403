"""Celery application: its JSON messages hold the number of a study in the index and a revision, nothing else.

The broker's queue only speeds things up; the database decides (:mod:`dicom_node.store.analysis_leases`). The
sweep queues a study again whose message was lost; a second message finds the study claimed.
"""

from __future__ import annotations

import logging

from celery import Celery
from celery.signals import setup_logging
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

QUEUE = "dicom-node"
ANALYSE = "dicom_node.analyse"
BROKER_ERRORS = (OperationalError, RedisError, OSError)
"""Exceptions of a broker that is away, full, read-only or wants another password."""


class _BrokerErrorsInOneLine(logging.Filter):
    """Filter that takes the traceback from an error of the broker, which the line itself names."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and isinstance(record.exc_info[1], BROKER_ERRORS):
            record.exc_info = None
        return True


_ONE_LINE = _BrokerErrorsInOneLine()
_SPEAK_OF_THE_BROKER = ("celery.worker", "celery.worker.request", "celery.worker.consumer.consumer")


def make_app(broker_url: str) -> Celery:
    """Return the application, configured for late acknowledgement.

    Parameters
    ----------
    broker_url
        Address of the broker: ``redis://``, ``rediss://`` or ``redis+socket://``.
    """
    app = Celery("dicom-node", broker=broker_url)
    app.conf.update(
        accept_content=["json"],
        broker_connection_max_retries=None,  # for ever: the sweep says that the broker is away
        broker_connection_retry_on_startup=True,
        broker_transport_options={
            "visibility_timeout": 3600,  # seconds; far longer than any analysis
            "socket_connect_timeout": 5,
            "socket_timeout": 30,
        },
        task_acks_late=True,
        task_default_queue=QUEUE,
        task_ignore_result=True,
        task_publish_retry=False,  # the sweep tries again, and logs it
        task_reject_on_worker_lost=True,
        task_serializer="json",
        timezone="UTC",
        worker_cancel_long_running_tasks_on_connection_loss=True,
        worker_hijack_root_logger=False,
        worker_prefetch_multiplier=1,
        worker_redirect_stdouts=False,
        worker_send_task_events=False,
    )
    setup_logging.connect(_leave_logs_alone)
    for name in _SPEAK_OF_THE_BROKER:
        logging.getLogger(name).addFilter(_ONE_LINE)  # once, however often this is called
    return app


def queue_length(app: Celery) -> int:
    """Return the number of messages that wait in the queue.

    Raises
    ------
    BROKER_ERRORS
        If the broker does not answer.
    """
    with app.connection_for_write() as connection:
        connection.ensure_connection(max_retries=1, timeout=5)
        try:
            return int(connection.SimpleQueue(QUEUE).qsize())
        except connection.channel_errors:
            return 0  # the queue does not exist before the first message


def _leave_logs_alone(**_: object) -> None:
    """Receive the signal at which Celery would set up logs of its own; with a receiver it does not."""
