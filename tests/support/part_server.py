"""Server that forks the parts of a node, so that they can be killed and started again many times a second.

It imports everything once. Each part is then a process of its own that runs what ``serve`` runs in its child
processes, over the same files, database and sockets.

Program: ``python -m tests.support.part_server FD``, FD the listening socket of the SCP; it reads names of
parts, one a line, and answers each with a process ID.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn, Self

from dicom_node.config.data_dir import DataDir
from dicom_node.config.settings import Settings, load_settings
from dicom_node.dimse.transport import bind
from dicom_node.runtime import logs
from dicom_node.store.index import Index
from tests.support.peers import ROOT, until

PARTS = ("scp", "scp", "sweep", "worker", "sender")
"""Parts of a node that are run, as ``serve`` runs them; without the reading room and the broker."""
_PR_SET_PDEATHSIG = 1


class PartServer:
    """Running parts of a node over one data directory; parts that are killed are started again.

    Parameters
    ----------
    data_dir
        Data directory; it is prepared.
    settings
        Settings in the form of environment variables; they must name a broker.

    Attributes
    ----------
    kills
        Number of processes that were killed, by part.
    """

    def __init__(self, data_dir: Path, settings: Mapping[str, str]) -> None:
        self.environment = {"DICOM_NODE_DATA_DIR": str(data_dir), **settings}
        opened = Settings(data_dir=data_dir)
        DataDir(opened).prepare(alone=True)
        Index.open(opened.database).close()
        self.log = data_dir.with_suffix(".log")
        self.kills: Counter[str] = Counter()
        self._listening = bind("127.0.0.1", 0)
        self.port = int(self._listening.getsockname()[1])
        with self.log.open("ab") as log:
            self._server = subprocess.Popen(
                [sys.executable, "-m", __name__, str(self._listening.fileno())],
                cwd=ROOT,
                env={**os.environ, **self.environment},
                pass_fds=[self._listening.fileno()],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self._running = [(part, self._start(part)) for part in PARTS]

    def _start(self, part: str) -> int:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(part + "\n")
        self._server.stdin.flush()
        return int(self._server.stdout.readline())

    def kill(self, *parts: str, chosen: random.Random | None = None) -> None:
        """Kill every process of some parts with SIGKILL at once, or one chosen of them; start them again."""
        victims = [entry for entry in self._running if entry[0] in parts]
        if chosen is not None:
            victims = [chosen.choice(victims)]
        for _, pid in victims:
            with contextlib.suppress(ProcessLookupError):  # a fault of the part: the log tells
                os.kill(pid, signal.SIGKILL)
        for part, pid in victims:
            until(lambda pid=pid: not Path(f"/proc/{pid}").exists(), 20, f"{part} has ended")
            self._running[self._running.index((part, pid))] = (part, self._start(part))
            self.kills[part] += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.kill()  # and the parts with it, as they asked the kernel
        self._server.communicate()
        for part, pid in self._running:
            until(lambda pid=pid: not Path(f"/proc/{pid}").exists(), 20, f"{part} has ended")
        self._listening.close()


def _run(part: str, settings: Settings, listen_fd: int, parent: int) -> NoReturn:
    """Be a part of the node until the end of this process."""
    from dicom_node.delivery.sender import run_sender
    from dicom_node.dimse.server.scp import run_scp
    from worker.sweep import run_sweep
    from worker.tasks import run_worker

    bodies = {
        "scp": lambda: run_scp(settings, listen_fd),
        "sweep": lambda: run_sweep(settings),
        "worker": lambda: run_worker(settings),
        "sender": lambda: run_sender(settings),
    }
    code = 1
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == parent:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.dup2(os.open(os.devnull, os.O_RDWR), 0)
            os.dup2(2, 1)
            bodies[part]()
            code = 0
    finally:
        os._exit(code)


def _serve(listen_fd: int) -> None:
    import worker.sweep
    import worker.tasks  # noqa: F401 - imported before the first fork, with torch

    settings = load_settings()
    logs.configure(settings.log_level, settings.log_format)
    logs.take_all()
    parent = os.getpid()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel collects the parts that end
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _run(line.strip(), settings, listen_fd, parent)
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
