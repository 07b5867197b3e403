"""SCP process that kills itself at one step of a reception: ``python -m tests.support.killed_scp_child FD``.

The environment names the step, ``KILL_AT``, and a file, ``KILL_FLAG``: while that is there, whoever comes to
the step kills the process.
"""

from __future__ import annotations

import os
import runpy
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dicom_node.dimse.server.messages import MessageExchange
from dicom_node.store import files, index
from tests.support.scp_processes import ScpProcesses

# Each step with the function at which it is: where it stands, its name, and whether it has ended by then.
STEPS: dict[str, tuple[Any, str, bool]] = {
    "before the file is synced": (files, "_sync_file", False),
    "after the file is synced": (files, "_sync_file", True),
    "before it gets its place": (os, "link", False),
    "before its folder is synced": (files, "sync_folder", False),
    "after its folder is synced": (files, "sync_folder", True),
    "before the rows are added": (index, "add_instances", False),
    "before the rows are committed": (index, "add_instances", True),
    "after the rows are committed": (index.Index, "_add", True),
    "before an answer": (MessageExchange, "answer", False),
    "between the answers": (MessageExchange, "answer", True),
}


class KilledScpProcesses(ScpProcesses):
    """SCP process that kills itself at a step, once it is told to."""

    program = "tests.support.killed_scp_child"

    def __init__(self, data_dir: Path, step: str) -> None:
        self.flag = data_dir / "kill"
        os.environ |= {"KILL_AT": step, "KILL_FLAG": str(self.flag)}
        try:
            super().__init__(data_dir, count=1)
        finally:
            del os.environ["KILL_AT"], os.environ["KILL_FLAG"]


def _kill_at(step: str, flag: Path) -> None:
    owner, name, ended = STEPS[step]
    function: Callable[..., Any] = getattr(owner, name)

    def killed(*args: Any, **options: Any) -> Any:
        if not ended and flag.exists():
            os.kill(os.getpid(), signal.SIGKILL)
        outcome = function(*args, **options)
        if ended and flag.exists():
            os.kill(os.getpid(), signal.SIGKILL)
        return outcome

    setattr(owner, name, killed)


if __name__ == "__main__":
    _kill_at(os.environ["KILL_AT"], Path(os.environ["KILL_FLAG"]))
    runpy.run_module("tests.support.scp_child", run_name="__main__")
