"""The sweep with a real broker: what waits in the queue, and what is said of a broker that is away."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import redis

from dicom_node.config.sections import StudySettings
from dicom_node.store.analysis_leases import AnalysisLeases
from dicom_node.store.index import Index
from tests.support.clock import Clock
from tests.support.index_records import THIS_PROCESS, received_instance
from tests.support.peers import Redis
from worker.app import ANALYSE, QUEUE, make_app, queue_length
from worker.sweep import Sweep, publisher
from worker.tasks import register


class SweepHarness:
    """Sweep over an empty index and a Redis server of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.redis = Redis(folder)
        self.clock = Clock()
        self.index = Index(Index.open(f"sqlite:///{folder / 'index.sqlite'}").engine, self.clock)
        self.leases = AnalysisLeases(self.index.engine, self.clock)
        self.app = make_app(self.redis.url)
        self.sweep = Sweep(
            self.index,
            self.leases,
            StudySettings(quiet_seconds=0),
            publisher(self.app, self.index),
            lambda: queue_length(self.app),
        )

    def receive(self, *numbers: int) -> None:
        for number in numbers:
            self.index.add_instance(received_instance(f"1.3.{number}", f"1.2.{number}", f"{number:064x}"))

    def close(self) -> None:
        self.app.close()
        self.index.close()
        self.redis.stop()


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[SweepHarness]:
    harness = SweepHarness(tmp_path)
    yield harness
    harness.close()


def test_messages_hold_no_uid_and_name_the_study_all_the_same(harness: SweepHarness) -> None:
    harness.receive(7)
    harness.sweep.once()
    with harness.app.connection_for_read() as connection:
        message = connection.SimpleQueue(QUEUE).get(timeout=5)
    assert "1.2.7" not in json.dumps([message.body, message.headers], default=str)
    (study, revision), _, _ = message.payload
    assert (harness.index.study_uid(study), revision) == ("1.2.7", 1)
    assert harness.index.study_uid(study + 1) is None
    assert harness.index.study_id("1.2.8") is None


def test_messages_of_earlier_versions_are_read_too(harness: SweepHarness) -> None:
    """A message names a study by its number, or, as it did before, by its UID."""
    harness.receive(7)
    analysed: list[tuple[str, int]] = []
    pipeline = SimpleNamespace(
        uid_of=harness.index.study_uid, analyse=lambda uid, revision: analysed.append((uid, revision))
    )
    register(harness.app, pipeline, SimpleNamespace(busy=contextlib.nullcontext))  # type: ignore[arg-type]
    task = harness.app.tasks[ANALYSE]
    for study in (harness.index.study_id("1.2.7"), "1.2.7", 4711):
        task(study, 1)
    assert analysed == [("1.2.7", 1)] * 2


def test_a_long_backlog_keeps_one_message_for_each_study(harness: SweepHarness) -> None:
    harness.receive(*range(20))
    assert harness.sweep.once() == 20
    for _ in range(10):
        harness.clock.now += 400  # each pause is longer than requeue_seconds
        assert harness.leases.acquire("1.2.0", 1, THIS_PROCESS, 1e6) or True
        assert harness.sweep.once() == 0
        assert harness.sweep.once(thorough=False) == 0
    assert queue_length(harness.app) == 20


def test_a_queue_that_was_flushed_is_filled_again(harness: SweepHarness) -> None:
    harness.receive(1, 2)
    assert harness.sweep.once() == 2
    redis.from_url(harness.redis.url).flushall()
    assert harness.sweep.once() == 0  # not at once: a worker may just have taken the messages
    harness.clock.now += 11
    assert harness.sweep.once() == 2
    assert queue_length(harness.app) == 2


def test_a_broker_that_is_away_is_said_once_and_so_is_its_return(
    harness: SweepHarness, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    harness.redis.stop()
    for number in range(5):
        harness.receive(number)
        assert harness.sweep.once() == 0
    (line,) = [record.getMessage() for record in caplog.records]
    assert "the broker does not answer" in line
    assert str(harness.redis.port) in line
    assert "broker_url" in line
    harness.redis = Redis(harness.folder, port=harness.redis.port)
    assert harness.sweep.once() == 5
    assert harness.sweep.once() == 0
    assert [record.getMessage() for record in caplog.records[1:]] == ["the broker answers again"]


def test_a_broker_that_is_full_is_an_outage_too(
    harness: SweepHarness, caplog: pytest.LogCaptureFixture
) -> None:
    client = redis.from_url(harness.redis.url)
    client.config_set("maxmemory", "1")
    harness.receive(1)
    assert [harness.sweep.once() for _ in range(3)] == [0, 0, 0]
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 1
    client.config_set("maxmemory", "0")
    assert harness.sweep.once() == 1


@pytest.mark.parametrize(
    ("begin", "end"),
    [
        ("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE"),
        ("CONFIG SET requirepass other", "CONFIG SET requirepass ''"),
    ],
    ids=["read-only", "another password"],
)
def test_a_broker_that_turns_the_node_away_is_an_outage_too(
    harness: SweepHarness, caplog: pytest.LogCaptureFixture, begin: str, end: str
) -> None:
    harness.receive(1)
    assert harness.sweep.once() == 1
    client = redis.from_url(harness.redis.url)
    client.execute_command(*begin.split())
    client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    harness.receive(2, 3)
    assert [harness.sweep.once() for _ in range(3)] == [0, 0, 0]
    (line,) = [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
    assert "the broker does not answer" in line
    client.execute_command(*end.replace("''", "").split(" "))
    assert harness.sweep.once() == 2
    assert caplog.records[-1].getMessage() == "the broker answers again"
    client.close()
