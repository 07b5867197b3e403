"""Stop signal: SIGTERM or SIGINT as an event that threads wait for."""

from __future__ import annotations

import os
import signal
import threading


def stop_event() -> threading.Event:
    """Return an event that is set when SIGTERM or SIGINT comes; call it once, in the main thread.

    A handler in Python must not set it, for it runs in the main thread alone. One that waits without a time
    limit does not run it while the kernel gives the signal to another thread, and one that has just taken the
    lock of the event would wait for itself. So the handler in C writes a byte, and a thread that reads it
    sets the event.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(writer, False)
    stop = threading.Event()

    def watch() -> None:
        os.read(reader, 1)
        stop.set()

    threading.Thread(target=watch, name="stop-signal", daemon=True).start()
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)  # so that the signal is caught, and does nothing more
    return stop
