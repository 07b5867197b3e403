"""The audit, repeated in the background: it looks at every file, which no page view may wait for."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from dicom_node.errors import NodeError
from dicom_node.store.audit import Audit

_LOG = logging.getLogger(__name__)
_LONGEST_SHARE = 20


@dataclass(frozen=True, slots=True)
class Finished:
    """One audit and the time of its end, in seconds since the epoch."""

    audit: Audit
    at: float


class Audits:
    """Runs an audit at once and then every so often, in a thread of its own.

    Parameters
    ----------
    run
        Makes one audit.
    seconds
        From the end of one to the start of the next; longer when an audit takes long, so that at most a
        twentieth of the time is spent on it.
    """

    def __init__(self, run: Callable[[], Audit], *, seconds: float = 60.0) -> None:
        self._run = run
        self._seconds = seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._repeat, name="audit", daemon=True)
        self.latest: Finished | None = None

    def start(self) -> None:
        """Begin the first audit."""
        self._thread.start()

    def stop(self) -> None:
        """Begin no further audit; one that runs is left to end with the process."""
        self._stop.set()

    def _repeat(self) -> None:
        pause = 0.0
        while not self._stop.wait(pause):
            began = time.monotonic()
            try:
                self.latest = Finished(self._run(), time.time())
            except NodeError as error:
                _LOG.warning("audit: %s", error)
            pause = max(self._seconds, _LONGEST_SHARE * (time.monotonic() - began))
