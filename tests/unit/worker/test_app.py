"""Celery application: what its worker logs when the broker ends it."""

from __future__ import annotations

import logging

import pytest
from redis.exceptions import ReadOnlyError

from worker.app import make_app

BROKER_ERROR = ReadOnlyError("You can't write against a read only replica.")


def log_as_celery(error: Exception) -> None:
    """Log as a worker does before it ends."""
    logging.getLogger("celery.worker").critical(
        "Unrecoverable error: %r", error, exc_info=(type(error), error, None)
    )


def test_a_broker_that_refuses_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    make_app("redis://127.0.0.1:1")
    make_app("redis://127.0.0.1:1")
    log_as_celery(BROKER_ERROR)
    (record,) = caplog.records
    assert record.getMessage() == f"Unrecoverable error: {BROKER_ERROR!r}"
    assert record.exc_info is None


def test_any_other_error_keeps_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    make_app("redis://127.0.0.1:1")
    log_as_celery(RuntimeError("a fault"))
    (record,) = caplog.records
    assert record.exc_info is not None
