from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from httpx import Response

from dicom_node.results.sr.findings import write_sr
from dicom_node.store.states import StudyState
from dicom_node.web.auth.accounts import Accounts, Role
from tests.support.factories import film
from tests.support.login import PASSWORD, csrf_token, log_in
from tests.support.offline_node import OWNER, OfflineNode
from tests.support.reports import EQUIPMENT, report_of


@pytest.fixture
def reported(tmp_path: Path) -> Iterator[OfflineNode]:
    """A node with one study and its real report, delivered."""
    node = OfflineNode(tmp_path / "data")
    ds = film(rows=64, columns=64)
    sr = write_sr(report_of(ds), equipment=EQUIPMENT)
    node.finish(1, StudyState.REPORTED, films=[ds], objects=[("sr", sr)])
    node.send("pacs")
    yield node
    node.close()


def token(client: TestClient) -> str:
    return csrf_token(client.get("/studies/1").text)


def change(client: TestClient, action: str, **fields: str) -> Response:
    fields["csrf"] = token(client)
    return client.post(f"/studies/1/{action}", data=fields, follow_redirects=False)


def change_by_api(client: TestClient, action: str, body: object = None) -> Response:
    headers = {"X-CSRF-Token": token(client)}
    return client.post(f"/api/v1/studies/1/{action}", json=body, headers=headers)


def test_an_admin_takes_the_results_back_and_everybody_sees_it(reported: OfflineNode) -> None:
    with reported.browser() as client:
        assert "Withdraw all results of this study" in client.get("/studies/1").text
        answer = change(client, "retract", reason="Another patient's <b>film</b>")
        assert (answer.status_code, answer.headers["location"]) == (303, "/studies/1")
        shown = client.get("/studies/1").text
        again = change_by_api(client, "retract", {"reason": "once more"})
    assert "withdrawn</span>" in shown
    assert "Withdraw all results of this study" not in shown
    assert again.status_code == 422
    assert again.json()["error"].startswith("This study: no results that could be withdrawn")
    reported.now = time.time() + 1
    (note,) = reported.delivery_queue.take("pacs", OWNER, 60)
    said = reported.data_dir.results.path(note.file).read_bytes()
    assert b"Another patient's <b>film</b>" in said


@pytest.mark.parametrize(
    "body", [{}, {"reason": ""}, {"reason": " "}, {"reason": "x" * 401}, {"reason": "x", "a": 1}]
)
def test_a_retraction_needs_a_reason(reported: OfflineNode, body: dict[str, object]) -> None:
    with reported.browser() as client:
        assert change_by_api(client, "retract", body).status_code == 400
        assert change(client, "retract", reason=" ").status_code == 400
        assert client.get("/api/v1/studies/1").json()["results"][0]["state"] == "SENT"


def test_only_an_admin_may(reported: OfflineNode) -> None:
    reported.settings = reported.settings.model_copy(
        update={"web": reported.settings.web.model_copy(update={"login": True})}
    )
    Accounts(reported.index.engine).add("rita", Role.READER, PASSWORD)
    with reported.browser() as client:
        assert log_in(client, "rita") in (200, 303)
        page = client.get("/studies/1").text
        assert "Withdraw" not in page
        assert "Check reproducibility" not in page
        assert change(client, "retract", reason="x").status_code == 403
        assert change(client, "replay").status_code == 403
        assert change_by_api(client, "replay").status_code == 403


def test_a_replay_that_is_not_possible_says_why(reported: OfflineNode) -> None:
    with reported.browser() as client:
        # The bundle of this report is on no disk.
        answer = change_by_api(client, "replay")
        assert answer.status_code == 422
        assert "is not installed" in answer.json()["error"]
        assert str(film().StudyInstanceUID) not in answer.text
        assert change_by_api(client, "retract", {"reason": "x"}).json()["results"] == 1
        accesses = client.get("/access").text
    assert ">results withdrawn<" in accesses
    assert ">reproducibility check<" in accesses
