"""Event that a signal sets, whatever the main thread is doing."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from functools import partial

import pytest

from dicom_node.runtime.forked_process import ForkedProcess
from dicom_node.runtime.stop_signal import stop_event

SECONDS = 30
SIGNALS = [signal.SIGTERM, signal.SIGINT]


def to_process(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


def to_another_thread(number: signal.Signals) -> None:
    """Send a signal as the kernel does where the main thread has another one to take."""
    other = threading.Thread(target=time.sleep, args=(SECONDS,), daemon=True)
    other.start()
    signal.pthread_kill(other.ident or 0, number)


def wait_for(send: Callable[[], None]) -> None:
    stop = stop_event()
    threading.Timer(0.2, send).start()
    assert stop.wait()


@pytest.mark.parametrize("send", [to_process, to_another_thread])
@pytest.mark.parametrize("number", SIGNALS)
def test_a_main_thread_that_waits_goes_on(
    send: Callable[[signal.Signals], None], number: signal.Signals
) -> None:
    process = ForkedProcess(partial(wait_for, partial(send, number)))
    try:
        assert process.wait(SECONDS) == 0
    finally:
        process.kill()


def test_repeated_signals_change_nothing() -> None:
    def run() -> None:
        stop = stop_event()
        for number in 1000 * SIGNALS:
            to_process(number)
        assert stop.wait(SECONDS)

    assert ForkedProcess(run).wait(SECONDS) == 0
