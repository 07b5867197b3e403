from __future__ import annotations

import errno
import os
import select
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from dicom_node.errors import ConfigurationError, NodeError
from dicom_node.runtime import supervisor
from dicom_node.runtime.supervisor import ChildProcess, Supervisor
from tests.support.supervised_child import child


def until(condition: Callable[[], bool], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.02)


def interrupt_when(condition: Callable[[], bool]) -> threading.Thread:
    """Send this process SIGTERM, as an operator would, once something has happened."""

    def wait() -> None:
        try:
            until(condition)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


@pytest.mark.parametrize("copy", [False, True])
def test_children_start_by_stage_and_end_by_stop_stage(tmp_path: Path, copy: bool) -> None:
    log = tmp_path / "log"
    ready: list[bool] = []
    children = [
        child(log, "second", stage=1, stop_stage=0, copy=copy),
        child(log, "first", stage=0, stop_stage=1, extra="time.sleep(0.2)", copy=copy),
    ]
    thread = interrupt_when(lambda: bool(ready))
    Supervisor(children, lambda: ready.append(True)).run()
    thread.join()
    words = [" ".join(line.split()[:2]) for line in log.read_text().splitlines()]
    assert words == ["first started", "second started", "second ends", "first ends"]
    assert ready == [True]


@pytest.mark.parametrize("copy", [False, True])
def test_a_killed_child_is_started_again(tmp_path: Path, copy: bool) -> None:
    log = tmp_path / "log"

    def pids() -> list[int]:
        return [int(line.split()[2]) for line in log.read_text().splitlines() if "started" in line]

    thread = interrupt_when(lambda: log.exists() and len(pids()) == 2)
    Supervisor([child(log, "one", copy=copy)], lambda: os.kill(pids()[0], signal.SIGKILL)).run()
    thread.join()
    assert len(set(pids())) == 2


@pytest.mark.parametrize("copy", [False, True])
def test_a_child_that_finds_a_wrong_setting_ends_the_start(tmp_path: Path, copy: bool) -> None:
    bad = child(tmp_path / "log", "bad", extra="sys.exit(2)", copy=copy)
    with pytest.raises(ConfigurationError, match="bad could not start"):
        Supervisor([child(tmp_path / "log", "good", copy=copy), bad], lambda: None).run()


@pytest.mark.parametrize("copy", [False, True])
def test_a_child_that_is_never_ready_is_named(tmp_path: Path, copy: bool) -> None:
    slow = child(tmp_path / "log", "slow", extra="time.sleep(60)", copy=copy)
    with pytest.raises(NodeError, match="not ready after 1 s: slow"):
        Supervisor([slow], lambda: None, ready_seconds=1).run()


@pytest.mark.parametrize("copy", [False, True])
def test_a_child_that_does_not_listen_is_killed_in_time(tmp_path: Path, copy: bool) -> None:
    deaf = child(
        tmp_path / "log", "deaf", "signal.signal(signal.SIGTERM, signal.SIG_IGN)", stop_seconds=0.5, copy=copy
    )
    ready: list[bool] = []
    thread = interrupt_when(lambda: bool(ready))
    Supervisor([deaf], lambda: ready.append(True)).run()
    thread.join()
    assert "deaf ends" not in (tmp_path / "log").read_text()


def test_a_missing_program_is_one_sentence() -> None:
    with pytest.raises(ConfigurationError, match="ghost: /no/such/program: No such file"):
        Supervisor([ChildProcess("ghost", ("/no/such/program",))], lambda: None).run()


@pytest.mark.parametrize("copy", [False, True])
@pytest.mark.parametrize("short", ["processes", "descriptors"])
def test_a_child_that_cannot_be_started_again_at_once_is_started_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, copy: bool, short: str
) -> None:
    monkeypatch.setattr(supervisor, "_FIRST_PAUSE", 0.02)
    log, ready, failures = tmp_path / "log", [], []

    def fail(*_: object, **__: object) -> None:
        failures.append(short)
        raise OSError(errno.EAGAIN if short == "processes" else errno.EMFILE, "short")

    def refuse() -> None:
        ready.append(True)
        with monkeypatch.context() as patch:
            if short == "descriptors":
                patch.setattr(os, "pidfd_open", fail)
            elif copy:
                patch.setattr(supervisor, "ForkedProcess", fail)
            else:
                patch.setattr(supervisor.subprocess, "Popen", fail)
            os.kill(int(log.read_text().split()[2]), signal.SIGKILL)
            one = watch._running[0]
            until(lambda: select.select([one.pidfd], [], [], 0)[0] != [])
            watch._reap(one)
            one.start_at = 0
            watch._start_due()

    watch = Supervisor([child(log, "one", copy=copy)], refuse)
    thread = interrupt_when(
        lambda: failures != [] and log.read_text().count("started") == 2 and watch._running[0].ready
    )
    watch.run()
    thread.join()
    assert failures == [short]


