"""Entrance of the DICOM port: who gives way, and what is logged of it."""

from __future__ import annotations

import pytest

from dicom_node.dimse.server.entrance import DropLog, crowding


@pytest.mark.parametrize(
    ("held", "expected"),
    [
        (["192.0.2.1 a"], "192.0.2.1 a"),
        (["192.0.2.1 a", "192.0.2.2 b"], "192.0.2.1 a"),
        (["192.0.2.1 a", "192.0.2.2 b", "192.0.2.2 c"], "192.0.2.2 b"),
        # An IPv6 host chooses among 2^64 addresses, which count as one.
        (["2001:db8::9 a", "2001:db8:0:1::1 b", "2001:db8:0:1::2 c"], "2001:db8:0:1::1 b"),
        (["192.0.2.1 a", "::ffff:192.0.2.2 b", "192.0.2.2 c"], "::ffff:192.0.2.2 b"),
    ],
)
def test_the_oldest_of_the_address_that_holds_the_most_gives_way(held: list[str], expected: str) -> None:
    assert crowding(held, lambda each: each.split()[0]) == expected


def test_a_flood_is_one_line_for_each_of_some_addresses(caplog: pytest.LogCaptureFixture) -> None:
    log = DropLog()
    for number in range(1000):
        log.add("192.0.2.1", "dropped")
        log.add(f"198.51.100.{number}", "dropped")
    lines = [record.getMessage() for record in caplog.records]
    assert lines.count("192.0.2.1: dropped") == 1
    assert len(lines) == 65
    assert lines[-1] == "further addresses: dropped"
