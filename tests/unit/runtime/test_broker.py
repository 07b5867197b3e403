"""Lines of the embedded broker in the log of the node."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from dicom_node.errors import ConfigurationError
from dicom_node.runtime import broker


@pytest.mark.parametrize(
    ("line", "level", "text"),
    [
        ("7:M 28 Nov 2026 09:24:57.575 # Can't open the append-only file", logging.WARNING, "Can't open the"),
        ("7:M 28 Nov 2026 09:24:57.575 * Ready to accept connections", logging.INFO, "Ready to accept"),
        (
            "7:C 28 Nov 2026 09:24:57.575 # WARNING Memory overcommit must be enabled! x",
            logging.DEBUG,
            "WARNING",
        ),
        ("7:signal-handler (1795857897) Received SIGTERM scheduling shutdown...", logging.DEBUG, "7:signal"),
        ("*** FATAL CONFIG FILE ERROR ***", logging.WARNING, "*** FATAL"),
    ],
)
def test_each_line_of_valkey_is_one_of_the_log(
    caplog: pytest.LogCaptureFixture, line: str, level: int, text: str
) -> None:
    caplog.set_level(logging.DEBUG)
    broker._log_line(line)
    broker._log_line("")
    (record,) = caplog.records
    assert record.levelno == level
    assert record.getMessage().startswith(text)


def test_a_folder_too_long_for_a_socket_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigurationError, match=r"more than 107 bytes; set TMPDIR to a folder with a shorter"
    ):
        broker.embedded_broker(tmp_path / ("long" * 30))
    assert not (tmp_path / "broker").exists()
