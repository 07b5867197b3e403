"""Who holds a lease: one process, named so that another on the same host can tell whether it still lives."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path

_STARTTIME_FIELD = 19  # of /proc/PID/stat after the command name, proc(5)


@dataclass(frozen=True, slots=True)
class Owner:
    """A process.

    Attributes
    ----------
    host
        Its host name.
    pid
        Its process id.
    started
        Clock ticks after boot at which it started: process ids are used again, this pair is not.
    """

    host: str
    pid: int
    started: int

    @classmethod
    def this_process(cls) -> Owner:
        """Return the calling process."""
        pid = os.getpid()
        return cls(socket.gethostname(), pid, _started(pid))

    @classmethod
    def parse(cls, name: str) -> Owner:
        """Return the owner that ``str()`` wrote."""
        host, pid, started = name.rsplit("/", 2)
        return cls(host, int(pid), int(started))

    def __str__(self) -> str:
        return f"{self.host}/{self.pid}/{self.started}"

    @property
    def dead(self) -> bool:
        """Whether it is known to have ended; False for a process of another host."""
        return self.host == socket.gethostname() and _started(self.pid) != self.started


def _started(pid: int) -> int:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return -1
    state, *fields = stat.rpartition(") ")[2].split()
    # A zombie has ended: only its parent has not looked yet.
    return -1 if state == "Z" else int(fields[_STARTTIME_FIELD - 1])
