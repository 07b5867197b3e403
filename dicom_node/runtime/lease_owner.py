"""Lease owner: the process that holds a lease, named so that others can tell whether it is still alive."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path

_STARTTIME_FIELD = 19  # of /proc/PID/stat after the command name, proc(5)


@dataclass(frozen=True, slots=True)
class LeaseOwner:
    """Process that holds a lease.

    Attributes
    ----------
    host
        Name of its host.
    pid
        Process ID.
    started
        Start time in clock ticks after boot. Process IDs are reused; the pair of both is not.
    """

    host: str
    pid: int
    started: int

    @classmethod
    def this_process(cls) -> LeaseOwner:
        """Return the calling process as an owner."""
        pid = os.getpid()
        return cls(socket.gethostname(), pid, _started(pid))

    @classmethod
    def parse(cls, name: str) -> LeaseOwner:
        """Return the owner from its ``str()``."""
        host, pid, started = name.rsplit("/", 2)
        return cls(host, int(pid), int(started))

    def __str__(self) -> str:
        return f"{self.host}/{self.pid}/{self.started}"

    @property
    def dead(self) -> bool:
        """True when the process is known to have ended; False for a process of another host."""
        return self.host == socket.gethostname() and _started(self.pid) != self.started


def _started(pid: int) -> int:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return -1
    state, *fields = stat.rpartition(") ")[2].split()
    # A zombie has ended; its parent has not yet collected its exit code.
    return -1 if state == "Z" else int(fields[_STARTTIME_FIELD - 1])
