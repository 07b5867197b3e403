"""Connections that are silent, slow or many keep nobody else out: the page as `dicom-node web` serves it."""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from tests.support.offline_node import OfflineNode
from tests.support.peers import Node, until
from tests.support.web_server import timed

pytestmark = pytest.mark.peer

SECONDS = 3
"""Time for a request in these tests."""
AT_ONCE = SECONDS / 3
"""Longest answer, on a busy machine too, that has not waited for the time of other requests."""


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    node = OfflineNode(tmp_path_factory.mktemp("connections") / "data")
    settings = {"web__request_seconds": str(SECONDS), "web__connections": "200", "web__login": "true"}
    with Node(node.settings.data_dir, command="web", **settings) as one:
        yield one
    node.close()


@contextlib.contextmanager
def opened(web: Node, count: int, start: bytes = b"") -> Iterator[list[socket.socket]]:
    """Connections that have sent `start`, until the end of the block."""
    with contextlib.ExitStack() as stack:
        found = []
        for _ in range(count):
            one = stack.enter_context(socket.create_connection(place(web)))
            with contextlib.suppress(OSError):
                one.sendall(start)
            found.append(one)
        yield found


def place(web: Node) -> tuple[str, int]:
    parts = urlsplit(web.page)
    return parts.hostname or "", parts.port or 0


def ready_seconds(web: Node) -> float:
    """Seconds that a healthy answer takes over a new connection, the median of five."""
    answers = [timed(f"{web.page}readyz") for _ in range(5)]
    assert {status for status, _ in answers} == {200}
    return sorted(seconds for _, seconds in answers)[2]


def closed(connection: socket.socket) -> bool:
    """Whether the server has closed a connection; what it has sent is read."""
    while select.select([connection], [], [], 0)[0]:
        try:
            if not connection.recv(65536):
                return True
        except OSError:
            return True
    return False


BODY = b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n"


@pytest.mark.parametrize(
    "start",
    [
        b"",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n",
        BODY + b"Content-Length: 60000\r\n\r\nname=",
        BODY + b"Transfer-Encoding: chunked\r\n\r\n5\r\nname=\r\n",
    ],
    ids=["silent", "headers", "body", "chunks"],
)
def test_three_hundred_connections_of_one_address_keep_nobody_out(web: Node, start: bytes) -> None:
    with opened(web, 300, start) as held:
        assert ready_seconds(web) < AT_ONCE
        assert sum(map(closed, held)) >= 100  # beyond the limit the oldest made room
        until(lambda: all(map(closed, held)), SECONDS + 20, "the deadline of every connection")
    assert ready_seconds(web) < AT_ONCE


@pytest.mark.parametrize(
    ("start", "drop"),
    [
        (b"GET / HTTP/1.1\r\n", b"X-Slow: 1\r\n"),
        (BODY + b"Content-Length: 60000\r\n\r\n", b"a"),
        (BODY + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n"),
    ],
    ids=["headers", "body", "chunks"],
)
def test_a_request_that_comes_drop_by_drop_is_ended(web: Node, start: bytes, drop: bytes) -> None:
    with opened(web, 1, start) as (connection,):
        began = time.monotonic()

        def answered() -> bool:
            with contextlib.suppress(OSError):
                connection.sendall(drop)
            return bool(select.select([connection], [], [], 0)[0])

        until(answered, SECONDS + 10, "an end")
        assert time.monotonic() - began < SECONDS + 5
        assert b" 408 " in connection.recv(4096)


def test_a_connection_stays_for_the_next_request_and_no_longer_than_that(web: Node) -> None:
    request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with opened(web, 1) as (connection,):
        for _ in range(3):
            connection.sendall(request)
            received = b""
            while b"alive" not in received:
                received += connection.recv(65536)
                assert received
        connection.sendall(request[:20])  # ends the time of an idle connection, not that of the request
        until(lambda: closed(connection), 10 + SECONDS + 10, "the deadline of the next request")
