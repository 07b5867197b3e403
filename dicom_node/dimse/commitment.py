"""Storage commitment (PS3.4 annex J): data sets of the request and of the answer.

The node is only SCU. It requests by N-ACTION; the peer answers by N-EVENT-REPORT, on the same association
while that is open, or on an association that it opens to the node's SCP, perhaps days later.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from types import MappingProxyType

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom.dsutils import decode

from dicom_node.errors import BadInstance
from dicom_node.imaging import attributes
from dicom_node.store.commitments import CommitmentAnswer, CommitmentOutcome

ACTION_TYPE = 1
"""Action Type ID of Request Storage Commitment (PS3.4 J.3.2)."""


class EventType(enum.IntEnum):
    """Event Type ID of the answer (PS3.4 J.3.3)."""

    ALL_KEPT = 1
    FAILURES_EXIST = 2


FAILURE_REASONS: Mapping[int, tuple[CommitmentOutcome, str]] = MappingProxyType(
    {
        0x0110: (CommitmentOutcome.UNDECIDED, "processing failure"),
        0x0112: (CommitmentOutcome.LOST, "no such object instance"),
        0x0213: (CommitmentOutcome.UNDECIDED, "resource limitation"),
        0x0122: (CommitmentOutcome.REFUSED, "referenced SOP class not supported"),
        0x0119: (CommitmentOutcome.REFUSED, "class-instance conflict"),
        0x0131: (CommitmentOutcome.UNDECIDED, "duplicate Transaction UID"),
    }
)
"""Failure Reason (0008,1197) -> outcome for the result, and meaning (PS3.3 C.14.1.1)."""


@dataclass(frozen=True, slots=True)
class InstanceReference:
    """UIDs of a result that was sent to a destination."""

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str

    @classmethod
    def of(cls, path: Path) -> InstanceReference:
        """Read the UIDs of a Part 10 file.

        Raises
        ------
        OSError, pydicom.errors.InvalidDicomError
            When the file cannot be read.
        """
        keywords = ["SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"]
        ds = dcmread(path, stop_before_pixels=True, specific_tags=list(keywords))
        return cls(*(str(ds[keyword].value) for keyword in keywords))


@dataclass(frozen=True, slots=True)
class CommitmentReport:
    """Answer to one request for storage commitment.

    Attributes
    ----------
    transaction_uid
        Transaction UID of the request.
    answers
        SOP Instance UID -> answer for that instance.
    """

    transaction_uid: str
    answers: Mapping[str, CommitmentAnswer]


def action_information(transaction_uid: str, references: Iterable[InstanceReference]) -> Dataset:
    """Return the Action Information of a request for storage commitment (PS3.4 table J.3-1)."""
    ds = Dataset()
    ds.TransactionUID = transaction_uid
    ds.ReferencedSOPSequence = []
    for reference in references:
        item = Dataset()
        item.ReferencedSOPClassUID = reference.sop_class_uid
        item.ReferencedSOPInstanceUID = reference.sop_instance_uid
        ds.ReferencedSOPSequence.append(item)
    return ds


def decode_event_information(encoded: bytes | bytearray, transfer_syntax: UID) -> CommitmentReport:
    """Decode and read the Event Information of an answer (PS3.4 table J.3-2).

    Raises
    ------
    BadInstance
        When it cannot be decoded or names no transaction.
    """
    try:
        with attributes.tolerance():
            ds = decode(BytesIO(encoded), transfer_syntax.is_implicit_VR, transfer_syntax.is_little_endian)
            return read_event_information(ds)
    except (*attributes.MALFORMED, OSError) as error:  # pydicom seeks to where lengths point
        raise BadInstance(f"the Event Information cannot be read ({type(error).__name__})") from None


def read_event_information(ds: Dataset) -> CommitmentReport:
    """Read the Event Information of an answer (PS3.4 table J.3-2).

    An instance in both sequences counts as failed.

    Raises
    ------
    BadInstance
        When it names no transaction.
    """
    transaction_uid = attributes.text(ds, "TransactionUID")
    if not transaction_uid:
        raise BadInstance("the Event Information names no transaction")
    kept = CommitmentAnswer(CommitmentOutcome.KEPT)
    answers = {uid: kept for uid, _ in _references(ds, "ReferencedSOPSequence")}
    answers |= {uid: _failure(item) for uid, item in _references(ds, "FailedSOPSequence")}
    return CommitmentReport(transaction_uid, answers)


def _references(ds: Dataset, keyword: str) -> Iterator[tuple[str, Dataset]]:
    for item in attributes.items(ds, keyword):
        yield attributes.text(item, "ReferencedSOPInstanceUID"), item


def _failure(item: Dataset) -> CommitmentAnswer:
    reason = attributes.value(item, "FailureReason")
    code = reason if isinstance(reason, int) else 0x0110
    unknown = (CommitmentOutcome.UNDECIDED, "a reason unknown to the standard")
    outcome, text = FAILURE_REASONS.get(code, unknown)
    return CommitmentAnswer(outcome, f"storage commitment failed with {code:04X}: {text}")
