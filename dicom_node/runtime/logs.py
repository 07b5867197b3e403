"""Logs without patient data: one line for each event, with the study that it concerns.

A study is named by the first eight digits of the SHA-256 of its UID, never by the UID itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import sys
import threading
import time
from collections.abc import Iterator
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Final, Literal, TextIO

from dicom_node.runtime.printable import printable

_STUDY: ContextVar[str] = ContextVar("study", default="-")
_LONGEST: Final = 4096  # characters of a line
_QUIET = {
    "alembic": logging.WARNING,
    # Two lines a study, and two for each try to reach a broker that is away: the node's own lines say both.
    "celery": logging.CRITICAL,
    "kombu": logging.CRITICAL,
    "pydicom": logging.ERROR,
    "pynetdicom": logging.ERROR,
}


def uid_hash(uid: str) -> str:
    """Return the first eight hexadecimal digits of a UID's SHA-256, which logs may show."""
    return hashlib.sha256(uid.encode("utf-8", "replace")).hexdigest()[:8]


@contextlib.contextmanager
def study(uid: str) -> Iterator[None]:
    """Return a context in which every log line names a study."""
    token = _STUDY.set(uid_hash(uid))
    try:
        yield
    finally:
        _STUDY.reset(token)


def _message(record: logging.LogRecord) -> str:
    """Return the message as one line, whatever others wrote into it."""
    return printable(record.getMessage(), _LONGEST)


def _trace(text: str, indent: str = "") -> str:
    """Return a traceback in which each line is one; indented, none looks like a line of the log."""
    return "\n".join(indent + printable(line, _LONGEST) for line in text.split("\n"))


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{record.msecs:03.0f}Z",
            "level": record.levelname,
            "process": record.process,
            "logger": record.name,
            "study": _STUDY.get(),
            "message": _message(record),
        }
        if record.exc_info:
            line["exception"] = _trace(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False)


class _Text(logging.Formatter):
    converter = staticmethod(time.gmtime)

    def __init__(self) -> None:
        super().__init__(
            "%(asctime)s.%(msecs)03dZ %(levelname)-7s %(name)s[%(process)d] %(study)s %(message)s",
            datefmt="%Y-%m-%dT%H:%M:%S",
        )

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        record.study = _STUDY.get()
        record.message = _message(record)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802
        return _trace(super().formatException(ei), "  ")


class _Stderr(logging.StreamHandler[TextIO]):
    """Handler that looks up standard error for each line: other code may replace it and close it."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


def configure(level: str, style: Literal["text", "json"]) -> None:
    """Send the log of this process to standard error.

    Parameters
    ----------
    level
        Name of the lowest level that is written.
    style
        ``text`` for people, ``json`` for machines.
    """
    handler = _Stderr()
    handler.setFormatter(_Json() if style == "json" else _Text())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name, lowest in _QUIET.items():
        logging.getLogger(name).setLevel(lowest)


def take_all() -> None:
    """Log the warnings of this process, and the errors that nobody catches; the main program calls it."""
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught
    threading.excepthook = lambda ended: _log_uncaught(ended.exc_type, ended.exc_value, ended.exc_traceback)


def is_json() -> bool:
    """Return whether the log of this process is written as JSON."""
    return any(isinstance(handler.formatter, _Json) for handler in logging.getLogger().handlers)


def _log_uncaught(
    kind: type[BaseException], error: BaseException | None, trace: TracebackType | None
) -> None:
    if error is None or issubclass(kind, SystemExit | KeyboardInterrupt):
        return
    logging.getLogger("dicom_node").critical("ended by an error", exc_info=(kind, error, trace))


class Outage:
    """Outage of a service: its begin is logged once, and its end once, however often it is tried between.

    Parameters
    ----------
    log
        Logger of the process that needs the service.
    name
        Name of the service in sentences, such as "the broker".
    remedy
        What to do, as a clause.

    Attributes
    ----------
    began
        Whether the service was away when it was last tried.
    """

    def __init__(self, log: logging.Logger, name: str, remedy: str) -> None:
        self._log = log
        self._name = name
        self._remedy = remedy
        self.began = False

    def begin(self, error: object) -> None:
        """Say that the service does not answer, unless that was said before."""
        if not self.began:
            self._log.error("%s does not answer: %s; %s", self._name, error, self._remedy)
        self.began = True

    def end(self) -> None:
        """Say that the service answers again, if it did not."""
        if self.began:
            self._log.warning("%s answers again", self._name)
        self.began = False
