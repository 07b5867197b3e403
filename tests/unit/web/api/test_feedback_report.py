from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread

from dicom_node.results.sr.findings import write_sr
from dicom_node.results.validation import find_mistakes
from dicom_node.store.analysis_records import AnalysisRecord, FindingRecord, ImageRecord
from dicom_node.store.states import StudyState
from dicom_node.web.feedback import Verdict
from tests.support.factories import film
from tests.support.offline_node import OfflineNode
from tests.support.reports import EQUIPMENT, report_of


@pytest.fixture
def node(tmp_path: Path) -> Iterator[OfflineNode]:
    """A node with one study, its real report and its reading."""
    one = OfflineNode(tmp_path / "data")
    ds = film(rows=64, columns=64)
    report = report_of(ds)
    assert report.algorithm is not None
    reading = AnalysisRecord(
        report.algorithm.name,
        report.algorithm.version,
        report.algorithm.parameters,
        "absent",
        tuple(
            FindingRecord(
                each.key, each.name, each.certainty, each.score, each.threshold, each.presence.value
            )
            for each in report.findings
        ),
        (ImageRecord(str(ds.SOPInstanceUID), "frontal", "", ""),),
    )
    sr = write_sr(report, equipment=EQUIPMENT)
    one.finish(1, StudyState.REPORTED, films=[ds], objects=[("sr", sr)], reading=reading)
    yield one
    one.close()


def test_what_a_reader_said_comes_as_a_report_with_that_person_as_observer(node: OfflineNode) -> None:
    key = report_of(film()).findings[0].key
    adjust(node, "name")
    with node.browser() as client:
        assert "feedback.dcm" not in client.get("/studies/1").text
        assert client.get("/api/v1/studies/1/feedback.dcm").status_code == 404
        node.context.feedback.record(1, key, "local", Verdict.DISAGREE, "left apex")
        node.context.feedback.record(1, key, "rita", Verdict.AGREE, "")
        assert 'href="/api/v1/studies/1/feedback.dcm"' in client.get("/studies/1").text
        mine = client.get("/api/v1/studies/1/feedback.dcm")
        hers = client.get("/api/v1/studies/1/feedback.dcm", params={"by": "rita"})
        nobody = client.get("/api/v1/studies/1/feedback.dcm", params={"by": "nobody"})
        accesses = client.get("/access").text
    assert mine.headers["content-type"] == "application/dicom"
    for answer, words in ((mine, ("local", "DISAGREE", "left apex")), (hers, ("rita", "AGREE"))):
        ds = dcmread(io.BytesIO(answer.content))
        assert list(find_mistakes(ds, ours=True)) == []
        for word in words:
            assert word.encode() in answer.content
    assert nobody.status_code == 404
    assert "feedback export" in accesses


def test_a_withdrawn_report_is_judged_no_more(node: OfflineNode) -> None:
    key = report_of(film()).findings[0].key
    adjust(node, "name")
    with node.browser() as client:
        node.context.feedback.record(1, key, "local", Verdict.AGREE, "")
        token = client.get("/studies/1").text.split('name="csrf" value="')[1].split('"')[0]
        client.post("/studies/1/retract", data={"csrf": token, "reason": "another patient"})
        assert client.get("/api/v1/studies/1/feedback.dcm").status_code == 404


@pytest.mark.parametrize(
    ("patient", "downloads", "status"),
    [("pseudonym", False, 403), ("pseudonym", True, 200), ("name", True, 200), ("name", False, 200)],
)
def test_a_report_names_the_patient_only_where_readers_see_names(
    node: OfflineNode, patient: str, downloads: bool, status: int
) -> None:
    adjust(node, patient, downloads=downloads)
    with node.browser() as client:
        node.context.feedback.record(1, report_of(film()).findings[0].key, "local", Verdict.AGREE, "")
        answer = client.get("/api/v1/studies/1/feedback.dcm")
        assert ("feedback.dcm" in client.get("/studies/1").text) == (status == 200)
    assert answer.status_code == status
    if status == 403:
        assert "web.patient" in answer.json()["error"]
        return
    ds = dcmread(io.BytesIO(answer.content))
    for value in (b"Doe^Jane", b"PAT-1", b"ACC-1", str(film().StudyInstanceUID).encode()):
        assert (value in answer.content) == (not downloads)
    assert ds.get("PatientIdentityRemoved") == ("YES" if downloads else None)


def adjust(node: OfflineNode, patient: str, *, downloads: bool = False) -> None:
    settings = node.settings
    update = {
        "web": settings.web.model_copy(update={"patient": patient}),
        "deidentification": settings.deidentification.model_copy(update={"downloads": downloads}),
    }
    node.settings = settings.model_copy(update=update)
