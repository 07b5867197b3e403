"""Audit message: one event, written as XML by the DICOM Audit Message Schema (PS3.15 A.5.1)."""

from __future__ import annotations

import base64
import ipaddress
import re
import time
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from dicom_node.audit_trail.codes import Action, Code, LifeCycle, ObjectRole, ObjectType, Outcome

_MACHINE_NAME, _IP_ADDRESS = "1", "2"
_LONGEST: Final = 1024
"""Most characters of a text that a peer or a reader chose."""
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]|[\t\n\r]")
"""Characters that XML 1.0 does not have, and those that would break a line."""


@dataclass(frozen=True, slots=True)
class ActiveParticipant:
    """Person or process that took part in an event (PS3.15 A.5.2).

    Attributes
    ----------
    user_id
        Name of the account, of the user of the operating system, or of the process.
    requestor
        Whether the participant began the event.
    role
        Role, where the event defines one.
    ae_title
        AE title of a DICOM application; empty for all others.
    address
        IP address or host name; empty when it is not known.
    media
        Kind of media, for the participant that stands for them.
    """

    user_id: str
    requestor: bool = False
    role: Code | None = None
    ae_title: str = ""
    address: str = ""
    media: Code | None = None


@dataclass(frozen=True, slots=True)
class ParticipantObject:
    """Object that an event was about (PS3.15 A.5.2).

    Attributes
    ----------
    object_id, id_type
        Identifier, and what kind of identifier it is.
    name
        Name; the identifier when empty.
    query
        Query, which stands instead of the name; None for objects that are none.
    details
        Further values by name.
    sop_classes
        Numbers of instances by SOP Class UID.
    """

    object_id: str
    id_type: Code
    object_type: ObjectType
    role: ObjectRole
    name: str = ""
    query: bytes | None = None
    details: Mapping[str, str] = field(default_factory=dict)
    sop_classes: Mapping[str, int] = field(default_factory=dict)
    life_cycle: LifeCycle | None = None


@dataclass(frozen=True, slots=True)
class AuditMessage:
    """One event with those who took part in it and what it was about.

    Attributes
    ----------
    description
        What came of the event, as a sentence; empty when there is nothing to say.
    at
        Time of the event, in seconds since the epoch.
    """

    event: Code
    action: Action
    participants: Sequence[ActiveParticipant]
    objects: Sequence[ParticipantObject] = ()
    types: Sequence[Code] = ()
    outcome: Outcome = Outcome.SUCCESS
    description: str = ""
    at: float = field(default_factory=time.time)

    def to_xml(self, source_id: str) -> str:
        """Return the message as one line of XML.

        Parameters
        ----------
        source_id
            AuditSourceID: the node that writes the trail.
        """
        root = ET.Element("AuditMessage")
        event = ET.SubElement(
            root,
            "EventIdentification",
            EventActionCode=self.action,
            EventDateTime=_date_time(self.at),
            EventOutcomeIndicator=str(int(self.outcome)),
        )
        _coded(event, "EventID", self.event)
        for each in self.types:
            _coded(event, "EventTypeCode", each)
        if self.description:
            ET.SubElement(event, "EventOutcomeDescription").text = _clean(self.description)
        for participant in self.participants:
            _add_participant(root, participant)
        source = ET.SubElement(root, "AuditSourceIdentification", AuditSourceID=_clean(source_id))
        ET.SubElement(source, "AuditSourceTypeCode", {"csd-code": "4"})  # application server
        for each_object in self.objects:
            _add_object(root, each_object)
        return ET.tostring(root, encoding="unicode")


def _add_participant(root: ET.Element, participant: ActiveParticipant) -> None:
    element = ET.SubElement(
        root,
        "ActiveParticipant",
        UserID=_clean(participant.user_id) or "unknown",
        UserIsRequestor=str(participant.requestor).lower(),
    )
    if participant.ae_title:
        element.set("AlternativeUserID", f"AETITLES={_clean(participant.ae_title)}")
    if participant.address:
        element.set("NetworkAccessPointID", _clean(participant.address))
        element.set(
            "NetworkAccessPointTypeCode", _IP_ADDRESS if _is_ip(participant.address) else _MACHINE_NAME
        )
    if participant.role is not None:
        _coded(element, "RoleIDCode", participant.role)
    if participant.media is not None:
        _coded(ET.SubElement(element, "MediaIdentifier"), "MediaType", participant.media)


def _add_object(root: ET.Element, found: ParticipantObject) -> None:
    element = ET.SubElement(
        root,
        "ParticipantObjectIdentification",
        ParticipantObjectID=_clean(found.object_id) or "unknown",
        ParticipantObjectTypeCode=str(int(found.object_type)),
        ParticipantObjectTypeCodeRole=str(int(found.role)),
    )
    if found.life_cycle is not None:
        element.set("ParticipantObjectDataLifeCycle", str(int(found.life_cycle)))
    _coded(element, "ParticipantObjectIDTypeCode", found.id_type)
    if found.query is not None:
        ET.SubElement(element, "ParticipantObjectQuery").text = _base64(found.query[: 4 * _LONGEST])
    else:
        name = _clean(found.name or found.object_id) or "unknown"
        ET.SubElement(element, "ParticipantObjectName").text = name
    for name, value in found.details.items():
        ET.SubElement(
            element, "ParticipantObjectDetail", type=_clean(name), value=_base64(_clean(value).encode())
        )
    if found.sop_classes:
        description = ET.SubElement(element, "ParticipantObjectDescription")
        for uid, count in found.sop_classes.items():
            ET.SubElement(description, "SOPClass", UID=_clean(uid), NumberOfInstances=str(count))


def _coded(parent: ET.Element, name: str, code: Code) -> None:
    attributes = {"csd-code": code.value, "codeSystemName": code.scheme, "originalText": code.meaning}
    ET.SubElement(parent, name, attributes)


def _clean(text: str) -> str:
    """Return a text that XML has and that is no attack on a reader of lines, with a limited length."""
    return " ".join(_NOT_XML.sub("\ufffd", text)[:_LONGEST].split())


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")


def _date_time(at: float) -> str:
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at))
    return f"{seconds}.{int(at % 1 * 1000):03d}Z"


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
