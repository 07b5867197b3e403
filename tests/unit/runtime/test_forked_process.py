"""Copies of a process: how they end, and what they keep of it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dicom_node.runtime.forked_process import ForkedProcess

SECONDS = 30


def raised(error: BaseException) -> Callable[[], None]:
    def run() -> None:
        raise error

    return run


@pytest.mark.parametrize(
    ("run", "code"),
    [
        (lambda: None, 0),
        (raised(SystemExit()), 0),
        (raised(SystemExit(3)), 3),
        (raised(KeyError("x")), 1),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), -signal.SIGKILL),
        (lambda: os.kill(os.getpid(), signal.SIGTERM), -signal.SIGTERM),
    ],
)
def test_it_ends_as_a_program_does(run: Callable[[], None], code: int) -> None:
    assert ForkedProcess(run).wait(SECONDS) == code


def test_an_error_goes_to_the_hook_of_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "log"
    monkeypatch.setattr(sys, "excepthook", lambda *found: log.write_text(str(found[1])))
    ForkedProcess(raised(ValueError("no such thing"))).wait(SECONDS)
    assert log.read_text() == "no such thing"


@pytest.fixture
def asleep() -> Iterator[ForkedProcess]:
    process = ForkedProcess(lambda: time.sleep(600))
    yield process
    process.kill()
    process.wait(SECONDS)


def test_its_end_is_waited_for_no_longer_than_told(asleep: ForkedProcess) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        asleep.wait(0.05)


@pytest.mark.parametrize("send", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_whatever_this_process_does_with_it(send: signal.Signals) -> None:
    previous = signal.signal(send, signal.SIG_IGN)
    try:
        process = ForkedProcess(lambda: time.sleep(600))
    finally:
        signal.signal(send, previous)
    os.kill(process.pid, send)
    assert process.wait(SECONDS) in (-send, 1)


def test_what_this_process_blocks_is_as_before() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    ForkedProcess(lambda: None).wait(SECONDS)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before


def test_it_keeps_only_the_descriptors_that_it_is_given(tmp_path: Path) -> None:
    said = tmp_path / "said"
    kept, other = os.pipe()

    def run() -> None:
        lines = []
        for entry in list(Path("/proc/self/fd").iterdir()):
            with contextlib.suppress(OSError):  # that of the listing
                lines.append(f"{entry.name} {entry.readlink()}")
        said.write_text("\n".join(lines))

    try:
        assert ForkedProcess(run, [kept]).wait(SECONDS) == 0
    finally:
        os.close(kept)
        os.close(other)
    found = dict(line.split(" ", 1) for line in said.read_text().splitlines())
    assert found["0"] == os.devnull
    assert str(kept) in found
    assert str(other) not in found


def test_it_is_the_leader_of_its_own_process_group(asleep: ForkedProcess) -> None:
    deadline = time.monotonic() + SECONDS
    while os.getpgid(asleep.pid) != asleep.pid:
        assert time.monotonic() < deadline


def test_threads_of_it_end_before_it_does(tmp_path: Path) -> None:
    def run() -> None:
        threading.Timer(0.2, (tmp_path / "ended").touch).start()

    assert ForkedProcess(run).wait(SECONDS) == 0
    assert (tmp_path / "ended").exists()
