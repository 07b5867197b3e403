"""Readiness and heartbeat of a process, sent to the one that started it as ``sd_notify(3)`` does."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable

SOCKET_VARIABLE = "NOTIFY_SOCKET"
"""Environment variable with the address of the notification socket."""
WATCHDOG_VARIABLE = "WATCHDOG_USEC"
"""Environment variable with the silence after which this process is killed, in microseconds."""


def notify_ready() -> None:
    """Send ``READY=1`` to the socket of the environment variable; do nothing when it is not set."""
    _send(b"READY=1")


def keep_alive(works: Callable[[], bool] = lambda: True) -> None:
    """Start a thread that sends ``WATCHDOG=1`` four times as often as the environment variable asks for.

    A process that was stopped, or whose C code holds the interpreter, sends nothing and is killed. Nothing
    is started when the variable is not set.

    Parameters
    ----------
    works
        Function that returns whether this process does its work; while it does not, nothing is sent.
    """
    seconds = int(os.environ.get(WATCHDOG_VARIABLE) or 0) / 1e6
    if not seconds or not os.environ.get(SOCKET_VARIABLE):
        return

    def beat() -> None:
        with contextlib.suppress(ConnectionError, FileNotFoundError):  # who started this process is gone
            while True:
                if works():
                    _send(b"WATCHDOG=1")
                time.sleep(seconds / 4)

    threading.Thread(target=beat, name="heartbeat", daemon=True).start()


def _send(message: bytes) -> None:
    address = os.environ.get(SOCKET_VARIABLE)
    if not address:
        return
    # A leading @ stands for the zero byte of Linux's abstract namespace.
    target = "\0" + address[1:] if address.startswith("@") else address
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        channel.sendto(message, target)
