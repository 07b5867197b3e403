"""Lease owner: the process that holds a lease, named so that others can tell whether it is still alive."""

from __future__ import annotations

import contextlib
import functools
import os
import socket
from dataclasses import dataclass
from pathlib import Path

_STARTTIME_FIELD = 19  # of /proc/PID/stat after the command name, proc(5)
_BOOT_DIGITS = 16
"""Digits of the boot ID that are kept: with them a name fits the columns of the index."""


@dataclass(frozen=True, slots=True)
class LeaseOwner:
    """Process that holds a lease.

    Containers share names and process IDs, and copies of a virtual machine their host name. Whether a process
    has ended is therefore only said of one that ran under the same kernel and in the same PID namespace.

    Attributes
    ----------
    host
        Name of its host.
    pid
        Process ID, within its namespace.
    started
        Start time in clock ticks after boot. Process IDs are reused; the pair of both is not.
    boot
        First digits of the kernel's boot ID (random(4)); empty when it is not known.
    namespace
        Inode number of its PID namespace (pid_namespaces(7)); 0 when it is not known.
    """

    host: str
    pid: int
    started: int
    boot: str = ""
    namespace: int = 0

    @classmethod
    def this_process(cls) -> LeaseOwner:
        """Return the calling process as an owner."""
        pid = os.getpid()
        return cls(socket.gethostname(), pid, _started(pid), _boot(), _namespace())

    @classmethod
    def parse(cls, name: str) -> LeaseOwner:
        """Return the owner from its ``str()``; earlier versions wrote neither boot ID nor namespace."""
        host, *place, pid, started = name.rsplit("/", 4)
        boot, namespace = place if len(place) == 2 else ("", "0")
        return cls(host, int(pid), int(started), boot, int(namespace))

    def __str__(self) -> str:
        return f"{self.host}/{self.boot}/{self.namespace}/{self.pid}/{self.started}"

    @property
    def dead(self) -> bool:
        """True when the process is known to have ended; False for one that cannot be seen from here."""
        return self._visible and _started(self.pid) != self.started

    @property
    def alive(self) -> bool:
        """True when the process is known to run; False for one that cannot be seen from here."""
        return self._visible and _started(self.pid) == self.started

    @property
    def _visible(self) -> bool:
        return bool(self.boot) and (self.boot, self.namespace) == (_boot(), _namespace())


@functools.cache
def _boot() -> str:
    with contextlib.suppress(OSError):
        text = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
        return text.strip().replace("-", "")[:_BOOT_DIGITS]
    return ""


def _namespace() -> int:
    with contextlib.suppress(OSError):
        return Path("/proc/self/ns/pid").stat().st_ino
    return 0


def _started(pid: int) -> int:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return -1
    state, *fields = stat.rpartition(") ")[2].split()
    # A zombie has ended; its parent has not yet collected its exit code.
    return -1 if state == "Z" else int(fields[_STARTTIME_FIELD - 1])
