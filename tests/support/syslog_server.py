"""Syslog server over TLS (RFC 5425) that keeps what it is sent."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import threading
from typing import Self

from tests.support.certificates import Authority

FRAME = re.compile(rb"(\d+) ")


class SyslogServer:
    """Server that takes frames until its block ends; `port` 0 is any free one."""

    def __init__(
        self, authority: Authority, port: int = 0, host: str = "127.0.0.1", *, mutual: bool = False
    ) -> None:
        own = authority.issue(f"syslog-{host}", host)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(own.certificate, own.key)
        if mutual:
            self._context.verify_mode = ssl.CERT_REQUIRED
            self._context.load_verify_locations(authority.path)
        self._listening = socket.create_server(("127.0.0.1", port))
        self.port = int(self._listening.getsockname()[1])
        self.messages: list[bytes] = []
        self._connections: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                plain, _ = self._listening.accept()
                threading.Thread(target=self._serve, args=(plain,), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        with contextlib.suppress(OSError):
            connection = self._context.wrap_socket(plain, server_side=True)
            self._connections.append(connection)
            waiting = b""
            while chunk := connection.recv(65536):
                waiting += chunk
                while (found := FRAME.match(waiting)) and len(waiting) >= found.end() + int(found[1]):
                    self.messages.append(waiting[found.end() : found.end() + int(found[1])])
                    waiting = waiting[found.end() + int(found[1]) :]

    def drop(self) -> None:
        """End every connection."""
        for each in self._connections:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        self._connections.clear()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.drop()
        self._thread.join(5)
