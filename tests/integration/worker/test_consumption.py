"""A worker process that takes no messages although some wait."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.support.peers import ROOT, Redis
from worker.app import ANALYSE, make_app, queue_length
from worker.consumption import ConsumptionWatch


def worker(url: str) -> subprocess.Popen[str]:
    """Celery worker of the node whose consumer is deaf, with a watch of one second."""
    code = f"""
        import sys
        sys.path.insert(0, {str(ROOT)!r})
        from celery.signals import worker_ready
        from dicom_node.runtime import logs
        from worker.app import make_app, queue_length
        from worker.consumption import ConsumptionWatch
        from worker.tasks import _Worker
        logs.configure("INFO", "text")
        app = make_app({url!r})
        watch = ConsumptionWatch(lambda: queue_length(app), 1.0)
        worker_ready.connect(lambda **_: watch.start(), weak=False)
        _Worker(app=app, pool_cls="solo", queues=["another-queue"], loglevel="INFO", quiet=True).start()
    """
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_worker_that_takes_nothing_ends_and_says_so(tmp_path: Path) -> None:
    with Redis(tmp_path) as redis:
        app = make_app(redis.url)
        app.send_task(ANALYSE, args=["1.2", 1])
        assert queue_length(app) == 1
        process = worker(redis.url)
        out, err = process.communicate(timeout=60)
        app.close()
    assert process.returncode == 75
    assert out == ""
    assert [line for line in err.splitlines() if "though some wait" in line]


@pytest.mark.parametrize("answer", [0, ConnectionRefusedError()])
def test_a_worker_without_messages_or_broker_is_not_stuck(answer: int | Exception) -> None:
    def waiting() -> int:
        if isinstance(answer, Exception):
            raise answer
        return answer

    watch = ConsumptionWatch(waiting, 0.1)
    watch._idle_since -= 1
    assert not watch._is_stuck()


def test_a_worker_that_reads_a_study_is_not_stuck() -> None:
    watch = ConsumptionWatch(lambda: 1, 0.0)
    with watch.busy():
        assert not watch._is_stuck()
