"""Checks of a PDU before it is decoded."""

from __future__ import annotations

import contextlib
import struct

from hypothesis import given
from hypothesis import strategies as st

from dicom_node.dimse.pdu import DataPDU, MalformedPDU, check_associate_request
from tests.support.raw_association import associate_rq, fragment


def test_pdvs_are_cut_out_of_a_p_data_without_a_copy() -> None:
    body = bytearray(fragment(1, 3, b"command") + fragment(5, 2, b"data set"))
    values = DataPDU(body).to_primitive().presentation_data_value_list
    assert [(number, bytes(value)) for number, value in values] == [(1, b"\3command"), (5, b"\2data set")]
    assert values[0][1].obj is body


@given(st.binary(max_size=300))
def test_any_p_data_is_taken_apart_or_malformed(content: bytes) -> None:
    try:
        values = DataPDU(bytearray(content)).to_primitive().presentation_data_value_list
    except MalformedPDU:
        return
    again = b"".join(struct.pack(">LB", len(value) + 1, number) + bytes(value) for number, value in values)
    assert again == content


@given(st.binary(max_size=600))
def test_any_association_request_is_acceptable_or_malformed(content: bytes) -> None:
    with contextlib.suppress(MalformedPDU):
        check_associate_request(bytearray(bytes(68) + content))


def test_a_rightful_association_request_is_acceptable() -> None:
    check_associate_request(bytearray(associate_rq()[6:]))
