"""Memory, processor time, descriptors and threads of the processes of a node."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import defaultdict
from pathlib import Path
from typing import Self

from tests.support.peers import Node, children_of


class ProcessUse:
    """Samples of a running node's processes, taken until the end of the block.

    Attributes
    ----------
    memory
        Resident memory in KiB by part, one for each sample: that of its largest process.
    descriptors
        Open file descriptors by part, likewise.
    threads
        Threads by part, likewise.
    """

    def __init__(self, node: Node, seconds: float = 0.5) -> None:
        self.memory: dict[str, list[int]] = defaultdict(list)
        self.descriptors: dict[str, list[int]] = defaultdict(list)
        self.threads: dict[str, list[int]] = defaultdict(list)
        self._node = node
        self._seconds = seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stop.is_set():
            for part, pids in self._node.children().items():
                with contextlib.suppress(OSError, StopIteration):
                    self.memory[part].append(max(map(resident, pids)))
                    self.descriptors[part].append(
                        max(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in pids)
                    )
                    self.threads[part].append(max(_status(pid, "Threads") for pid in pids))
            self._stop.wait(self._seconds)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def resident(pid: int) -> int:
    """Resident memory of a process, in KiB."""
    return _status(pid, "VmRSS")


def peak(pid: int) -> int:
    """Peak resident memory of a process, in MiB."""
    return _status(pid, "VmHWM") // 1024


def _status(pid: int, name: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1])


def cpu_seconds(pid: int) -> float:
    """Processor time of a process and of its children, those that have ended too, in seconds (proc(5))."""
    with contextlib.suppress(OSError):
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        own = sum(map(int, after_name[11:15])) / os.sysconf("SC_CLK_TCK")
        return own + sum(map(cpu_seconds, children_of(pid)))
    return 0.0
