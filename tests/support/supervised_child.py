"""Child program for the tests of the supervisor."""

from __future__ import annotations

import os
import signal
import sys
import time
from functools import partial
from pathlib import Path
from typing import NoReturn

from dicom_node.runtime.readiness import keep_alive, notify_ready
from dicom_node.runtime.supervisor import ChildProcess

ROOT = Path(__file__).resolve().parents[2]
# The supervisor passes neither a working directory nor PYTHONPATH.
_START = "import sys; sys.path.insert(0, {root!r}); from {module} import main; main(*sys.argv[1:])"


def child(log: Path, name: str, extra: str = "", *, copy: bool = False, **fields: object) -> ChildProcess:
    """Program that logs its start and its end; `extra` is Python code that runs before it is ready.

    With `copy`, a copy of the supervisor does what the program does.
    """
    if copy:
        return ChildProcess(name, run=partial(main, str(log), name, extra), **fields)  # type: ignore[arg-type]
    start = _START.format(root=str(ROOT), module=__name__)
    return ChildProcess(name, (sys.executable, "-c", start, str(log), name, extra), **fields)  # type: ignore[arg-type]


def main(log: str, name: str, extra: str) -> NoReturn:
    """Run in the child until SIGTERM."""
    with Path(log).open("a", buffering=1) as lines:

        def end(*_: object) -> None:
            lines.write(f"{name} ends\n")
            sys.exit(0)

        signal.signal(signal.SIGTERM, end)
        lines.write(f"{name} started {os.getpid()}\n")
        exec(extra, {"keep_alive": keep_alive, "signal": signal, "sys": sys, "time": time})
        notify_ready()
        while True:
            time.sleep(0.05)
