"""Storage commitment (PS3.4 annex J): the request to keep results, and what the answer means.

The node is SCU alone. It asks by N-ACTION; the peer answers by N-EVENT-REPORT, on the same association while
that is open, or on one of its own to the node's SCP, perhaps days later.
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
from dicom_node.store.commitments import Statement, Verdict

ACTION_TYPE = 1
"""Request Storage Commitment (PS3.4 J.3.2)."""


class EventType(enum.IntEnum):
    """Event Type ID of the answer (PS3.4 J.3.3)."""

    ALL_KEPT = 1
    FAILURES_EXIST = 2


FAILURES: Mapping[int, tuple[Verdict, str]] = MappingProxyType(
    {
        0x0110: (Verdict.UNDECIDED, "processing failure"),
        0x0112: (Verdict.LOST, "no such object instance"),
        0x0213: (Verdict.UNDECIDED, "resource limitation"),
        0x0122: (Verdict.REFUSED, "referenced SOP class not supported"),
        0x0119: (Verdict.REFUSED, "class-instance conflict"),
        0x0131: (Verdict.UNDECIDED, "duplicate Transaction UID"),
    }
)
"""Failure Reason (0008,1197) and what it leads to (PS3.3 C.14.1.1)."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A result that a destination was sent, by its UIDs."""

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str

    @classmethod
    def of(cls, path: Path) -> Reference:
        """Read the UIDs of a Part 10 file.

        Raises
        ------
        OSError, pydicom.errors.InvalidDicomError
            When it cannot be read.
        """
        keywords = ["SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"]
        ds = dcmread(path, stop_before_pixels=True, specific_tags=list(keywords))
        return cls(*(str(ds[keyword].value) for keyword in keywords))


@dataclass(frozen=True, slots=True)
class Report:
    """The answer to one request.

    Attributes
    ----------
    statements
        By SOP Instance UID.
    """

    transaction_uid: str
    statements: Mapping[str, Statement]


def request(transaction_uid: str, references: Iterable[Reference]) -> Dataset:
    """Return the Action Information of a request (PS3.4 table J.3-1)."""
    ds = Dataset()
    ds.TransactionUID = transaction_uid
    ds.ReferencedSOPSequence = []
    for reference in references:
        item = Dataset()
        item.ReferencedSOPClassUID = reference.sop_class_uid
        item.ReferencedSOPInstanceUID = reference.sop_instance_uid
        ds.ReferencedSOPSequence.append(item)
    return ds


def decode_report(encoded: bytes | bytearray, transfer_syntax: UID) -> Report:
    """Read the Event Information of an answer as it came over the network.

    Raises
    ------
    BadInstance
        When it is none.
    """
    try:
        with attributes.tolerance():
            ds = decode(BytesIO(encoded), transfer_syntax.is_implicit_VR, transfer_syntax.is_little_endian)
            return read_report(ds)
    except (*attributes.MALFORMED, OSError) as error:  # pydicom seeks to where lengths point
        raise BadInstance(f"the Event Information cannot be read ({type(error).__name__})") from None


def read_report(ds: Dataset) -> Report:
    """Read the Event Information of an answer (PS3.4 table J.3-2).

    What stands in both sequences counts as failed.

    Raises
    ------
    BadInstance
        When it names no transaction.
    """
    transaction_uid = attributes.text(ds, "TransactionUID")
    if not transaction_uid:
        raise BadInstance("the Event Information names no transaction")
    statements = {uid: Statement(Verdict.KEPT) for uid, _ in _references(ds, "ReferencedSOPSequence")}
    statements |= {uid: _failure(item) for uid, item in _references(ds, "FailedSOPSequence")}
    return Report(transaction_uid, statements)


def _references(ds: Dataset, keyword: str) -> Iterator[tuple[str, Dataset]]:
    for item in attributes.items(ds, keyword):
        yield attributes.text(item, "ReferencedSOPInstanceUID"), item


def _failure(item: Dataset) -> Statement:
    reason = attributes.value(item, "FailureReason")
    code = reason if isinstance(reason, int) else 0x0110
    verdict, text = FAILURES.get(code, (Verdict.UNDECIDED, "a reason that the standard does not know"))
    return Statement(verdict, f"storage commitment failed with {code:04X}: {text}")
