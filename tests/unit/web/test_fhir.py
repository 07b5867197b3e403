"""What readers say, as FHIR R4."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from dicom_node.config.data_dir import FINDING_CODES
from dicom_node.results.report import Code, Presence
from dicom_node.runtime import logs
from dicom_node.web.feedback import Feedback, Verdict
from dicom_node.web.fhir import MEDIA_TYPE, ReadReport, Statement, write_bundle
from tests.support.factories import film
from tests.support.offline_node import OfflineNode
from tests.support.reader_study import Person, analysed, ask_for_logins, study_list

STUDY = film(rows=8, columns=8, study=1).StudyInstanceUID
NODULE = ("27925004", "SCT", "Nodule")


@pytest.fixture
def node(tmp_path: Path) -> Iterator[OfflineNode]:
    one = OfflineNode(tmp_path / "data")
    ask_for_logins(one, "rita", patient="name")
    analysed(one, 1, {"nodule": 0.75, "pleural_effusion": 0.1})
    folder = one.data_dir.cards / "tiny-1.0.0"
    folder.mkdir(parents=True)
    (folder / FINDING_CODES).write_text(json.dumps({"nodule": NODULE}))
    yield one
    one.close()


@pytest.fixture
def people(node: OfflineNode) -> Iterator[dict[str, Person]]:
    with ExitStack() as stack:
        yield {name: Person(stack.enter_context(node.browser()), name) for name in ("ada", "rita")}


def check(bundle: dict[str, Any]) -> list[dict[str, Any]]:
    """Check what FHIR R4 demands of a collection; returns its resources."""
    assert (bundle["resourceType"], bundle["type"]) == ("Bundle", "collection")
    resources = [each["resource"] for each in bundle.get("entry", [])]
    addresses = [each["fullUrl"] for each in bundle.get("entry", [])]
    assert len(set(addresses)) == len(addresses)
    assert addresses == [f"urn:uuid:{each['id']}" for each in resources]
    for each in resources:
        assert each["status"] in {"preliminary", "final"}
        assert each["code"].get("coding") or each["code"]["text"]
        assert "subject" not in each
        assert each["meta"]["security"][0]["code"] == "HRESCH"
        if each["resourceType"] == "Observation":
            assert ("valueCodeableConcept" in each) is not ("dataAbsentReason" in each)  # obs-6
            for part in each.get("component", ()):
                assert sum(name.startswith("value") for name in part) == 1
        for reference in each.get("result", ()):
            assert reference["reference"] in addresses
    assert not empty(bundle)
    return resources


def empty(part: Any) -> bool:
    """Whether a part holds an empty array, object or string, which FHIR forbids."""
    if isinstance(part, dict):
        return not part or any(map(empty, part.values()))
    if isinstance(part, list):
        return not part or any(map(empty, part))
    return part == ""


def test_the_published_schema_takes_it() -> None:
    from fhir.resources.R4B.bundle import Bundle

    facts = {"text": "a", "number": 0.5, "code": Code("52101004", "SCT", "Present"), "none": None}
    statements = [
        Statement("nodule", "Nodule", Code(*NODULE), Presence.PRESENT, 0.0, "a rib", facts),
        Statement("mass", "Mass", None, None, 1.0),
    ]
    for reports in ([], [ReadReport("abc", "rita", "once", statements)]):
        written = write_bundle(reports, title="feedback", written_at=0.0)
        check(written)
        again = json.loads(Bundle.model_validate(written).model_dump_json())
        assert again.keys() == written.keys()


def test_feedback_is_a_report_of_each_reader_with_an_observation_of_each_finding(
    node: OfflineNode, people: dict[str, Person]
) -> None:
    feedback = Feedback(node.index.engine, lambda: 0.0)
    feedback.record(1, "nodule", "rita", Verdict.DISAGREE, "a <rib>")
    feedback.record(1, "pleural_effusion", "rita", Verdict.NONE, "cannot see it")
    feedback.record(1, "nodule", "ada", Verdict.AGREE, "")
    feedback.record(1, "pleural_effusion", "ada", Verdict.NONE, "")  # taken back
    answer = people["rita"].client.get("/api/v1/feedback.fhir.json")
    assert answer.headers["Content-Type"].startswith(MEDIA_TYPE)
    assert "research-use-only" in answer.headers["Content-Disposition"]
    assert STUDY not in answer.text
    resources = check(answer.json())
    assert [each["resourceType"] for each in resources] == [
        "DiagnosticReport", "Observation", "Observation", "DiagnosticReport", "Observation"
    ]  # fmt: skip
    report, nodule, effusion, _, agreed = resources
    assert report["imagingStudy"][0]["identifier"]["value"] == logs.uid_hash(STUDY)
    assert "RESEARCH USE ONLY" in report["conclusion"]
    assert report["performer"][0]["identifier"]["value"] == "rita"
    assert nodule["code"]["coding"] == [
        {"system": "http://snomed.info/sct", "code": "27925004", "display": "Nodule"}
    ]
    assert nodule["valueCodeableConcept"]["coding"][0]["code"] == "272519000"  # the model said present
    assert nodule["note"] == [{"text": "a <rib>"}]
    facts = {each["code"]["text"]: each for each in nodule["component"]}
    assert facts["presence by the model"]["valueCodeableConcept"]["text"] == "Present"
    assert facts["certainty of the model"]["valueQuantity"]["value"] == 0.75
    assert facts["verdict on the model's answer"]["valueCodeableConcept"]["coding"][0]["code"] == "DISAGREE"
    assert effusion["code"] == {"text": "Pleural effusion"}  # no worker has left its code
    assert effusion["dataAbsentReason"]["coding"][0]["code"] == "unknown"
    assert agreed["valueCodeableConcept"]["coding"][0]["code"] == "52101004"


def test_readings_of_a_reader_study_are_reports_for_its_admin(
    node: OfflineNode, people: dict[str, Person]
) -> None:
    ada, rita = people["ada"], people["rita"]
    number = ada.make(study_list([STUDY], {"nodule": [0]}), ["rita"], "sequential")
    for present in (True, False):
        case = rita.case(number)
        assert case is not None
        rita.answer(number, case[0], {"nodule": (present, 80)}, comment="looked twice")
    path = f"/api/v1/reader-studies/{number}/readings.fhir.json"
    assert rita.client.get(path).status_code == 403
    resources = check(ada.client.get(path).json())
    observations = [each for each in resources if each["resourceType"] == "Observation"]
    said = [each["valueCodeableConcept"]["text"] for each in observations]
    assert said == ["Present", "Absent"]
    assert [each["code"]["text"].rpartition(", ")[2] for each in resources if "result" in each] == [
        "without the model", "with the model"
    ]  # fmt: skip
    facts = {each["code"]["text"]: each for each in observations[0]["component"]}
    assert facts["reference standard"]["valueCodeableConcept"]["text"] == "Absent"
    assert facts["confidence, 0 to 100"]["valueQuantity"]["value"] == 80
    assert rita.client.get("/api/v1/feedback.fhir.json").status_code == 200  # all is read
