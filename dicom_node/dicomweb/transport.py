"""HTTP requests that have an end: no service keeps the node waiting, fills its memory, or sends it away."""

from __future__ import annotations

import contextlib
import math
import socket
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urljoin, urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection

from dicom_node.errors import PeerUnavailable
from dicom_node.runtime.printable import printable

MAX_ANSWER_BYTES: Final = 4 * 2**20
"""Largest answer that holds no instances, in bytes; as it is sent, and when it is decompressed."""
_MAX_VALUES = 100_000  # in such an answer; some dozens of bytes each when they are read
_PIECE_BYTES = 1 << 16
# A large request or answer gets more time: one second for so many bytes.
_SLOWEST_BYTES_PER_SECOND = 64 * 1024
_MAX_REDIRECTS = 3


class BoundedSession(requests.Session):
    """HTTP session that follows a redirect of a GET to the same scheme, host and port, and no other.

    Another place would get the query, which names a patient, and what it answers would count as the answer of
    the service. A request that stores is never repeated elsewhere; its redirect is an answer like any other.

    Parameters
    ----------
    name
        Name of the service, for errors.
    adapter
        Adapter of all requests.
    """

    def __init__(self, name: str, adapter: BoundedAdapter) -> None:
        super().__init__()
        self._name = name
        self.trust_env = False  # only the settings decide whom to trust, and our identity
        self.max_redirects = _MAX_REDIRECTS
        for scheme in ("http://", "https://"):
            self.mount(scheme, adapter)

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Return where to go on; None when the answer is no redirect that is followed.

        Raises
        ------
        PeerUnavailable
            When a GET is sent to another place, or its answer is a redirect to nowhere.
        """
        if resp.request.method != "GET" or not 300 <= resp.status_code < 400:
            return None
        target = super().get_redirect_target(resp)
        if target is not None and _place(urljoin(resp.url, target)) == _place(resp.url):
            return target
        sentence = f"{self._name}: the service answered with a redirect ({resp.status_code})"
        if target is not None:
            address = printable(urljoin(resp.url, target).partition("?")[0], 256)
            sentence += f" to {address}, which is not followed"
        raise PeerUnavailable(sentence)


class BoundedAdapter(HTTPAdapter):
    """HTTP adapter that ends each request within a time and a size; to be used by one thread at a time.

    Parameters
    ----------
    name
        Name of the service, for errors.
    seconds
        Most seconds until the header of an answer has come, and again for its body; beside one second for
        every 64 KiB.
    """

    def __init__(self, name: str, seconds: float) -> None:
        self._name, self._seconds = name, seconds
        self._watch = _Watch()
        super().__init__()
        self.poolmanager.pool_classes_by_scheme = _pools(self._watch)

    def proxy_manager_for(self, proxy: str, **proxy_kwargs: Any) -> Any:
        """Return the manager of the connections by a proxy."""
        manager = super().proxy_manager_for(proxy, **proxy_kwargs)
        manager.pool_classes_by_scheme = _pools(self._watch)
        return manager

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        """Send a request; read the answer to its end, unless it is to be streamed with :meth:`pieces`.

        Raises
        ------
        PeerUnavailable
            When the answer is too long or takes too long.
        requests.RequestException
            When the connection fails.
        """
        length = int(request.headers.get("Content-Length") or 0)
        response: requests.Response | None = None
        try:
            with self._watched(self._seconds + length / _SLOWEST_BYTES_PER_SECOND):
                response = super().send(request, *args, **options)
        except PeerUnavailable:
            if response is not None:  # it came when the time was just over
                response.close()
            raise
        if options.get("stream"):
            return response
        content = b"".join(self.pieces(response, MAX_ANSWER_BYTES))
        if sum(map(content.count, b",{[<")) > _MAX_VALUES:
            raise PeerUnavailable(f"{self._name}: an answer holds more than {_MAX_VALUES} values")
        response._content = content  # noqa: SLF001 - where requests itself would put it
        response._content_consumed = True  # type: ignore[attr-defined]  # noqa: SLF001
        return response

    def pieces(self, response: requests.Response, most: int) -> Iterator[bytes]:
        """Yield the body of an answer, decompressed.

        Parameters
        ----------
        most
            Most bytes, as they are sent and as they are yielded.

        Raises
        ------
        PeerUnavailable, requests.RequestException
            As :meth:`send`.
        """
        raw, size = response.raw, 0
        try:
            with self._watched(self._seconds):
                while piece := raw.read1(_PIECE_BYTES, decode_content=True):
                    size += len(piece)
                    if max(size, raw.tell()) > most:
                        raise PeerUnavailable(f"{self._name}: an answer is longer than {most >> 20} MiB")
                    with self._watch.paused(len(piece) / _SLOWEST_BYTES_PER_SECOND):
                        yield piece
        except urllib3.exceptions.TimeoutError as error:
            raise requests.ReadTimeout(error) from error
        except urllib3.exceptions.HTTPError as error:
            raise requests.ConnectionError(error) from error
        finally:
            response.close()

    @contextlib.contextmanager
    def _watched(self, seconds: float) -> Iterator[None]:
        """Cut the connection when the block takes longer; the error says so."""
        with self._watch.lasting(seconds):
            try:
                yield
            except (requests.RequestException, urllib3.exceptions.HTTPError):
                if not self._watch.over:
                    raise
        if self._watch.over:
            raise PeerUnavailable(f"{self._name}: an answer was not complete in time")


class _Watch:
    """Watch that cuts a connection when its time is over, whatever the thread that uses it waits for."""

    def __init__(self) -> None:
        self.connection: socket.socket | None = None
        self.over = False
        self._deadline = 0.0

    def lasting(self, seconds: float) -> Self:
        self.over, self._deadline = False, time.monotonic() + seconds
        return self

    @contextlib.contextmanager
    def paused(self, more: float) -> Iterator[None]:
        """Stop the clock for the block, and give some seconds more."""
        left = self._deadline - time.monotonic()
        self._deadline = math.inf
        yield
        self._deadline = time.monotonic() + left + more

    def __enter__(self) -> Self:
        self._ended = threading.Event()
        threading.Thread(target=self._run, args=(self._ended,), name="http-deadline", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()

    def _run(self, ended: threading.Event) -> None:
        while (left := self._deadline - time.monotonic()) > 0:
            if ended.wait(min(left, 1.0)):
                return
        self.over = True
        while not ended.wait(0.1):  # the connection may just be opened
            if self.connection is not None:
                with contextlib.suppress(OSError):
                    # Not the method of a TLS socket, which would change it under the thread that reads.
                    socket.socket.shutdown(self.connection, socket.SHUT_RDWR)


def _pools(watch: _Watch) -> dict[str, type[urllib3.HTTPConnectionPool]]:
    """Return pools whose connections show their socket to a watch."""

    class Connection(HTTPConnection):
        def _new_conn(self) -> socket.socket:
            watch.connection = super()._new_conn()
            return watch.connection

        def request(self, *args: Any, **options: Any) -> None:
            watch.connection = self.sock or watch.connection
            super().request(*args, **options)

    class SecureConnection(Connection, HTTPSConnection):
        pass

    class Pool(urllib3.HTTPConnectionPool):
        ConnectionCls = Connection

    class SecurePool(urllib3.HTTPSConnectionPool):
        ConnectionCls = SecureConnection

    return {"http": Pool, "https": SecurePool}


def _place(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme.lower(), parts.hostname, port