def test_children_that_do_not_end_are_waited_for_together(tmp_path: Path) -> None:
    log, ready = tmp_path / "log", []
    deaf = "signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    children = [child(log, f"deaf-{n}", extra=deaf, copy=True, stop_seconds=1) for n in range(4)]
    thread = interrupt_when(lambda: bool(ready))
    began: list[float] = []
    Supervisor(children, lambda: (ready.append(True), began.append(time.monotonic()))).run()
    thread.join()
    assert time.monotonic() - began[0] < 3


@pytest.mark.parametrize("copy", [False, True])
def test_children_do_not_outlive_a_killed_supervisor(tmp_path: Path, copy: bool) -> None:
    log = tmp_path / "log"
    script = textwrap.dedent(
        f"""
        import sys
        sys.path.insert(0, {str(Path(__file__).resolve().parents[3])!r})
        from pathlib import Path
        from dicom_node.runtime.supervisor import Supervisor
        from tests.support.supervised_child import child
        orphan = child(Path({str(log)!r}), "orphan", copy={copy})
        Supervisor([orphan], lambda: print("ready", flush=True)).run()
        """
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.kill()
    process.wait()
    process.stdout.close()
    until(lambda: "orphan ends" in log.read_text())


def pids(log: Path) -> list[int]:
    return [int(line.split()[2]) for line in log.read_text().splitlines() if "started" in line]


@pytest.mark.parametrize("copy", [False, True])
def test_a_child_that_was_stopped_is_killed_and_started_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, copy: bool
) -> None:
    log = tmp_path / "log"
    alive = child(log, "one", "keep_alive()", silent_seconds=1, copy=copy)
    thread = interrupt_when(lambda: log.exists() and len(pids(log)) == 2)
    Supervisor([alive], lambda: os.kill(pids(log)[0], signal.SIGSTOP)).run()
    thread.join()
    assert "one gave no sign of life" in caplog.text
    assert not Path(f"/proc/{pids(log)[0]}").exists()


@pytest.mark.parametrize("copy", [False, True])
def test_a_child_that_does_no_work_is_killed_and_started_again(tmp_path: Path, copy: bool) -> None:
    log = tmp_path / "log"
    idle = child(
        log, "one", "keep_alive(lambda end=time.time() + 1: time.time() < end)", silent_seconds=1, copy=copy
    )
    thread = interrupt_when(lambda: log.exists() and len(pids(log)) == 2)
    Supervisor([idle], lambda: None).run()
    thread.join()


@pytest.mark.parametrize("copy", [False, True])
def test_a_child_whose_probe_fails_is_killed_and_started_again(tmp_path: Path, copy: bool) -> None:
    log = tmp_path / "log"
    answers = iter([True, True])
    probed = child(log, "one", silent_seconds=1, probe=lambda: next(answers, False), copy=copy)
    thread = interrupt_when(lambda: log.exists() and len(pids(log)) == 2)
    Supervisor([probed], lambda: None).run()
    thread.join()


def test_a_supervisor_that_was_stopped_itself_kills_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    log = tmp_path / "log"
    ahead = [0.0]
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + ahead[0])
    monkeypatch.setattr(supervisor, "time", clock)
    ready: list[float] = []

    def leap() -> None:
        ahead[0] = 3600
        ready.append(time.monotonic())

    alive = child(log, "one", "keep_alive()", silent_seconds=5)
    thread = interrupt_when(lambda: bool(ready) and time.monotonic() > ready[0] + 1)
    Supervisor([alive], leap).run()
    thread.join()
    assert "sign of life" not in caplog.text


def test_the_lines_of_a_child_are_relayed(tmp_path: Path) -> None:
    lines: list[str] = []
    printing = r"print('first\nsecond', flush=True); print('last', file=sys.stderr, flush=True)"
    speaks = child(tmp_path / "log", "one", printing, relay=lines.append)
    thread = interrupt_when(lambda: len(lines) == 3)
    Supervisor([speaks], lambda: None).run()
    thread.join()
    assert lines == ["first", "second", "last"]
