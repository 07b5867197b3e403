"""Who may come in, what they may do, and what is written down of it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

from dicom_node.errors import NodeError, StorageFailed
from dicom_node.store.states import StudyState
from dicom_node.web.api import feedback_routes, node_routes, study_routes, upload_routes
from dicom_node.web.app import create_app
from dicom_node.web.auth.accounts import LOGINS_PER_MINUTE, Accounts, Role
from dicom_node.web.pages import login, node_pages, study_pages
from dicom_node.web.request_auth import read_secret_key
from tests.support.login import PASSWORD, csrf_token, log_in
from tests.support.offline_node import OfflineNode

PARTS = (study_routes, feedback_routes, upload_routes, node_routes, study_pages, node_pages, login)


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[OfflineNode]:
    """A node whose page asks for a login, with a reader, an admin and a failed study."""
    node = OfflineNode(tmp_path / "data")
    web = node.settings.web.model_copy(update={"login": True})
    node.settings = node.settings.model_copy(update={"web": web})
    accounts = Accounts(node.index.engine)
    accounts.add("rita", Role.READER, PASSWORD)
    accounts.add("ada", Role.ADMIN, PASSWORD)
    node.finish(1, StudyState.FAILED, "no model could read it", results=0)
    yield node
    node.close()


@contextlib.contextmanager
def page_of(node: OfflineNode) -> Iterator[TestClient]:
    with TestClient(create_app(node.settings), base_url="http://localhost", follow_redirects=False) as client:
        yield client


def test_without_a_login_nothing_is_shown_but_where_to_log_in(guarded: OfflineNode) -> None:
    with page_of(guarded) as client:
        answer = client.get("/studies/1?x=1")
        assert (answer.status_code, answer.headers["Location"]) == (303, "/login?next=/studies/1%3Fx%3D1")
        for path in ("/api/v1/studies", "/api/v1/studies/1/images/1/pixels", "/metrics", "/api/v1/events"):
            assert client.get(path).status_code == 401, path
        assert client.get("/healthz").status_code == 200


def test_every_address_asks_for_a_login_but_that_of_the_login(guarded: OfflineNode) -> None:
    with page_of(guarded) as client:
        for path, methods in _addresses():
            for method in sorted(methods - {"HEAD"}):
                answer = client.request(method, path)
                if path in ("/login",):
                    continue
                assert answer.status_code in (401, 403) or answer.headers["Location"].startswith("/login"), (
                    path
                )


def test_no_change_is_taken_without_the_token_of_the_page(guarded: OfflineNode) -> None:
    with page_of(guarded) as client:
        assert log_in(client, "ada") == 303
        changes = [(path, method) for path, methods in _addresses() for method in methods - {"GET", "HEAD"}]
        assert len(changes) >= 6
        for path, method in changes:
            assert client.request(method, path).status_code == 403, path
            assert client.request(method, path, headers={"X-CSRF-Token": "0" * 64}).status_code == 403, path
        token = csrf_token(client.get("/").text)
        cross = {"X-CSRF-Token": token, "Sec-Fetch-Site": "cross-site"}
        assert client.post("/api/v1/studies/1/retry", headers=cross).status_code == 403
        assert client.post("/api/v1/studies/1/retry", headers={"X-CSRF-Token": token}).status_code == 200


def _addresses() -> list[tuple[str, set[str]]]:
    """Every address of pages and API, and what may be done there."""
    routes = [route for part in PARTS for route in part.router.routes if isinstance(route, APIRoute)]
    return [(re.sub(r"\{\w+\}", "1", route.path), set(route.methods)) for route in routes]


def test_a_reader_looks_and_an_admin_also_changes(guarded: OfflineNode) -> None:
    with page_of(guarded) as client:
        assert log_in(client, "rita") == 303
        shown = client.get("/").text
        assert "Retry" not in shown
        headers = {"X-CSRF-Token": csrf_token(shown)}
        assert client.post("/api/v1/studies/1/retry", headers=headers).status_code == 403
        assert client.post("/api/v1/instances", headers=headers).status_code == 403
        assert client.get("/access").status_code == 403
    with page_of(guarded) as client:
        log_in(client, "ada")
        assert "Retry" in client.get("/").text
        assert "login refused" not in client.get("/access").text


def test_the_session_of_a_login_is_a_new_one_and_ends_with_the_logout(guarded: OfflineNode) -> None:
    with page_of(guarded) as client:
        client.get("/login")
        before = client.cookies["reading_room"]
        log_in(client, "rita")
        held = client.cookies["reading_room"]
        assert held != before
        csrf = csrf_token(client.get("/").text)
        assert client.post("/logout", data={"csrf": csrf}).headers["Location"] == "/login"
        client.cookies.set("reading_room", held)
        assert client.get("/").status_code == 303


def test_a_cookie_cannot_be_read_by_a_script_or_sent_by_another_site(guarded: OfflineNode) -> None:
    with page_of(guarded) as client:
        flags = client.get("/login").headers["Set-Cookie"]
    assert "HttpOnly" in flags
    assert "SameSite=Lax" in flags
    web = guarded.settings.web.model_copy(update={"https": True})
    guarded.settings = guarded.settings.model_copy(update={"web": web})
    with page_of(guarded) as client:
        answer = client.get("/login")
    assert "; Secure" in answer.headers["Set-Cookie"]
    assert "max-age" in answer.headers["Strict-Transport-Security"]


def test_wrong_passwords_are_refused_alike_and_not_for_ever(guarded: OfflineNode) -> None:
    with page_of(guarded) as client:
        assert log_in(client, "rita", "wrong") == 401
        assert log_in(client, "nobody", PASSWORD) == 401
        for _ in range(LOGINS_PER_MINUTE - 1):
            log_in(client, "rita", "wrong")
        assert log_in(client, "rita", PASSWORD) == 429
        assert log_in(client, "ada") == 303
        assert "login refused" in client.get("/access").text


@pytest.mark.parametrize(
    ("target", "led"),
    [("/studies/1", "/studies/1"), ("//evil.example", "/"), ("/\\evil.example", "/"), ("https://evil", "/")],
)
def test_a_login_leads_nowhere_else(guarded: OfflineNode, target: str, led: str) -> None:
    with page_of(guarded) as client:
        csrf = csrf_token(client.get("/login").text)
        form = {"csrf": csrf, "name": "rita", "password": PASSWORD, "next": target}
        assert client.post("/login", data=form).headers["Location"] == led


def test_a_script_shows_a_token_and_needs_no_other(guarded: OfflineNode) -> None:
    accounts = Accounts(guarded.index.engine)
    ada = accounts.find("ada")
    assert ada
    headers = {"Authorization": f"Bearer {accounts.begin_session(ada, None)}"}
    with page_of(guarded) as client:
        assert client.get("/api/v1/studies", headers=headers).status_code == 200
        assert client.post("/api/v1/studies/1/retry", headers=headers).json() == {"retried": True}
        accounts.change("ada")
        assert client.get("/api/v1/studies", headers=headers).status_code == 401


def test_a_session_ends_by_itself(guarded: OfflineNode) -> None:
    now = [1000.0]
    accounts = Accounts(guarded.index.engine, lambda: now[0])
    rita = accounts.find("rita")
    assert rita
    token = accounts.begin_session(rita, 60)
    assert accounts.find_by_token(token, "login") == rita
    assert accounts.find_by_token(token, "token") is None
    now[0] += 61
    assert accounts.find_by_token(token, "login") is None


def test_an_account_is_one_of_its_name_with_a_long_password(guarded: OfflineNode) -> None:
    accounts = Accounts(guarded.index.engine)
    for name, password, words in (
        ("rita", PASSWORD, "already"),
        ("x", "short", "12"),
        ("", PASSWORD, "name"),
    ):
        with pytest.raises(NodeError, match=words):
            accounts.add(name, Role.READER, password)
    accounts.add("by token", Role.READER, None)
    assert accounts.authenticate("by token", "") is None
    accounts.remove("rita")
    assert [each.name for each in accounts.all()] == ["ada", "by token"]
    with pytest.raises(NodeError, match="no account"):
        accounts.change("rita")


def test_every_view_is_written_down_once_a_minute(guarded: OfflineNode) -> None:
    with page_of(guarded) as client:
        log_in(client, "ada")
        for _ in range(3):
            client.get("/studies/1")
        client.get("/")
        shown = re.sub(r"<[^>]+>|\s+", " ", client.get("/access").text)
    assert len(re.findall(r"ada +testclient +study +1", shown)) == 1
    assert len(re.findall(r"ada +testclient +worklist", shown)) == 1


def test_too_many_requests_and_too_large_ones_are_refused(tmp_path: Path) -> None:
    node = OfflineNode(tmp_path / "data")
    web = node.settings.web.model_copy(update={"requests_per_minute": 3})
    node.settings = node.settings.model_copy(update={"web": web})
    with page_of(node) as client:
        large = client.post("/logout", content=b"x" * 70_000, headers={"Content-Type": "text/plain"})
        assert large.status_code in (403, 413)
        client.get("/healthz"), client.get("/healthz")
        answer = client.get("/healthz")
        assert answer.status_code == 429
        assert answer.headers["Content-Security-Policy"]
    node.close()


@pytest.mark.parametrize("damaged", [b"", b"short", bytes(32)])
def test_a_damaged_secret_is_not_used(tmp_path: Path, damaged: bytes) -> None:
    path = tmp_path / "web.key"
    key = read_secret_key(path)
    assert key == read_secret_key(path)
    path.write_bytes(damaged)
    with pytest.raises(StorageFailed, match="damaged"):
        read_secret_key(path)
    assert path.read_bytes() == damaged
    assert list(tmp_path.iterdir()) == [path]
