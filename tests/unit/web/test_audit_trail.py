"""What readers do on the page and in the API is in the audit trail, and what they are refused too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from dicom_node.config.web import WebSettings
from dicom_node.errors import StorageFull
from dicom_node.store.states import StudyState
from dicom_node.web.auth.accounts import Accounts, Role
from tests.support.audit_messages import Said, said
from tests.support.login import PASSWORD, csrf_token, log_in
from tests.support.offline_node import OfflineNode


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[OfflineNode]:
    """Node whose readers must log in; it holds one study."""
    node = OfflineNode(tmp_path / "guarded")
    node.settings = node.settings.model_copy(update={"web": WebSettings(login=True, patient="name")})
    accounts = Accounts(node.index.engine)
    accounts.add("ada", Role.READER, PASSWORD)
    accounts.add("root", Role.ADMIN, PASSWORD)
    node.finish(1, StudyState.REPORTED)
    yield node
    node.close()


@pytest.fixture
def page(guarded: OfflineNode) -> Iterator[TestClient]:
    with guarded.browser() as one:
        yield one


def events(node: OfflineNode) -> list[Said]:
    return said(node.data_dir.audit_trail)


def kinds(node: OfflineNode) -> list[tuple[str, ...]]:
    return [(each.event, *each.types) for each in events(node)]


def test_login_and_logout_are_entries_and_so_is_a_wrong_password(
    guarded: OfflineNode, page: TestClient
) -> None:
    assert log_in(page, "ada", "wrong password!") == 401
    assert log_in(page, "ada") == 200  # after the redirect
    token = csrf_token(page.get("/studies/1").text)
    page.post("/logout", data={"csrf": token})
    found = [each for each in events(guarded) if each.event == "110114"]
    assert [(each.types, each.outcome, each.users[0]) for each in found] == [
        (("110122",), 4, ("ada", "testclient")),
        (("110122",), 0, ("ada", "testclient")),
        (("110123",), 0, ("ada", "testclient")),
    ]


def test_a_viewed_study_is_an_entry_with_study_and_pseudonym(guarded: OfflineNode, page: TestClient) -> None:
    log_in(page, "ada")
    page.get("/studies/1")
    page.get("/studies/1")
    (viewed,) = [each for each in events(guarded) if each.event == "110103"]
    assert (viewed.action, viewed.users[0][0], viewed.description) == ("R", "ada", "study")
    with guarded.index.engine.connect() as connection:
        (uid,) = connection.exec_driver_sql("SELECT study_instance_uid FROM study").one()
    assert viewed.objects[0] == uid
    assert viewed.objects[1].startswith("P-")


def test_a_query_has_its_keys_and_not_their_values(guarded: OfflineNode, page: TestClient) -> None:
    log_in(page, "ada")
    assert page.get("/dicom-web/studies", params={"PatientName": "Secret*"}).status_code in (200, 204)
    (query,) = [each for each in events(guarded) if each.description == "dicomweb search"]
    assert query.event == "110112"
    written = b"".join(path.read_bytes() for path in guarded.data_dir.audit_trail.glob("*.jsonl"))
    assert b"UGF0aWVudE5hbWU=" in written  # PatientName, in base64
    assert b"Secret" not in written
    assert b"U2VjcmV0" not in written


def test_what_leaves_as_a_file_is_an_export(guarded: OfflineNode, page: TestClient) -> None:
    log_in(page, "ada")
    page.get("/api/v1/feedback.csv")
    assert ("110106",) in kinds(guarded)


def test_who_asks_for_more_than_they_may_is_an_alert(guarded: OfflineNode, page: TestClient) -> None:
    log_in(page, "ada")
    for _ in range(3):
        assert page.get("/access").status_code == 403
    (alert,) = [each for each in events(guarded) if each.event == "110113"]
    assert (alert.types, alert.outcome, alert.objects) == (("110132",), 4, ("GET /access",))
    assert ("ada", "testclient") in alert.users


def test_a_wrong_token_is_an_alert(guarded: OfflineNode, page: TestClient) -> None:
    answer = page.get("/api/v1/studies", headers={"Authorization": "Bearer nonsense"})
    assert answer.status_code == 401
    assert ("110113", "110132") in kinds(guarded)


def test_the_page_is_shown_and_says_so_when_the_trail_cannot_be_written(
    guarded: OfflineNode, page: TestClient
) -> None:
    def full(_messages: list[str]) -> None:
        raise StorageFull("audit: No space left on device")

    trail = guarded.context.audit_trail
    kept, trail.chain.append = trail.chain.append, full
    assert log_in(page, "ada") == 200  # after the redirect
    assert page.get("/studies/1").status_code == 200
    assert "The audit trail cannot be written: audit: No space left on device" in page.get("/health").text
    assert "No space left" in page.get("/api/v1/status").json()["audit_trail_trouble"]
    trail.chain.append = kept
    trail.close()
    assert "The audit trail cannot be written" not in page.get("/health").text
    assert ("110114", "110122") in kinds(guarded)
