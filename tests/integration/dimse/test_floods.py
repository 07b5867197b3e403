"""Floods of connections and associations, from the address of a real peer and from others."""

from __future__ import annotations

import contextlib
import json
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import pytest

from tests.support.film_file import FilmFile
from tests.support.peers import until
from tests.support.raw_association import (
    ABORT,
    ASSOCIATE_AC,
    CR,
    RawAssociation,
    associate_rq,
    message,
    store_rq,
)
from tests.support.receiver import Receiver
from tests.support.scp_processes import ScpProcesses

MakeFilm = Callable[..., FilmFile]
KNOWN = json.dumps([{"ae_title": "WIRE", "host": "127.0.0.1"}])
KNOWN_TWICE = json.dumps([{"ae_title": "WIRE", "host": host} for host in ("127.0.0.1", "127.0.0.2")])


class Flood:
    """Connections of one address that are kept open, and opened again when the node closes them.

    Parameters
    ----------
    port
        Port of the node.
    host
        Address from which the connections come.
    content
        Bytes that each sends at once.
    most
        Number of connections to keep open.
    a_second
        Most new connections a second.
    """

    def __init__(self, port: int, host: str, content: bytes, most: int, a_second: float) -> None:
        self._port, self._host, self._content = port, host, content
        self._most, self._a_second = most, a_second
        self.opened = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        held: dict[int, socket.socket] = {}
        poll = select.poll()
        began = time.monotonic()
        while not self._stop.is_set():
            for number, _ in poll.poll(0):
                if _ended(held[number]):
                    poll.unregister(number)
                    held.pop(number).close()
            due = (time.monotonic() - began) * self._a_second
            while len(held) < self._most and self.opened < due:
                with contextlib.suppress(OSError):
                    each = socket.create_connection(
                        ("127.0.0.1", self._port), 5, source_address=(self._host, 0)
                    )
                    held[each.fileno()] = each
                    poll.register(each, select.POLLIN)
                    each.sendall(self._content)
                self.opened += 1
            self._stop.wait(0.01)
        for each in held.values():
            each.close()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def _ended(connection: socket.socket) -> bool:
    try:
        return not connection.recv(1 << 16)
    except OSError:
        return True


def seconds_to_store(node: ScpProcesses, sent: FilmFile) -> float:
    """Time of one association with a C-ECHO and a C-STORE; long on a busy machine."""
    begun = time.monotonic()
    with RawAssociation(node.port) as wire:
        assert wire.associate()[0] == ASSOCIATE_AC
        assert wire.echo().status == 0
        assert wire.store(sent.data_set, sent.uid).status == 0
        wire.release()
    return time.monotonic() - begun


@pytest.fixture
def node(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[ScpProcesses]:
    with ScpProcesses(tmp_path / "node", dicom__known_peers=request.param) as running:
        yield running


@pytest.mark.parametrize(
    ("node", "host", "content"),
    [
        pytest.param(KNOWN, "127.0.0.2", b"", id="silent, from an unknown address"),
        pytest.param(KNOWN_TWICE, "127.0.0.2", b"", id="silent, from another known address"),
        pytest.param(KNOWN, "127.0.0.1", b"", id="silent, from the address of the peer"),
        pytest.param(KNOWN_TWICE, "127.0.0.2", b"\1", id="one byte, from another known address"),
        pytest.param(KNOWN, "127.0.0.1", b"\1", id="one byte, from the address of the peer"),
        pytest.param(KNOWN_TWICE, "127.0.0.2", associate_rq(), id="idle, from another known address"),
        pytest.param(KNOWN, "127.0.0.1", associate_rq(), id="idle, from the address of the peer"),
        pytest.param(
            KNOWN_TWICE,
            "127.0.0.2",
            associate_rq() + message(store_rq(CR.encode(), b"1.2.3")),
            id="films without an end, from another known address",
        ),
    ],
    indirect=["node"],
)
def test_a_known_peer_gets_through_a_flood(
    node: ScpProcesses, film: MakeFilm, host: str, content: bytes
) -> None:
    calm = max(seconds_to_store(node, film(number)) for number in range(4))
    with Flood(node.port, host, content, most=1100, a_second=160) as flood:
        until(lambda: flood.opened > 320, 30, "the flood has begun")
        for number in range(10, 15):
            assert seconds_to_store(node, film(number)) < 1 + 5 * calm
    log = node.log.read_text()
    assert len(log.splitlines()) < 2 * flood.opened
    assert "Traceback" not in log


def test_hundreds_of_silent_connections_at_once_keep_nobody_out(tmp_path: Path, film: MakeFilm) -> None:
    with Receiver(tmp_path / "flooded", association_seconds=60) as receiver:
        silent = [RawAssociation(receiver.port) for _ in range(900)]
        begun = time.monotonic()
        receiver.stores(film(5))
        assert time.monotonic() - begun < 5  # in one process with the test
        for wire in silent:
            wire.socket.close()


def test_an_idle_association_gives_way_and_a_busy_one_does_not(receiver: Receiver, film: MakeFilm) -> None:
    sent = film(1)
    encoded = message(store_rq(CR.encode(), sent.uid.encode()), sent.data_set, max_pdu=4096)
    with receiver.associated() as busy:
        busy.write(encoded[:-100])
        idle = [receiver.associated() for _ in range(receiver.settings.max_associations - 2)]
        receiver.stores(film(2))
        busy.write(encoded[-100:])
        assert busy.answer().status == 0
        ended = [wire for wire in idle if select.select([wire.socket], [], [], 0)[0]]
        assert len(ended) == 1
        assert ended[0].read()[0] == ABORT
        for wire in idle:
            wire.socket.close()
        busy.release()


def test_a_process_without_descriptors_says_so_and_goes_on(
    receiver: Receiver, film: MakeFilm, caplog: pytest.LogCaptureFixture
) -> None:
    import os
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    waiting = socket.socket()
    top = os.open(os.devnull, os.O_RDONLY)
    os.close(top)
    resource.setrlimit(resource.RLIMIT_NOFILE, (top, hard))
    try:
        waiting.connect(("127.0.0.1", receiver.port))
        until(lambda: "raise the limit of open files" in caplog.text, 5, "the shortage is logged")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    waiting.close()
    assert caplog.text.count("raise the limit of open files") == 1
    receiver.stores(film(5))
