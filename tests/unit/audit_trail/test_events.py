"""Every event is a message that the schema of PS3.15 A.5.1 takes, whatever its texts hold."""

from __future__ import annotations

import ast
import inspect
import re
from collections import defaultdict
from pathlib import Path

import pytest

from dicom_node.audit_trail import codes, events
from dicom_node.audit_trail.codes import Action
from dicom_node.audit_trail.events import Actor
from dicom_node.audit_trail.message import AuditMessage
from dicom_node.audit_trail.subjects import StudySubject
from dicom_node.web.auth.audited_actions import ACTIONS, message_of
from tests.support.audit_messages import checked
from tests.support.peers import ROOT

DOCUMENT = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
READER = Actor("ada", "192.0.2.7")
PEER = Actor("", "192.0.2.10", "PACS")
OWN = Actor("", ae_title="DICOM_NODE")
STUDY = StudySubject("1.2.3", "P-0123456789", {"1.2.840.10008.5.1.4.1.1.1": 3})

EVENTS: dict[str, tuple[AuditMessage, str, str]] = {
    "application started": (events.application_started("serve"), "110100", "110120"),
    "application stopped": (events.application_stopped("serve"), "110100", "110121"),
    "association refused": (events.association_refused(PEER, "unknown"), "110113", "110126"),
    "instances received": (
        events.instances_transferred(PEER, OWN, STUDY, Action.CREATE, incoming=True),
        "110104",
        "",
    ),
    "instances sent": (
        events.instances_transferred(OWN, PEER, STUDY, Action.READ, incoming=False),
        "110104",
        "",
    ),
    "instances accessed": (events.instances_accessed(READER, STUDY, Action.READ, "film"), "110103", ""),
    "exported": (events.exported(READER, "feedback export"), "110106", ""),
    "study exported": (events.exported(READER, "feedback export", STUDY), "110106", ""),
    "imported": (events.imported(READER, "upload", STUDY), "110107", ""),
    "study deleted": (events.study_deleted(None, STUDY, "older than a year"), "110105", ""),
    "study deleted by a person": (events.study_deleted(READER, STUDY, "asked for"), "110105", ""),
    "query": (events.queried(READER, None, "PatientID&StudyDate", "dicomweb search"), "110112", ""),
    "query of a peer": (events.queried(OWN, PEER, "PatientID", "search for a prior"), "110112", ""),
    "login": (events.logged_in(READER), "110114", "110122"),
    "logout": (events.logged_out(READER), "110114", "110123"),
    "login refused": (events.login_refused(READER), "110114", "110122"),
    "access refused": (events.access_refused(READER, "GET /access"), "110113", "110132"),
    "account changed": (events.account_changed(READER, "bob", "role"), "110113", "110137"),
    "model promoted": (events.model_promoted(READER, "ours primary"), "110113", "110131"),
    "settings changed": (events.settings_changed(READER, ["web.port"]), "110113", "110131"),
    "entries lost": (events.recording_stopped(3), "110113", "110133"),
    "audit trail used": (events.audit_trail_used(READER, "listed"), "110101", ""),
}


@pytest.mark.parametrize("name", EVENTS)
def test_each_event_has_its_codes_and_is_valid(name: str) -> None:
    message, event, kind = EVENTS[name]
    found = checked(message.to_xml("DICOM_NODE"))
    assert (found.event, *found.types) == (event, *filter(None, [kind]))
    assert found.outcome == (0 if "refused" not in name and "lost" not in name else found.outcome)
    assert bool(found.outcome) == ("refused" in name or "lost" in name)


