"""Readiness notification to the process that started this one, by the protocol of ``sd_notify(3)``."""

from __future__ import annotations

import os
import socket

SOCKET_VARIABLE = "NOTIFY_SOCKET"
"""Environment variable with the address of the notification socket."""


def notify_ready() -> None:
    """Send ``READY=1`` to the socket of the environment variable; do nothing when it is not set."""
    address = os.environ.get(SOCKET_VARIABLE)
    if not address:
        return
    # A leading @ stands for the zero byte of Linux's abstract namespace.
    target = "\0" + address[1:] if address.startswith("@") else address
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        channel.sendto(b"READY=1", target)
