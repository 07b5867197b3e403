from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RJ

from dicom_node.dimse.client.acceptance import readable_acceptance, readable_rejection
from tests.support.raw_association import ASSOCIATE_AC, ASSOCIATE_RJ, CR, EXPLICIT, item, pdu

FIXED = struct.pack(">HH16s16s32x", 1, 0, b"PACS".ljust(16), b"NODE".ljust(16))
APPLICATION = item(0x10, b"1.2.840.10008.3.1.1.1")
CONTEXT = item(0x21, bytes([1, 0, 0, 0]) + item(0x40, EXPLICIT.encode()))
MAXIMUM = item(0x51, struct.pack(">L", 32768))
IMPLEMENTATION = item(0x52, b"1.2.3.4")


def decoded(*items: bytes, fixed: bytes = FIXED) -> A_ASSOCIATE_AC:
    accepted = A_ASSOCIATE_AC()
    accepted.decode(readable_acceptance(pdu(ASSOCIATE_AC, fixed + b"".join(items))))
    accepted.to_primitive()
    return accepted


@pytest.mark.parametrize(
    "user",
    [
        MAXIMUM + IMPLEMENTATION,
        MAXIMUM + IMPLEMENTATION + item(0x55, b"PACS_VERSION_2026"),
        MAXIMUM + IMPLEMENTATION + item(0x55, b"PACS_1\0\0"),
        MAXIMUM + IMPLEMENTATION + item(0x55, "GRÖSSE".encode("latin-1")),
        MAXIMUM + IMPLEMENTATION + item(0x60, b"vendor"),
        MAXIMUM + item(0x52, b"1.2.3.4\0"),
        MAXIMUM + IMPLEMENTATION + item(0x54, struct.pack(">H", len(CR)) + CR.encode() + b"\0\1"),
        IMPLEMENTATION + MAXIMUM,
        MAXIMUM,
    ],
)
def test_what_the_node_does_not_read_is_left_out(user: bytes) -> None:
    accepted = decoded(APPLICATION, CONTEXT, item(0x50, user))
    assert accepted.user_information.maximum_length == 32768
    assert [str(each.transfer_syntax) for each in accepted.presentation_context] == [EXPLICIT]


@pytest.mark.parametrize("user", [b"", IMPLEMENTATION, item(0x51, b"\0\0\0\7"), item(0x51, b"\1")])
def test_a_maximum_length_that_is_absent_or_holds_no_message_is_assumed(user: bytes) -> None:
    assert decoded(CONTEXT, item(0x50, user)).user_information.maximum_length == 16384
    assert decoded(CONTEXT).user_information.maximum_length == 16384


def test_no_limit_and_a_low_one_stay() -> None:
    for length in (0, 128):
        user = item(0x50, item(0x51, struct.pack(">L", length)))
        assert decoded(CONTEXT, user).user_information.maximum_length == length


@pytest.mark.parametrize(
    "context",
    [
        bytes([1, 0, 0, 0]) + item(0x30, CR.encode()) + item(0x40, EXPLICIT.encode()),
        bytes([1, 0, 0, 0]) + item(0x40, EXPLICIT.encode() + b"\0"),
    ],
)
def test_a_context_is_read_whatever_stands_beside_its_transfer_syntax(context: bytes) -> None:
    accepted = decoded(APPLICATION, item(0x21, context), item(0x50, MAXIMUM))
    assert [str(each.transfer_syntax) for each in accepted.presentation_context] == [EXPLICIT]


def test_another_version_and_empty_titles_are_no_matter() -> None:
    decoded(CONTEXT, fixed=struct.pack(">HH", 3, 0) + bytes(64))


@given(st.binary(max_size=200))
def test_an_acceptance_is_read_or_refused(body: bytes) -> None:
    try:
        readable_acceptance(pdu(ASSOCIATE_AC, body))
    except (struct.error, ValueError):
        return


@given(st.binary(min_size=4, max_size=4))
def test_a_rejection_keeps_its_numbers(body: bytes) -> None:
    rejection, readable = readable_rejection(pdu(ASSOCIATE_RJ, body))
    assert f"({body[1]}/{body[2]}/{body[3]})" in str(rejection)
    rejected = A_ASSOCIATE_RJ()
    rejected.decode(readable)
    rejected.to_primitive()


def test_a_rejection_is_said_in_the_words_of_the_standard() -> None:
    said = str(readable_rejection(pdu(ASSOCIATE_RJ, bytes([0, 1, 1, 7])))[0])
    assert said == "association rejected (permanent): called AE title not recognised (1/1/7)"
