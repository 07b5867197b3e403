"""Celery application: its JSON messages hold a Study Instance UID and a revision, nothing else.

The broker's queue only speeds things up; the database decides (:mod:`dicom_node.store.analysis_leases`). The
sweep queues a study again whose message was lost; a second message finds the study claimed.
"""

from __future__ import annotations

from celery import Celery

QUEUE = "dicom-node"
ANALYSE = "dicom_node.analyse"


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
        worker_send_task_events=False,
    )
    return app
