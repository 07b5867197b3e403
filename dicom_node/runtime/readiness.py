"""Tell whoever started this process that it can work now, as systemd's ``sd_notify(3)`` does."""

from __future__ import annotations

import os
import socket

VARIABLE = "NOTIFY_SOCKET"


def ready() -> None:
    """Send ``READY=1`` to the socket named by the environment; nothing happens when nobody asked."""
    address = os.environ.get(VARIABLE)
    if not address:
        return
    # A leading @ stands for the zero byte of Linux's abstract namespace.
    target = "\0" + address[1:] if address.startswith("@") else address
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        channel.sendto(b"READY=1", target)
