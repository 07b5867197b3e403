"""Received PDUs before they are decoded."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom.pdu import A_ASSOCIATE_RQ
from pynetdicom.presentation import negotiate_as_acceptor

from dicom_node.dimse.contexts import presentation_contexts
from dicom_node.dimse.pdu import HEADER, AssociateRequest, DataPDU, MalformedPDU, ae_title
from tests.support.raw_association import associate_rq, fragment, item


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


def _decoded(request: AssociateRequest) -> A_ASSOCIATE_RQ:
    """Decode what the node makes of a request as pynetdicom does, up to the end of the negotiation."""
    decoded = A_ASSOCIATE_RQ()
    decoded.decode(HEADER.pack(1, len(request.readable)) + request.readable)
    primitive = decoded.to_primitive()
    negotiate_as_acceptor(primitive.presentation_context_definition_list, presentation_contexts())
    return decoded


@st.composite
def _items(draw: st.DrawFn) -> bytes:
    """Items of known and unknown types with any content, some of them nested."""
    kinds = st.sampled_from([0x10, 0x20, 0x30, 0x40, 0x50, *range(0x51, 0x59), 0x60])
    value = st.one_of(
        st.binary(max_size=12), st.sampled_from([b"1.2.840.10008.1.1", b"\0\x031.2\1\1", b"1.02"])
    )
    inner = st.lists(st.tuples(kinds, value), max_size=4).map(
        lambda found: b"".join(item(*each) for each in found)
    )
    outer = draw(st.lists(st.tuples(kinds, st.sampled_from([b"", b"\1\0\0\0"]), inner), max_size=5))
    return b"".join(item(kind, begin + content) for kind, begin, content in outer)


@given(st.binary(min_size=68, max_size=68), st.one_of(st.binary(max_size=300), _items()))
def test_any_association_request_is_readable_or_malformed(fixed: bytes, content: bytes) -> None:
    try:
        request = AssociateRequest.of(fixed + content)
    except MalformedPDU:
        return
    _decoded(request)


@given(st.binary(max_size=80))
def test_a_short_association_request_is_malformed(content: bytes) -> None:
    with pytest.raises(MalformedPDU):
        AssociateRequest.of(content)


def test_a_rightful_association_request_is_readable_as_it_is() -> None:
    body = associate_rq()[6:]
    request = AssociateRequest.of(body)
    assert request.readable == body
    assert request.oddities == ()
    assert (request.called_ae, request.calling_ae) == ("DICOM_NODE", "WIRE")
    assert _decoded(request).called_ae_title == "DICOM_NODE"


@pytest.mark.parametrize(
    ("encoded", "title"),
    [
        (b"CT1             ", "CT1"),
        (b"  CT1           ", "CT1"),
        (b"CT1\0\0\0\0\0\0\0\0\0\0\0\0\0", "CT1"),
        (b"CT1\0stack rubbish", "CT1"),
        (b"CT 1            ", "CT 1"),
        (b"R\xd6NTGEN         ", "R?NTGEN"),
        (b"A\\B\n             ", "A?B?"),
        (bytes(16), ""),
        (b" " * 16, ""),
    ],
)
def test_a_title_is_read_without_its_padding(encoded: bytes, title: str) -> None:
    assert ae_title(encoded) == title
