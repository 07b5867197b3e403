"""Lanes: a few decoder processes that all requests share, so that one of them never takes everything.

Each lane is a thread with a decoder process of its own, since the process ends with the thread that started
it. A film waits for the lane that is free first.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ClassVar, Final, TypeVar

from dicom_node.config.sections import WorkerSettings
from dicom_node.errors import NodeError
from dicom_node.imaging.decoder import Decoder

_WAITING: Final = 12
"""Most films that wait for a lane; each holds one of the 40 threads that answer requests."""

Value = TypeVar("Value")


class Busy(NodeError):
    """Error because the node decodes or reads as much for others as it may; a request is answered 503."""

    retryable: ClassVar[bool] = True


class Lanes:
    """Decoder processes that decode films in the order in which they were asked for.

    Parameters
    ----------
    settings
        Limits of a film.
    decode_bytes
        Address space of each process, in bytes.
    count
        Number of processes.
    name
        Name of the threads.
    """

    def __init__(self, settings: WorkerSettings, decode_bytes: int, count: int, name: str) -> None:
        self._settings = settings
        self._bytes = decode_bytes
        self._own = threading.local()
        self._decoders: list[Decoder] = []
        self._places = threading.BoundedSemaphore(count + _WAITING)
        self._threads = ThreadPoolExecutor(count, name, initializer=self._begin)

    def _begin(self) -> None:
        self._own.decoder = Decoder(
            max_pixels=self._settings.max_pixels,
            decode_seconds=self._settings.decode_seconds,
            decode_bytes=self._bytes,
        )
        self._decoders.append(self._own.decoder)

    def warm(self) -> None:
        """Start one process without waiting for it, so that the first film is fast."""
        # The result is ignored: if the process does not start, the next request for a film gets the error.
        self._threads.submit(lambda: self._own.decoder.warm())  # noqa: PLW0108 - of the thread that runs it

    def run(self, work: Callable[[Decoder], Value], until: float) -> Value:
        """Return what a function makes with a decoder; it may take time and memory, for few run at once.

        Parameters
        ----------
        work
            Function to call.
        until
            Time by the monotonic clock after which nobody waits for the result.

        Raises
        ------
        Busy
            When too many films wait already, or the time is over.
        Exception
            What the function raises.
        """
        if time.monotonic() >= until or not self._places.acquire(blocking=False):
            raise Busy("too many films are being decoded; try again later")
        try:
            found: Future[Value] = self._threads.submit(lambda: work(self._own.decoder))
        except RuntimeError:  # the lanes are being closed
            self._places.release()
            raise Busy("the page is being stopped") from None
        found.add_done_callback(lambda _: self._places.release())
        try:
            return found.result(max(0.0, until - time.monotonic()))
        except TimeoutError:
            found.cancel()
            raise Busy("the films of one answer take too long to decode; ask for fewer") from None

    def close(self) -> None:
        """Stop the processes."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for each in self._decoders:
            each.close()
