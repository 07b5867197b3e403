"""Audit messages as tests read them: checked against the schema, and reduced to what they say."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lxml import etree

from dicom_node.audit_trail.chain import AuditChain


@functools.cache
def _schema() -> etree.RelaxNG:
    return etree.RelaxNG(etree.parse(str(Path(__file__).parent / "audit_message.rng")))


@dataclass(frozen=True)
class Said:
    """What a message says: codes, outcome, participants and objects."""

    event: str
    types: tuple[str, ...]
    action: str
    outcome: int
    users: tuple[tuple[str, str], ...]  # user or AE title, and address
    objects: tuple[str, ...]
    instances: int
    description: str


def checked(xml: str) -> Said:
    """Assert that a message is valid by the schema; return what it says."""
    root = etree.fromstring(xml.encode())
    assert _schema().validate(root), f"{_schema().error_log.last_error}\n{xml}"
    event = root.find("EventIdentification")
    return Said(
        event=event.find("EventID").get("csd-code"),
        types=tuple(each.get("csd-code") for each in event.iter("EventTypeCode")),
        action=event.get("EventActionCode"),
        outcome=int(event.get("EventOutcomeIndicator")),
        users=tuple(
            (
                each.get("AlternativeUserID", "").removeprefix("AETITLES=") or each.get("UserID"),
                each.get("NetworkAccessPointID", ""),
            )
            for each in root.iter("ActiveParticipant")
        ),
        objects=tuple(
            each.get("ParticipantObjectID") for each in root.iter("ParticipantObjectIdentification")
        ),
        instances=sum(int(each.get("NumberOfInstances")) for each in root.iter("SOPClass")),
        description=event.findtext("EventOutcomeDescription", ""),
    )


def said(folder: Path) -> list[Said]:
    """What the trail in a folder says, oldest first; every message is checked."""
    return all_said(entry.message for entry in AuditChain(folder, None).entries())


def all_said(messages: Iterable[str]) -> list[Said]:
    return [checked(message) for message in messages]
