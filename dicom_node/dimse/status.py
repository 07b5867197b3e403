"""DIMSE statuses: those that the node answers, and the meaning of those that peers answer.

Sources: PS3.7 annex C (general statuses), PS3.4 table B.2-1 (C-STORE), PS3.3 C.14.1.1 (Failure Reason of a
storage commitment).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Self


class Status(enum.IntEnum):
    """Status that the node answers as SCP.

    The low byte of the A7xx and C0xx ranges is free for implementations (PS3.4 B.2.3). A sentence in the
    Error Comment (0000,0902) says more.
    """

    text: str
    """Meaning of the status, for the conformance statement."""

    SUCCESS = 0x0000, "The instance or the commitment report is safe on disk and in the index."
    PROCESSING_FAILURE = 0x0110, "The commitment report could not be recorded; send it again later."
    NO_SUCH_EVENT_TYPE = 0x0113, "The event type of an N-EVENT-REPORT is neither 1 nor 2."
    INVALID_ARGUMENT = (
        0x0115,
        "The N-EVENT-REPORT cannot be read, or names a transaction that the node did not begin.",
    )
    UNRECOGNISED_OPERATION = (
        0x0211,
        "The request is none of C-ECHO, C-STORE and the N-EVENT-REPORT of storage commitment.",
    )
    OUT_OF_RESOURCES = 0xA700, "The disk of the received files or of the database is full; send again later."
    STORAGE_FAILED = 0xA701, "The received files or the database cannot be written; send again later."
    INTERNAL_ERROR = (
        0xA702,
        "Unexpected error in the node; nothing was kept, send again later.",
    )
    DATA_SET_DOES_NOT_MATCH = (
        0xA900,
        "SOP Class UID or SOP Instance UID differ between data set, command and presentation context.",
    )
    NOT_A_DATA_SET = 0xC010, "The bytes are not a data set in the negotiated transfer syntax."
    TRUNCATED = 0xC011, "The data set ends in the middle of an element."
    TOO_COMPLEX = 0xC012, "The data set has more elements, or deeper nesting, than any radiograph has."
    MISSING_UID = (
        0xC020,
        "SOP Class, SOP Instance, Study Instance or Series Instance UID is missing or empty.",
    )
    INVALID_UID = (
        0xC021,
        "One of these UIDs is no UI, is longer than 64 characters, or is not made of numbers between dots.",
    )

    def __new__(cls, value: int, text: str) -> Self:
        """Create a member from a status and its meaning."""
        member = int.__new__(cls, value)
        member._value_ = value
        member.text = text
        return member


class Outcome(enum.Enum):
    """Outcome of a request, as the peer's answer gives it."""

    SUCCESS = "success"
    WARNING = "warning"  # done, with a remark
    PERMANENT = "refused"  # the same request would be refused again
    TRANSIENT = "try later"

    @property
    def delivered(self) -> bool:
        """True when the peer has the instance."""
        return self in (Outcome.SUCCESS, Outcome.WARNING)


@dataclass(frozen=True, slots=True)
class StatusMeaning:
    """Meaning of a range of statuses.

    Attributes
    ----------
    first, last
        Ends of the range, both inclusive.
    outcome
        Outcome of the request.
    text
        Meaning in the words of the standard.
    """

    first: int
    last: int
    outcome: Outcome
    text: str


RESPONSE_STATUSES: tuple[StatusMeaning, ...] = (
    StatusMeaning(0x0000, 0x0000, Outcome.SUCCESS, "success"),
    StatusMeaning(0x0001, 0x0001, Outcome.WARNING, "warning"),
    StatusMeaning(0x0105, 0x0106, Outcome.PERMANENT, "no such attribute, or an invalid value"),
    StatusMeaning(0x0107, 0x0107, Outcome.WARNING, "warning: attribute list error"),
    StatusMeaning(0x0110, 0x0110, Outcome.TRANSIENT, "processing failure"),
    # The peer has an instance with this UID. UIDs of results are made from their content: it has the same.
    StatusMeaning(0x0111, 0x0111, Outcome.WARNING, "duplicate SOP instance"),
    StatusMeaning(0x0112, 0x0115, Outcome.PERMANENT, "no such SOP instance, event type or argument"),
    StatusMeaning(0x0116, 0x0116, Outcome.WARNING, "warning: attribute value out of range"),
    StatusMeaning(0x0117, 0x0119, Outcome.PERMANENT, "invalid SOP instance or class"),
    StatusMeaning(0x0120, 0x0121, Outcome.PERMANENT, "missing attribute or value"),
    StatusMeaning(0x0122, 0x0122, Outcome.PERMANENT, "SOP class not supported"),
    StatusMeaning(0x0123, 0x0123, Outcome.PERMANENT, "no such action"),
    StatusMeaning(0x0124, 0x0124, Outcome.PERMANENT, "not authorised"),
    StatusMeaning(0x0210, 0x0210, Outcome.TRANSIENT, "duplicate invocation"),
    StatusMeaning(0x0211, 0x0211, Outcome.PERMANENT, "unrecognised operation"),
    StatusMeaning(0x0212, 0x0212, Outcome.PERMANENT, "mistyped argument"),
    StatusMeaning(0x0213, 0x0213, Outcome.TRANSIENT, "resource limitation"),
    StatusMeaning(0xA700, 0xA7FF, Outcome.TRANSIENT, "out of resources"),
    StatusMeaning(0xA900, 0xA9FF, Outcome.PERMANENT, "data set does not match SOP class"),
    StatusMeaning(0xB000, 0xB000, Outcome.WARNING, "warning: coercion of data elements"),
    StatusMeaning(0xB006, 0xB006, Outcome.WARNING, "warning: elements discarded"),
    StatusMeaning(0xB007, 0xB007, Outcome.WARNING, "warning: data set does not match SOP class"),
    StatusMeaning(0xB000, 0xBFFF, Outcome.WARNING, "warning"),
    StatusMeaning(0xC000, 0xCFFF, Outcome.PERMANENT, "cannot understand"),
    StatusMeaning(0xFE00, 0xFE00, Outcome.TRANSIENT, "cancelled"),
)
"""Meanings of the statuses that peers answer; the first range that fits counts. A warning says that the
instance was stored, so it counts as delivered. The Cxxx range is the peer's opinion of the object, which will
not change: a person has to look."""

_UNKNOWN = "a status that the standard does not define"


def meaning_of(status: int) -> StatusMeaning:
    """Return the meaning of a status that a peer answered.

    Parameters
    ----------
    status
        Status (0000,0900), 0 to 0xFFFF. An unknown status counts as transient: another try costs little, and
        giving up could lose a result.
    """
    for meaning in RESPONSE_STATUSES:
        if meaning.first <= status <= meaning.last:
            return meaning
    return StatusMeaning(status, status, Outcome.TRANSIENT, _UNKNOWN)
