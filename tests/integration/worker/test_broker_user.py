"""The broker of the compose file, with its user of few commands: Celery works, and nothing else does."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import yaml

from tests.support.peers import ROOT, Process, free_port, listening, until
from worker.app import ANALYSE, QUEUE, make_app, queue_length

pytestmark = pytest.mark.peer

_WORKER = """
import sys
from worker.app import ANALYSE, QUEUE, make_app
app = make_app(sys.argv[1])
failed = []

@app.task(name=ANALYSE)
def analyse(uid, revision):
    if uid == "fails" and not failed:
        failed.append(uid)
        raise KeyError(uid)
    print("analysed", uid, flush=True)

app.Worker(
    pool="solo", queues=[QUEUE], quiet=True, without_gossip=True, without_heartbeat=True, without_mingle=True
).start()
"""


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """Port of a broker that is started as the compose file does."""
    text = (ROOT / "deploy" / "compose.yaml").read_text()
    text = re.sub(r"\$\{BROKER_PASSWORD[^}]*\}", "secret", text)
    command = yaml.safe_load(text)["services"]["redis"]["command"]
    port = free_port()
    with Process([*command, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(tmp_path)]):
        until(lambda: listening(port), 30, "the broker listens")
        yield port


def test_celery_works_with_exactly_these_commands(port: int) -> None:
    address = f"redis://worker:secret@127.0.0.1:{port}/0"
    app = make_app(address)
    for uid in ("1", "fails", "2"):
        app.send_task(ANALYSE, args=[uid, 1], queue=QUEUE)
    assert queue_length(app) == 3
    with Process([sys.executable, "-c", _WORKER, address]) as worker:
        until(lambda: {"analysed 1", "analysed 2"} <= {*worker.lines}, 90, "both studies")
        until(lambda: queue_length(app) == 0, 10, "the queue is empty")
    app.close()
    assert "NOPERM" not in worker.output
    assert "no permissions" not in worker.output


@pytest.mark.parametrize(
    "words", [("CONFIG", "GET", "*"), ("FLUSHALL",), ("KEYS", "*"), ("SAVE",), ("SHUTDOWN",), ("ACL", "LIST")]
)
def test_the_worker_may_do_nothing_else(port: int, words: tuple[str, ...]) -> None:
    with (
        redis.Redis(port=port, username="worker", password="secret") as client,
        pytest.raises(redis.exceptions.NoPermissionError),
    ):
        client.execute_command(*words)


def test_who_does_not_log_in_may_only_ask_whether_it_lives(port: int) -> None:
    with redis.Redis(port=port) as stranger:
        assert stranger.ping()
        for words in (("LLEN", QUEUE), ("LPUSH", QUEUE, "x"), ("GET", "x"), ("PUBLISH", "x", "y")):
            with pytest.raises(redis.exceptions.NoPermissionError):
                stranger.execute_command(*words)
