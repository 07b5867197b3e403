"""HTTP requests to a remote model that have an end: none lasts longer, or takes more memory, than allowed.

The standard library serves here: its sockets take a deadline for every read and write, so that an answer that
comes in drops ends in time without a second thread. No proxy of the environment is used, and no redirect is
followed.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import socket
import ssl
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from models.errors import ModelUnavailable, RemoteModelError
from models.remote.address import ModelAddress

_PIECE_BYTES: Final = 1 << 16
_LONGEST_TOKEN: Final = 4096
_LONGEST_PAUSE: Final = 30.0
_AGAIN: Final = {429, 502, 503, 504}
"""Statuses after which the same request may succeed (RFC 9110 15.6, RFC 6585 4)."""


@dataclass(frozen=True, slots=True)
class TransportLimits:
    """Limits of the requests to a remote model.

    A request takes at most ``(retries + 1) * (connect_seconds + seconds)``, and the pauses between.

    Attributes
    ----------
    connect_seconds
        Most seconds until a connection stands.
    seconds
        Most seconds of one attempt after that, from the first byte sent to the last byte read.
    retries
        Number of further attempts where the model does not answer.
    pause_seconds
        Pause before the first of them; it doubles, up to 30 s.
    answer_bytes
        Largest answer, in bytes.
    """

    connect_seconds: float = 10.0
    seconds: float = 120.0
    retries: int = 2
    pause_seconds: float = 1.0
    answer_bytes: int = 64 * 2**20


@dataclass(frozen=True, slots=True)
class RequestBody:
    """Body of a request, which can be sent more than once.

    Attributes
    ----------
    content_type
        Media type.
    length
        Length in bytes.
    pieces
        Iterable that gives the bytes anew each time.
    """

    content_type: str
    length: int
    pieces: Iterable[bytes]


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """Answer of a remote model.

    Attributes
    ----------
    status
        Status code.
    content_type
        Media type without parameters, in lower case.
    content
        Body, whole.
    headers
        Other header fields by name in lower case.
    """

    status: int
    content_type: str
    content: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


class HttpTransport:
    """Sender of requests to one remote model.

    Parameters
    ----------
    address
        Address of the model.
    token_file
        File with the bearer token, read at each request; None for none.
    tls_ca
        File with the certificates that are trusted, PEM; None for those of the system.
    limits
        Limits of time and size.

    Raises
    ------
    RemoteModelError
        If the file of certificates cannot be used.
    """

    def __init__(
        self,
        address: ModelAddress,
        *,
        token_file: Path | None = None,
        tls_ca: Path | None = None,
        limits: TransportLimits | None = None,
    ) -> None:
        self.name = f"remote model {address.url}"
        self._address, self._token_file = address, token_file
        self._limits = limits or TransportLimits()
        self._context: ssl.SSLContext | None = None
        if address.secure:
            try:
                self._context = ssl.create_default_context(cafile=None if tls_ca is None else str(tls_ca))
            except OSError as error:
                reason = error.strerror or "it holds no certificate"
                raise RemoteModelError(f"{self.name}: certificates {tls_ca}: {reason}") from error

    def ask(
        self,
        method: str,
        path: str,
        body: RequestBody | None = None,
        *,
        most_bytes: int | None = None,
        retries: int | None = None,
    ) -> HttpAnswer:
        """Send a request, again where the model does not answer, and read the whole answer.

        Parameters
        ----------
        method, path
            Method, and path of the contract.
        most_bytes
            Largest answer; None for that of the limits.
        retries
            Number of further attempts; None for that of the limits.

        Raises
        ------
        ModelUnavailable
            If no attempt was answered in time.
        RemoteModelError
            If the answer is none of HTTP, is too long, or the model's certificate is not trusted.
        """
        pause = self._limits.pause_seconds
        left = self._limits.retries if retries is None else retries
        while True:
            wait = pause
            try:
                answer = self._attempt(method, path, body, most_bytes or self._limits.answer_bytes)
                if answer.status not in _AGAIN:
                    return answer
                error = ModelUnavailable(f"{self.name}: it answers {answer.status} and can read nothing now")
                after = answer.headers.get("retry-after", "")
                wait = max(pause, float(after)) if after.isascii() and after.isdecimal() else pause
            except ModelUnavailable as failed:
                error = failed
            if left == 0:
                raise error
            time.sleep(min(wait, _LONGEST_PAUSE))
            left, pause = left - 1, 2 * pause

    def _attempt(self, method: str, path: str, body: RequestBody | None, most: int) -> HttpAnswer:
        headers = {"Accept": "application/json", "Accept-Encoding": "identity", "Connection": "close"}
        if self._token_file is not None:
            headers["Authorization"] = f"Bearer {self._token(self._token_file)}"
        if body is not None:
            headers |= {"Content-Type": body.content_type, "Content-Length": str(body.length)}
        connection = self._connection()
        try:
            connection.connect()
            deadline = _Deadline(self._limits.seconds)
            connection.response_class = _timed_response(deadline)
            pieces = None if body is None else _timed_pieces(connection, body.pieces, deadline)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                # A server may refuse a body before it has read all of it: its answer is there all the same.
                connection.request(method, f"{self._address.prefix}{path}", pieces, headers)
            with connection.getresponse() as response:
                return self._read(response, most)
        except TimeoutError as error:
            raise ModelUnavailable(f"{self.name}: it did not answer in time") from error
        except ssl.SSLCertVerificationError as error:
            raise RemoteModelError(
                f"{self.name}: its certificate is not trusted ({error.verify_message})"
            ) from error
        except (http.client.RemoteDisconnected, http.client.IncompleteRead) as error:
            raise ModelUnavailable(f"{self.name}: it ended the connection before its answer did") from error
        except OSError as error:
            reason = error.strerror or str(error)
            raise ModelUnavailable(f"{self.name}: it cannot be reached: {reason}") from error
        except (http.client.HTTPException, ValueError) as error:
            raise RemoteModelError(f"{self.name}: its answer is no HTTP: {type(error).__name__}") from error
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        seconds, address = self._limits.connect_seconds, self._address
        if self._context is None:
            return http.client.HTTPConnection(address.host, address.port, timeout=seconds)
        return http.client.HTTPSConnection(address.host, address.port, timeout=seconds, context=self._context)

    def _read(self, response: http.client.HTTPResponse, most: int) -> HttpAnswer:
        if 300 <= response.status < 400:
            raise RemoteModelError(
                f"{self.name}: it answers with a redirect ({response.status}), which is not followed: "
                "set the address that it leads to"
            )
        if response.getheader("Content-Encoding", "identity") != "identity":
            raise RemoteModelError(f"{self.name}: its answer is compressed, which was not asked for")
        too_long = f"{self.name}: its answer is longer than {most} bytes"
        if (response.length or 0) > most:
            raise RemoteModelError(too_long)
        content = bytearray()
        while piece := response.read(_PIECE_BYTES):
            content += piece
            if len(content) > most:
                raise RemoteModelError(too_long)
        if response.length:
            raise http.client.IncompleteRead(b"")
        kind = response.getheader("Content-Type", "").partition(";")[0].strip().lower()
        fields = {name.lower(): value for name, value in response.getheaders()}
        return HttpAnswer(response.status, kind, bytes(content), fields)

    def _token(self, file: Path) -> str:
        try:
            with file.open("rb") as opened:
                token = opened.read(_LONGEST_TOKEN + 1).strip().decode("ascii")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it holds other signs than ASCII"
            raise RemoteModelError(f"{self.name}: token file {file}: {reason}") from error
        if not token or len(token) > _LONGEST_TOKEN or not token.isprintable() or " " in token:
            raise RemoteModelError(f"{self.name}: token file {file} must hold one token and nothing else")
        return token


class _Deadline:
    """Point in time by which something must be done."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds that are left.

        Raises
        ------
        TimeoutError
            If there are none.
        """
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left


class _TimedReader(io.RawIOBase):
    """Raw reader of a socket, each of whose reads ends at the deadline."""

    def __init__(self, sock: socket.socket, deadline: _Deadline) -> None:
        self._socket, self._deadline = sock, deadline
        # A file of the socket keeps it open after the connection let it go.
        self._raw: Any = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._socket.settimeout(self._deadline.left())
        count: int | None = self._raw.readinto(buffer)
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _TimedSocket:
    """Socket as an HTTP response reads it."""

    def __init__(self, sock: socket.socket, deadline: _Deadline) -> None:
        self._socket, self._deadline = sock, deadline

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_TimedReader(self._socket, self._deadline))


def _timed_response(deadline: _Deadline) -> Any:
    """Return a class of responses that are read until a deadline."""

    class Response(http.client.HTTPResponse):
        def __init__(self, sock: socket.socket, *args: Any, **options: Any) -> None:
            super().__init__(_TimedSocket(sock, deadline), *args, **options)  # type: ignore[arg-type]

    return Response


def _timed_pieces(
    connection: http.client.HTTPConnection, pieces: Iterable[bytes], deadline: _Deadline
) -> Iterator[bytes]:
    for piece in pieces:
        connection.sock.settimeout(deadline.left())
        yield piece
