"""Forked process: a copy of this process that runs a function, with all that this process has imported.

To import the libraries of DICOM and of the database takes a second of processor time and 80 MB in each
process that does so by itself; a copy has them for nothing.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

_FORK = multiprocessing.get_context("fork")
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class ForkedProcess:
    """Copy of this process, in a process group of its own, with the interface of ``subprocess.Popen``.

    Its standard input is empty. It has the default signal handlers, and no descriptors but those that it is
    given. This process must have one thread of Python.

    Parameters
    ----------
    run
        Function that it runs; ``SystemExit`` ends it with an exit code, as it ends a program.
    descriptors
        Open file descriptors that it keeps, beside its standard input, output and error.

    Attributes
    ----------
    stdout
        None: it prints where this process does.
    """

    stdout = None

    def __init__(self, run: Callable[[], None], descriptors: Collection[int] = ()) -> None:
        others = [number for number in _open_descriptors() if number not in {0, 1, 2, *descriptors}]
        self._process = _FORK.Process(target=_run_as_program, args=(run, others))
        # A signal between the fork and the new handlers would run those of this process.
        with _blocked_signals(), warnings.catch_warnings():
            # Of threads: NumPy's sleep, and OpenBLAS makes them anew after a fork.
            warnings.simplefilter("ignore", DeprecationWarning)
            self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended; return its exit code, or the negative number of the signal that ended it.

        Raises
        ------
        subprocess.TimeoutExpired
            When it still runs after so many seconds.
        """
        self._process.join(timeout)
        if (code := self._process.exitcode) is None:
            raise subprocess.TimeoutExpired(self._process.name, timeout or 0.0)
        return code

    def terminate(self) -> None:
        """Send SIGTERM."""
        self._process.terminate()

    def kill(self) -> None:
        """Send SIGKILL."""
        self._process.kill()


def _open_descriptors() -> list[int]:
    found = []
    for entry in list(Path("/proc/self/fd").iterdir()):
        with contextlib.suppress(OSError):  # that of the listing is closed by now
            os.fstat(int(entry.name))
            found.append(int(entry.name))
    return found


@contextlib.contextmanager
def _blocked_signals() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _run_as_program(run: Callable[[], None], unwanted: Collection[int]) -> None:
    """Run a function in the copy, as if it were a program of its own."""
    os.setpgid(0, 0)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in unwanted:
        with contextlib.suppress(OSError):
            os.close(number)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    try:
        run()
    except Exception:  # noqa: BLE001 - the hook logs it; multiprocessing would print it
        sys.excepthook(*sys.exc_info())
        sys.exit(1)
