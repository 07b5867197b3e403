"""Digest of an audit message: what a list shows of it."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import asdict, dataclass
from typing import Final

from dicom_node.audit_trail.codes import NODE_ID, STUDY_INSTANCE_UID, URI, USER_IDENTIFIER
from dicom_node.audit_trail.entry import Entry

_SHOWN: Final = frozenset(each.value for each in (STUDY_INSTANCE_UID, NODE_ID, USER_IDENTIFIER, URI))
"""Types of object identifiers that a list shows."""


@dataclass(frozen=True, slots=True)
class MessageDigest:
    """Short form of an entry.

    Attributes
    ----------
    time
        Time of the event, as written in the message (UTC).
    outcome
        Event outcome indicator: 0 for success.
    event
        Event, with its types.
    who
        Participant who began it, with address.
    what
        Description and objects.
    """

    number: int
    time: str
    outcome: int
    event: str
    who: str
    what: str

    @classmethod
    def of(cls, entry: Entry) -> MessageDigest:
        """Read the message of an entry of this node.

        Raises
        ------
        xml.etree.ElementTree.ParseError
            When it is no XML.
        """
        if "<!" in entry.message:  # the node writes no declarations; one may name entities without end
            raise ET.ParseError("a declaration")
        root = ET.fromstring(entry.message)  # noqa: S314 - without declarations there are no entities
        event = root.find("EventIdentification")
        if event is None:
            raise ET.ParseError("no EventIdentification")
        names = [each.get("originalText", "") for each in event if each.tag in ("EventID", "EventTypeCode")]
        who = [
            " ".join(filter(None, (_name(each), each.get("NetworkAccessPointID"))))
            for each in root.iter("ActiveParticipant")
            if not each.get("UserID", "").startswith("dicom-node:")
        ]
        objects = [
            each.get("ParticipantObjectID", "")
            for each in root.iter("ParticipantObjectIdentification")
            for kind in each.iter("ParticipantObjectIDTypeCode")
            if kind.get("csd-code") in _SHOWN
        ]
        return cls(
            entry.number,
            event.get("EventDateTime", ""),
            int(event.get("EventOutcomeIndicator", "0")),
            ": ".join(names),
            ", ".join(dict.fromkeys(who)),
            " ".join(dict.fromkeys([event.findtext("EventOutcomeDescription", ""), *objects])).strip(),
        )

    @property
    def line(self) -> str:
        """Line for a person."""
        failed = " failed" if self.outcome else ""
        return f"{self.number} {self.time} {self.event}{failed} | {self.who} | {self.what}"

    def as_json(self) -> dict[str, object]:
        """Return the fields for a program."""
        return asdict(self)


def _name(participant: ET.Element) -> str:
    return participant.get("AlternativeUserID", "").removeprefix("AETITLES=") or participant.get("UserID", "")
