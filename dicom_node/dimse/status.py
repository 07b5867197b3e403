"""DIMSE statuses by name: those that the node answers, and what an answer from a peer means.

Sources: PS3.7 annex C (general statuses), PS3.4 table B.2-1 (C-STORE), PS3.3 C.14.1.1 (Failure Reason of a
storage commitment).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Self


class Status(enum.IntEnum):
    """What the node answers as acceptor.

    The low byte of the A7 and C0 ranges is ours to give (PS3.4 B.2.3); each has a sentence in the Error
    Comment (0000,0902).
    """

    text: str
    """What it says, for the conformance statement."""

    SUCCESS = 0x0000, "Kept: on disk and in the index."
    PROCESSING_FAILURE = 0x0110, "An event could not be recorded; report it again later."
    NO_SUCH_EVENT_TYPE = 0x0113, "Neither of the two events of storage commitment."
    INVALID_ARGUMENT = (
        0x0115,
        "The event tells of a transaction that the node never began, or cannot be read.",
    )
    UNRECOGNISED_OPERATION = 0x0211, "None of C-ECHO, C-STORE and the N-EVENT-REPORT of storage commitment."
    OUT_OF_RESOURCES = 0xA700, "No room in the spool or the database; send again later."
    STORAGE_FAILED = 0xA701, "Spool or database cannot be written; send again later."
    INTERNAL_ERROR = (
        0xA702,
        "The node failed in a way that nobody foresaw; nothing was kept, send again later.",
    )
    DATA_SET_DOES_NOT_MATCH = (
        0xA900,
        "SOP class or instance of the data set, of the command and of the context are not the same.",
    )
    NOT_A_DATA_SET = 0xC010, "The bytes are no data set in the negotiated transfer syntax."
    TRUNCATED = 0xC011, "The data set ends before its elements do."
    TOO_COMPLEX = 0xC012, "More elements, or deeper nesting, than any film has."
    MISSING_UID = 0xC020, "A SOP, Study or Series UID is absent or empty."
    INVALID_UID = 0xC021, "A UID breaks the rules of PS3.5 9.1."

    def __new__(cls, value: int, text: str) -> Self:
        """Make a member of a status and what it says."""
        member = int.__new__(cls, value)
        member._value_ = value
        member.text = text
        return member


class Outcome(enum.Enum):
    """What became of an instance that a peer answered for."""

    SUCCESS = "success"
    WARNING = "warning"  # stored, with a remark
    PERMANENT = "refused"  # the same request will be refused again
    TRANSIENT = "try later"

    @property
    def delivered(self) -> bool:
        """Whether the peer has it."""
        return self in (Outcome.SUCCESS, Outcome.WARNING)


@dataclass(frozen=True, slots=True)
class Meaning:
    """A range of statuses that mean the same.

    Attributes
    ----------
    first, last
        Inclusive.
    outcome
        What became of the instance.
    text
        The standard's words.
    """

    first: int
    last: int
    outcome: Outcome
    text: str


ANSWERS: tuple[Meaning, ...] = (
    Meaning(0x0000, 0x0000, Outcome.SUCCESS, "success"),
    Meaning(0x0001, 0x0001, Outcome.WARNING, "warning"),
    Meaning(0x0105, 0x0106, Outcome.PERMANENT, "no such attribute, or an invalid value"),
    Meaning(0x0107, 0x0107, Outcome.WARNING, "warning: attribute list error"),
    Meaning(0x0110, 0x0110, Outcome.TRANSIENT, "processing failure"),
    # The peer has this UID already. Ours are made from the content, so it has this content.
    Meaning(0x0111, 0x0111, Outcome.WARNING, "duplicate SOP instance"),
    Meaning(0x0112, 0x0115, Outcome.PERMANENT, "no such SOP instance, event type or argument"),
    Meaning(0x0116, 0x0116, Outcome.WARNING, "warning: attribute value out of range"),
    Meaning(0x0117, 0x0119, Outcome.PERMANENT, "invalid SOP instance or class"),
    Meaning(0x0120, 0x0121, Outcome.PERMANENT, "missing attribute or value"),
    Meaning(0x0122, 0x0122, Outcome.PERMANENT, "SOP class not supported"),
    Meaning(0x0123, 0x0123, Outcome.PERMANENT, "no such action"),
    Meaning(0x0124, 0x0124, Outcome.PERMANENT, "not authorised"),
    Meaning(0x0210, 0x0210, Outcome.TRANSIENT, "duplicate invocation"),
    Meaning(0x0211, 0x0211, Outcome.PERMANENT, "unrecognised operation"),
    Meaning(0x0212, 0x0212, Outcome.PERMANENT, "mistyped argument"),
    Meaning(0x0213, 0x0213, Outcome.TRANSIENT, "resource limitation"),
    Meaning(0xA700, 0xA7FF, Outcome.TRANSIENT, "out of resources"),
    Meaning(0xA900, 0xA9FF, Outcome.PERMANENT, "data set does not match SOP class"),
    Meaning(0xB000, 0xB000, Outcome.WARNING, "warning: coercion of data elements"),
    Meaning(0xB006, 0xB006, Outcome.WARNING, "warning: elements discarded"),
    Meaning(0xB007, 0xB007, Outcome.WARNING, "warning: data set does not match SOP class"),
    Meaning(0xB000, 0xBFFF, Outcome.WARNING, "warning"),
    Meaning(0xC000, 0xCFFF, Outcome.PERMANENT, "cannot understand"),
    Meaning(0xFE00, 0xFE00, Outcome.TRANSIENT, "cancelled"),
)
"""Looked up from the top. A warning says that the instance was stored, so it counts as delivered. The C000
range is the peer's judgement of the object, which will be the same tomorrow: a person has to look."""

_UNKNOWN = "a status that the standard does not know"


def meaning_of(status: int) -> Meaning:
    """Return what a C-STORE answer means.

    Parameters
    ----------
    status
        (0000,0900), 0 to 0xFFFF. One that no table knows is worth another try: it costs little, and
        giving up could lose a result.
    """
    for meaning in ANSWERS:
        if meaning.first <= status <= meaning.last:
            return meaning
    return Meaning(status, status, Outcome.TRANSIENT, _UNKNOWN)
