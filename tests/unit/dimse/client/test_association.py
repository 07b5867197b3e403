from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.dimse.client.association import readable_command
from tests.support.raw_association import command, parse_command

SUCCESS, PENDING = struct.pack("<H", 0), struct.pack("<H", 0xFF00)
NONE = struct.pack("<H", 0x0101)


def response(field: int, **elements: bytes) -> bytes:
    values = {0x0100: struct.pack("<H", field), 0x0120: b"\1\0", 0x0900: SUCCESS, 0x0800: NONE}
    return command({**values, **{int(tag[1:], 16): value for tag, value in elements.items()}})


@pytest.mark.parametrize("field", [0x8001, 0x8030, 0x8130, 0x8020, 0x8021])
@pytest.mark.parametrize("claimed", [b"\2\1", b"\0\0", NONE])
def test_a_final_response_has_no_data_set_whatever_it_claims(field: int, claimed: bytes) -> None:
    assert parse_command(readable_command(response(field, x0800=claimed)) or b"")[0x0800] == NONE


def test_a_response_may_leave_out_what_follows_from_its_kind() -> None:
    bare = command({0x0100: struct.pack("<H", 0x8001), 0x0900: SUCCESS})
    assert parse_command(readable_command(bare) or b"") == {
        **parse_command(response(0x8001)),
        0: struct.pack("<L", 40),
    }


def test_a_pending_match_has_a_data_set() -> None:
    match = readable_command(response(0x8020, x0900=PENDING, x0800=NONE))
    assert parse_command(match or b"")[0x0800] != NONE


def test_a_store_that_is_pending_is_waited_for() -> None:
    assert readable_command(response(0x8001, x0900=PENDING)) is None


def test_a_request_stays_as_it_is() -> None:
    request = command({0x0100: struct.pack("<H", 0x0100), 0x0110: b"\1\0", 0x0800: b"\1\0"})
    assert readable_command(request) == request


def test_a_group_length_that_is_wrong_or_absent_is_made() -> None:
    whole = response(0x8001)
    assert readable_command(whole[12:]) == whole
    assert readable_command(whole[:8] + bytes(4) + whole[12:]) == whole


@given(st.binary(max_size=100))
def test_bytes_are_read_or_refused(content: bytes) -> None:
    try:
        readable_command(content)
    except (struct.error, KeyError, ValueError):
        return
