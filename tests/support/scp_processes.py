"""SCP processes that share one listening socket, as the supervisor starts them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Self

from dicom_node.config.data_dir import DataDir
from dicom_node.config.settings import Settings
from dicom_node.dimse.transport import bind
from dicom_node.store.index import Index
from tests.support.peers import ROOT, until


class ScpProcesses:
    """Running SCP processes over one data directory, ready to receive.

    Parameters
    ----------
    data_dir
        Data directory.
    count
        Number of processes.
    log
        File that gets their log; None for one in the data directory.
    """

    program = "tests.support.scp_child"

    def __init__(self, data_dir: Path, count: int = 2, *, log: Path | None = None, **settings: str) -> None:
        self.settings = Settings(data_dir=data_dir)
        self.environment = {
            "DICOM_NODE_DATA_DIR": str(data_dir),
            "DICOM_NODE_DICOM__MIN_FREE_BYTES": "0",
            "DICOM_NODE_LOG_LEVEL": "WARNING",
            **{f"DICOM_NODE_{name.upper()}": value for name, value in settings.items()},
        }
        DataDir(self.settings).prepare()
        self.index = Index.open(self.settings.database)
        self.log = log or data_dir / "scp.log"
        self.listening = bind("127.0.0.1", 0)
        self.port = int(self.listening.getsockname()[1])
        self.processes = [self._start() for _ in range(count)]

    def _start(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", self.program, str(self.listening.fileno())],
                cwd=ROOT,
                env={**os.environ, **self.environment},
                pass_fds=[self.listening.fileno()],
                stderr=log,
            )

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self.processes]

    def stop(self, seconds: float = 20) -> list[int]:
        """End all processes with SIGTERM; returns their exit codes."""
        for process in self.processes:
            process.terminate()
        return [process.wait(seconds) for process in self.processes]

    def __enter__(self) -> Self:
        try:
            # Each answers the kernel's question whether it handles SIGTERM just before it listens.
            until(lambda: all(_handles(pid, signal.SIGTERM) for pid in self.pids), 120, "processes started")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
        self.listening.close()
        self.index.close()


def _handles(pid: int, number: int) -> bool:
    caught = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if "SigCgt" in line)
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)
