"""The Celery application: JSON messages that hold ids and nothing else.

The queue is a hint; the index is the queue of record (``store/claims.py``). A message that is lost is
written again by the sweep, one that comes twice finds the study claimed.
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
        ``redis://``, ``rediss://`` or ``redis+socket://``.
    """
    app = Celery("dicom-node", broker=broker_url)
    app.conf.update(
        accept_content=["json"],
        broker_connection_retry_on_startup=True,
        broker_transport_options={
            "visibility_timeout": 3600,  # far above any analysis: a study is claimed for seconds
            "socket_connect_timeout": 5,
            "socket_timeout": 30,
        },
        task_acks_late=True,
        task_default_queue=QUEUE,
        task_ignore_result=True,
        task_publish_retry=False,  # the sweep tries again, and says so
        task_reject_on_worker_lost=True,
        task_serializer="json",
        timezone="UTC",
        worker_cancel_long_running_tasks_on_connection_loss=True,
        worker_hijack_root_logger=False,
        worker_prefetch_multiplier=1,
        worker_send_task_events=False,
    )
    return app
