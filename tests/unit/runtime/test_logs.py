"""The log goes to standard error, wherever that is by then."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import sys
import threading
import warnings
from collections.abc import Iterator

import pytest

from dicom_node.runtime import logs


@pytest.fixture(autouse=True)
def root() -> Iterator[None]:
    """Leave the log of the tests' own process as it was."""
    root = logging.getLogger()
    handlers, level, hooks = root.handlers[:], root.level, (sys.excepthook, threading.excepthook)
    yield
    sys.excepthook, threading.excepthook = hooks
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)


def test_the_log_outlives_the_stream_that_it_began_on(capsys: pytest.CaptureFixture[str]) -> None:
    log = logging.getLogger("dicom_node")
    with io.StringIO() as first, contextlib.redirect_stderr(first):
        logs.configure("INFO", "text")
        log.info("before")
        assert first.getvalue().endswith("- before\n")
    log.info("after")
    assert capsys.readouterr().err.splitlines()[-1].endswith("- after")


def test_warnings_and_errors_that_nobody_caught_are_lines_of_the_log(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.configure("INFO", "json")
    logs.take_all()
    assert logs.is_json()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("a library warns", stacklevel=1)

    def fail() -> None:
        raise ValueError("nobody caught this")

    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    sys.excepthook(ValueError, ValueError("nor this"), None)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert "a library warns" in lines[0]["message"]
    assert [line["exception"].splitlines()[-1] for line in lines[1:]] == [
        "ValueError: nobody caught this",
        "ValueError: nor this",
    ]


def test_an_outage_is_said_at_its_begin_and_at_its_end(caplog: pytest.LogCaptureFixture) -> None:
    outage = logs.Outage(logging.getLogger("test"), "the broker", "start it")
    outage.end()
    for _ in range(3):
        outage.begin(OSError("refused"))
    outage.end()
    outage.end()
    assert [record.getMessage() for record in caplog.records] == [
        "the broker does not answer: refused; start it",
        "the broker answers again",
    ]
