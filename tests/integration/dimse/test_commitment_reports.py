"""N-EVENT-REPORT as the receiver takes it: rightful, malformed, oversized, of strangers, and out of place."""

from __future__ import annotations

import contextlib
import struct
from io import BytesIO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom.ae import ApplicationEntity
from pynetdicom.dsutils import encode
from pynetdicom.presentation import build_context, build_role

from dicom_node.dimse.commitment import (
    InstanceReference,
    action_information,
    decode_event_information,
    read_event_information,
)
from dicom_node.errors import BadInstance
from dicom_node.store.commitments import CommitmentOutcome
from tests.support.peers import until
from tests.support.raw_association import (
    ABORT,
    IMPLICIT,
    VERIFICATION,
    Answer,
    RawAssociation,
    command,
    even,
    message,
)
from tests.support.receiver import Receiver

PUSH_MODEL, INSTANCE = "1.2.840.10008.1.20.1", "1.2.840.10008.1.20.1.1"
CONTEXTS = ((1, VERIFICATION, [IMPLICIT]), (3, PUSH_MODEL, [IMPLICIT]))
REFERENCES = [InstanceReference("1.2.3", f"2.25.{number}", "1.2", "1.3") for number in range(3)]


def event_rq(event_type: int | None = 1, *, data_set: bool = True) -> bytes:
    elements = {
        0x0002: even(PUSH_MODEL.encode()),
        0x0100: struct.pack("<H", 0x0100),
        0x0110: struct.pack("<H", 7),
        0x0800: struct.pack("<H", 1 if data_set else 0x0101),
        0x1000: even(INSTANCE.encode()),
    }
    if event_type is not None:
        elements[0x1002] = struct.pack("<H", event_type)
    return command(elements)


def information(ds: Dataset) -> bytes:
    return encode(ds, True, True) or b""


def reported(receiver: Receiver, request_: bytes, data_set: bytes | None, context_id: int = 3) -> Answer:
    with receiver.associated(contexts=CONTEXTS) as wire:
        wire.write(message(request_, data_set, context_id=context_id))
        answer = wire.answer()
        assert wire.echo().status == 0, "the association goes on"
        wire.release()
    return answer


@pytest.mark.parametrize("event_type", [0, 3, 0xFFFF, None])
def test_other_events_are_told_apart(receiver: Receiver, event_type: int | None) -> None:
    answer = reported(receiver, event_rq(event_type), information(action_information("2.25.9", REFERENCES)))
    assert (answer.status, answer.operation, answer.message_id) == (0x0113, 0x8100, 7)


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"",
        b"\xff" * 100,
        information(action_information("2.25.9", REFERENCES)),  # of nobody's transaction
        information(action_information("2.25.9", REFERENCES))[:-9],
        information(action_information("", REFERENCES)),
    ],
    ids=["none", "empty", "noise", "unknown", "cut", "nameless"],
)
def test_what_cannot_be_read_or_is_unknown_is_an_invalid_argument(
    receiver: Receiver, content: bytes | None
) -> None:
    assert reported(receiver, event_rq(data_set=content is not None), content).status == 0x0115


def test_the_peer_may_take_the_role_of_the_scp(receiver: Receiver) -> None:
    ae = ApplicationEntity("ARCHIVE")
    association = ae.associate(
        "127.0.0.1",
        receiver.port,
        [build_context(PUSH_MODEL)],
        ae_title="DICOM_NODE",
        ext_neg=[build_role(PUSH_MODEL, scp_role=True)],
    )
    answered = association.acceptor.role_selection[UID(PUSH_MODEL)]
    assert (answered.scu_role, answered.scp_role) == (False, True)
    association.release()


def test_an_event_of_another_service_is_not_served(receiver: Receiver) -> None:
    content = information(action_information("2.25.9", REFERENCES))
    assert reported(receiver, event_rq(), content, context_id=1).status == 0x0211


def test_a_request_to_commit_is_not_served(receiver: Receiver) -> None:
    """The node promises nobody to keep anything."""
    n_action = command(
        {
            0x0003: even(PUSH_MODEL.encode()),
            0x0100: struct.pack("<H", 0x0130),
            0x0110: struct.pack("<H", 7),
            0x0800: struct.pack("<H", 1),
            0x1001: even(INSTANCE.encode()),
            0x1008: struct.pack("<H", 1),
        }
    )
    assert (
        reported(receiver, n_action, information(action_information("2.25.9", REFERENCES))).status == 0x0211
    )


def test_a_report_that_is_too_large_is_aborted(receiver: Receiver) -> None:
    with receiver.associated(contexts=CONTEXTS) as wire:
        wire.write(message(event_rq(), bytes((1 << 20) + 2), context_id=3))
        assert wire.read()[0] == ABORT
        assert wire.closed()
    until(receiver.idle, 10, "nothing is left of it")


def test_a_report_that_breaks_off_leaves_nothing(receiver: Receiver) -> None:
    whole = message(event_rq(), information(action_information("2.25.9", REFERENCES)), context_id=3)
    with RawAssociation(receiver.port) as wire:
        wire.associate(contexts=CONTEXTS)
        wire.write(whole[:-20])
    until(receiver.idle, 10, "nothing is left of it")


# -- reading ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_a_report_reads_back_what_was_asked(syntax: UID) -> None:
    ds = action_information("2.25.9", REFERENCES[:2])
    ds.FailedSOPSequence = action_information("", REFERENCES[2:]).ReferencedSOPSequence
    ds.FailedSOPSequence[0].FailureReason = 0x0112
    encoded = encode(ds, syntax.is_implicit_VR, syntax.is_little_endian)
    assert encoded is not None
    report = decode_event_information(encoded, syntax)
    assert report.transaction_uid == "2.25.9"
    assert {uid: each.outcome for uid, each in report.answers.items()} == {
        "2.25.0": CommitmentOutcome.KEPT,
        "2.25.1": CommitmentOutcome.KEPT,
        "2.25.2": CommitmentOutcome.LOST,
    }


def test_what_is_said_to_be_kept_and_to_have_failed_has_failed() -> None:
    ds = action_information("2.25.9", REFERENCES)
    ds.FailedSOPSequence = action_information("", REFERENCES[:1]).ReferencedSOPSequence
    answers = read_event_information(ds).answers
    assert answers["2.25.0"].outcome is CommitmentOutcome.UNDECIDED
    assert answers["2.25.0"].text
    assert answers["2.25.1"].outcome is CommitmentOutcome.KEPT


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_no_bytes_break_the_reader(data: st.DataObject) -> None:
    whole = bytearray(information(action_information("2.25.9", REFERENCES)))
    for _ in range(data.draw(st.integers(0, 8))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    for syntax in (ImplicitVRLittleEndian, ExplicitVRLittleEndian):
        with contextlib.suppress(BadInstance):
            assert decode_event_information(cut, syntax).transaction_uid


def test_a_request_names_every_result_and_its_transaction() -> None:
    ds = action_information("2.25.9", REFERENCES)
    assert ds.TransactionUID == "2.25.9"
    assert [item.ReferencedSOPInstanceUID for item in ds.ReferencedSOPSequence] == [
        each.sop_instance_uid for each in REFERENCES
    ]
    assert BytesIO(information(ds)).read()