def test_every_event_is_tried() -> None:
    made = [
        name
        for name, each in inspect.getmembers(events, inspect.isfunction)
        if not name.startswith("_") and inspect.signature(each).return_annotation == "AuditMessage"
    ]
    tried = {
        ast.unparse(node.func)
        for node in ast.walk(ast.parse(Path(__file__).read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
    }
    assert len(made) > 15
    assert not [name for name in made if f"events.{name}" not in tried]


def test_every_event_is_documented_with_its_codes() -> None:
    """A row of docs/security.md: code and meaning of the event, and of its type."""
    meaning = {each.value: each.meaning for each in vars(codes).values() if isinstance(each, codes.Code)}
    rows = re.findall(
        r"^\| (1101\d\d [\w ]+) \| (?:(1101\d\d [\w ]+) )?\| [^|`]+ \|$", DOCUMENT, re.MULTILINE
    )
    said = {
        (f"{event} {meaning[event]}", f"{kind} {meaning[kind]}" if kind else "")
        for _, event, kind in EVENTS.values()
    }
    assert sorted(rows) == sorted(said)


def test_every_action_of_a_reader_is_documented_with_its_event() -> None:
    found: dict[str, list[str]] = defaultdict(list)
    for action in ACTIONS:
        code = message_of(READER, action, STUDY, "").event
        found[f"{code.value} {code.meaning}"].append(action)
    rows = re.findall(r"^\| (1101\d\d [\w ]+) \| (`.+) \|$", DOCUMENT, re.MULTILINE)
    assert {event: re.findall(r"`([^`]+)`", actions) for event, actions in rows} == found


def test_a_transfer_names_both_ends_the_study_and_how_many_instances() -> None:
    message, *_ = EVENTS["instances received"]
    found = checked(message.to_xml("DICOM_NODE"))
    assert [name for name, _ in found.users[:2]] == ["PACS", "DICOM_NODE"]
    assert found.objects == ("1.2.3", "P-0123456789")
    assert (found.action, found.instances) == ("C", 3)


@pytest.mark.parametrize(
    "odd", ["", "a\nb\0c\x1b[31m", "</AuditMessage>&\"'", "\ud800", "x" * 100_000, "\x85\u2028"]
)
def test_a_hostile_text_neither_breaks_the_message_nor_its_line(odd: str) -> None:
    actor, subject = Actor(odd, odd, odd[:16]), StudySubject(odd, odd, {odd: 1})
    for message in (
        events.association_refused(actor, odd),
        events.instances_accessed(actor, subject, Action.READ, odd),
        events.queried(actor, None, odd, odd),
        events.access_refused(actor, odd),
    ):
        xml = message.to_xml(odd)
        checked(xml)
        assert len(xml.splitlines()) == 1
        assert len(xml) < 20_000


@pytest.mark.parametrize("action", [*ACTIONS, "something new"])
@pytest.mark.parametrize("subject", [None, STUDY])
def test_each_action_of_a_reader_is_a_valid_message(action: str, subject: StudySubject | None) -> None:
    checked(message_of(READER, action, subject, "PatientID").to_xml("DICOM_NODE"))


def test_every_action_that_the_page_records_has_its_event() -> None:
    found = set()
    for path in (ROOT / "dicom_node" / "web").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            if node.func.attr == "record" and "access_log" in ast.unparse(node.func):
                found |= {each.value for each in node.args[2:3] if isinstance(each, ast.Constant)}
    assert {"login", "film", "retract", "dicomweb search"} <= found
    assert found <= set(ACTIONS)


def test_each_code_is_one_of_the_standard() -> None:
    """PS3.16: CID 400 to 405 hold 110030 to 110038 and 110100 to 110155; objects are 110180 to 110182."""
    table = [each for each in vars(codes).values() if isinstance(each, codes.Code)]
    assert len({each.value for each in table}) == len(table) >= 25
    for each in table:
        if each.scheme == "DCM":
            assert 110030 <= int(each.value) <= 110038 or 110100 <= int(each.value) <= 110182
        else:
            assert each.value in {"2", "11", "12"}


def test_the_schema_of_the_tests_refuses_what_it_should() -> None:
    xml = EVENTS["login"][0].to_xml("DICOM_NODE")
    for wrong in (
        xml.replace('EventActionCode="E"', 'EventActionCode="X"'),
        xml.replace("UserIsRequestor", "Requestor", 1),
        xml.replace("EventID", "EventId"),
    ):
        with pytest.raises(AssertionError):
            checked(wrong)
