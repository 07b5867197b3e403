"""A study that was not read, wholly or in part, as the page shows it; and the films that are read anyway."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from dicom_node.config.web import WebSettings
from dicom_node.results.codes import GATE_OVERRIDDEN, GATE_REFUSALS, REFUSALS
from dicom_node.store.analysis_records import AnalysisRecord, FindingRecord, ImageRecord
from dicom_node.store.states import StudyState
from dicom_node.web.auth.accounts import Accounts, Role
from tests.support.audit_messages import said
from tests.support.factories import uid
from tests.support.login import PASSWORD, csrf_token, log_in
from tests.support.offline_node import OWNER, OfflineNode

SAW = "the picture is no chest film (score 0.02)"
FINDING = FindingRecord("effusion", "Pleural effusion", 0.9, 0.9, 0.5, "present")


def analysis(*images: ImageRecord, parameters: tuple[str, ...] = ()) -> AnalysisRecord:
    """Analysis of images, with one finding if any was read."""
    read = any(not each.exclusion for each in images)
    return AnalysisRecord("m" if read else "", "1", parameters, "absent", (FINDING,) if read else (), images)


def refused(reason: str = "not_chest", instance: int = 1) -> ImageRecord:
    return ImageRecord(uid(1, instance), "PA", reason, SAW)


@pytest.mark.parametrize("reason", REFUSALS)
def test_a_study_that_was_not_read_says_why_film_by_film(
    client: TestClient, node: OfflineNode, reason: str
) -> None:
    node.finish(1, StudyState.SKIPPED, SAW, reading=analysis(refused(reason)))
    page = client.get("/studies/1").text
    assert f"<strong>{REFUSALS[reason].sentence}</strong>" in page
    assert f"{'The gate saw' if reason in GATE_REFUSALS else 'The check said'}: {SAW}." in page
    assert "Image checks: 0 of 1 analysed" in page
    assert '<details id="gate-result" open>' in page
    assert " yet" not in page
    assert ("Read it anyway" in page) is (reason in GATE_REFUSALS)


def test_a_film_that_was_left_out_is_named_beside_the_findings(client: TestClient, node: OfflineNode) -> None:
    read = ImageRecord(uid(1, 1), "frontal", "", "")
    node.finish(1, StudyState.REPORTED, instances=2, reading=analysis(read, refused(instance=2)))
    page = client.get("/studies/1").text
    assert "1 of 2 films was not read:" in page
    assert "Film 2 (PA): <strong>This is no chest film.</strong>" in page
    assert "Read the refused film too" in page


@pytest.mark.parametrize("kept", [None, ImageRecord(uid(1, 1), "PA", "", "the spool lost 1 files")])
def test_a_study_that_failed_has_its_reason_and_promises_nothing(
    client: TestClient, node: OfflineNode, kept: ImageRecord | None
) -> None:
    reading = None if kept is None else analysis(kept)
    node.finish(1, StudyState.FAILED, "the spool lost 1 files", results=0, reading=reading)
    page = client.get("/studies/1").text
    assert "the spool lost 1 files" in page
    assert "No findings: the analysis failed." in page
    assert "No results were written." in page
    assert "1 of 1 analysed" not in page
    assert " yet" not in page
    assert "Read it anyway" not in page


def test_what_was_corrected_is_said_without_a_click(client: TestClient, node: OfflineNode) -> None:
    turned = ImageRecord(uid(1, 1), "frontal", "", "", ("the film was turned by 90 degrees",), turns=1)
    node.finish(1, StudyState.REPORTED, reading=analysis(turned))
    page = client.get("/studies/1").text
    assert '<details id="gate-result" open>' in page
    assert "the film was turned by 90 degrees" in page


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[OfflineNode]:
    """Node whose readers must log in; the gate refused its one film."""
    node = OfflineNode(tmp_path / "guarded")
    node.settings = node.settings.model_copy(update={"web": WebSettings(login=True)})
    accounts = Accounts(node.index.engine)
    accounts.add("rita", Role.READER, PASSWORD)
    accounts.add("ada", Role.ADMIN, PASSWORD)
    node.finish(1, StudyState.SKIPPED, SAW, reading=analysis(refused()))
    yield node
    node.close()


def test_an_admin_has_a_refused_film_read_and_that_is_written_down(guarded: OfflineNode) -> None:
    with guarded.browser() as page:
        log_in(page, "ada")
        shown = page.get("/studies/1").text
        form = {"csrf": csrf_token(shown)}
        answer = page.post("/studies/1/read-anyway", data=form, follow_redirects=False)
        assert (answer.status_code, answer.headers["Location"]) == (303, "/studies/1")
        waiting = page.get("/studies/1").text
        assert 'id="overriding"' in waiting
        assert "Read it anyway" not in waiting
        assert page.get("/api/v1/studies/1").json()["gate_overridden"] is True
        assert page.post("/studies/1/read-anyway", data=form).status_code == 409
        assert "read anyway" in page.get("/access").text
    lease = guarded.leases.acquire(guarded.index.study_uid(1) or "", 2, OWNER, 60)
    assert lease is not None
    assert lease.gate_overridden
    (entry,) = [each for each in said(guarded.data_dir.audit_trail) if "read anyway" in str(each)]
    assert entry.users[0][0] == "ada"


def test_a_reader_may_not_override_the_gate_and_sees_no_button(guarded: OfflineNode) -> None:
    with guarded.browser() as page:
        log_in(page, "rita")
        shown = page.get("/studies/1").text
        assert "This is no chest film." in shown
        assert "Read it anyway" not in shown
        for path in ("/studies/1/read-anyway", "/api/v1/studies/1/read-anyway"):
            headers = {"X-CSRF-Token": csrf_token(shown)}
            assert page.post(path, data={"csrf": csrf_token(shown)}, headers=headers).status_code == 403
        assert page.get("/api/v1/studies/1").json()["revision"] == 1


def test_a_script_has_a_refused_film_read_and_is_told_when_there_is_none(
    client: TestClient, node: OfflineNode
) -> None:
    node.finish(1, StudyState.SKIPPED, SAW, reading=analysis(refused()))
    node.finish(
        2, StudyState.SKIPPED, "blank", reading=analysis(ImageRecord(uid(2, 1), "", "blank", "blank"))
    )
    headers = {"X-CSRF-Token": csrf_token(client.get("/studies/1").text)}
    assert client.post("/api/v1/studies/1/read-anyway", headers=headers).json() == {"retried": True}
    answer = client.post("/api/v1/studies/2/read-anyway", headers=headers)
    assert answer.status_code == 409
    assert answer.json() == {"error": "The gate refused no film of this study that could be read."}
    assert client.post("/api/v1/studies/3/read-anyway", headers=headers).status_code == 404


def test_what_was_read_although_the_gate_refused_it_is_marked(client: TestClient, node: OfflineNode) -> None:
    remark = f"the gate refused this film, because {SAW}; it was read because an admin asked for it"
    image = ImageRecord(uid(1, 1), "PA", "", "", (remark,))
    kept = analysis(image, parameters=("gate=gate 0.2.0", GATE_OVERRIDDEN))
    node.finish(1, StudyState.REPORTED, reading=kept)
    page = client.get("/studies/1").text
    assert 'id="overridden"' in page
    assert remark in page
