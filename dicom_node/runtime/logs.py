"""Logs without patient data: one line for each event, with the study that it concerns.

A study is named by the first eight digits of the SHA-256 of its UID, never by the UID itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import sys
import time
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Literal, TextIO

_STUDY: ContextVar[str] = ContextVar("study", default="-")
_QUIET = {"pynetdicom": logging.ERROR, "pydicom": logging.ERROR, "alembic": logging.WARNING}


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


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{record.msecs:03.0f}Z",
            "level": record.levelname,
            "process": record.process,
            "logger": record.name,
            "study": _STUDY.get(),
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class _Text(logging.Formatter):
    converter = staticmethod(time.gmtime)

    def __init__(self) -> None:
        super().__init__(
            "%(asctime)s.%(msecs)03dZ %(levelname)-7s %(name)s[%(process)d] %(study)s %(message)s",
            datefmt="%Y-%m-%dT%H:%M:%S",
        )

    def format(self, record: logging.LogRecord) -> str:
        record.study = _STUDY.get()
        return super().format(record)


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
