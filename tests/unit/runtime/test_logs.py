"""The log goes to standard error, wherever that is by then."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator

import pytest

from dicom_node.runtime import logs


@pytest.fixture(autouse=True)
def root() -> Iterator[None]:
    """Leave the log of the tests' own process as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
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
