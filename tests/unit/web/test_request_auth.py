"""Who may come in, what they may do, and what is written down of it."""

from __future__ import annotations

import contextlib
import gzip
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

from dicom_node.errors import NodeError
from dicom_node.store.states import StudyState
from dicom_node.web.api import (
    feedback_routes,
    node_routes,
    reader_study_routes,
    study_routes,
    token_routes,
    upload_routes,
)
from dicom_node.web.app import create_app
from dicom_node.web.auth.accounts import LOGINS_PER_MINUTE, Accounts, LoginThrottle, Role
from dicom_node.web.pages import login, node_pages, reader_studies, study_pages, tokens
from tests.support.login import PASSWORD, csrf_token, log_in
from tests.support.offline_node import OfflineNode

PARTS = (
    *(study_routes, feedback_routes, upload_routes, token_routes, node_routes),
    *(study_pages, node_pages, login, tokens, reader_studies, reader_study_routes),
)


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
    assert answer.headers["Set-Cookie"].startswith("__Host-reading_room=")
    assert "; Path=/;" in answer.headers["Set-Cookie"]
    assert "domain" not in answer.headers["Set-Cookie"].casefold()
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
    headers = {"Authorization": f"Bearer {accounts.make_token(ada, '', 3600)}"}
    with page_of(guarded) as client:
        assert client.get("/api/v1/studies", headers=headers).status_code == 200
        assert client.post("/api/v1/studies/1/retry", headers=headers).json() == {"retried": True}
        accounts.change("ada")
        assert client.get("/api/v1/studies", headers=headers).status_code == 401


def test_a_token_expires_is_listed_and_revoked(guarded: OfflineNode) -> None:
    now = [1000.0]
    accounts = Accounts(guarded.index.engine, lambda: now[0])
    ada, rita = accounts.find("ada"), accounts.find("rita")
    assert ada
    assert rita
    token = accounts.make_token(ada, "viewer", 60)
    other = accounts.make_token(rita, "viewer", 3600)
    assert [(each.account, each.name, each.expires_at) for each in accounts.tokens()] == [
        ("ada", "viewer", 1060.0),
        ("rita", "viewer", 4600.0),
    ]
    assert [each.account for each in accounts.tokens(rita)] == ["rita"]
    with pytest.raises(NodeError, match="already"):
        accounts.make_token(ada, "viewer", 60)
    for name, seconds in (("x" * 65, 60), ("a\nb", 60), ("", 0), ("", 1e12), ("", float("nan"))):
        with pytest.raises(NodeError):
            accounts.make_token(ada, name, seconds)
    assert accounts.find_by_token(token, "token") == ada
    now[0] += 61
    assert accounts.find_by_token(token, "token") is None
    assert [each.account for each in accounts.tokens()] == ["rita"]
    accounts.revoke_token("rita", "viewer")
    assert accounts.find_by_token(other, "token") is None
    with pytest.raises(NodeError, match="no token"):
        accounts.revoke_token("rita", "viewer")


def test_a_user_makes_and_revokes_tokens_and_a_script_makes_none(guarded: OfflineNode) -> None:
    with page_of(guarded) as client:
        log_in(client, "rita")
        csrf = {"X-CSRF-Token": csrf_token(client.get("/tokens").text)}
        made = client.post("/api/v1/tokens", json={"name": "viewer", "days": 1}, headers=csrf)
        assert made.status_code == 201
        script = {"Authorization": f"Bearer {made.json()['token']}"}
        assert client.post("/api/v1/tokens", json={"name": "viewer"}, headers=csrf).status_code == 422
        assert client.post("/api/v1/tokens", json={}, headers=script).status_code == 403
        assert client.post("/tokens", headers=script).status_code == 403
        assert client.delete("/api/v1/tokens/ada/viewer", headers=csrf).status_code == 403
        shown = client.post("/tokens", data={"csrf": csrf["X-CSRF-Token"], "name": "by page", "days": "3"})
        by_page = re.search(r'id="token">([\w-]{43})<', shown.text)
        assert by_page
        assert "by page" in client.get("/tokens").text
        assert by_page[1] not in client.get("/tokens").text
    with page_of(guarded) as client:
        assert client.get("/api/v1/tokens", headers=script).json()[0]["name"] == "viewer"
        log_in(client, "ada")
        csrf_of_ada = csrf_token(client.get("/tokens").text)
        form = {"csrf": csrf_of_ada, "account": "rita", "name": "viewer"}
        assert client.post("/tokens/revoke", data=form).status_code == 303
        client.cookies.clear()
        assert client.get("/api/v1/tokens", headers=script).status_code == 401
        other = {"Authorization": f"Bearer {by_page[1]}"}
        assert client.get("/api/v1/tokens", headers=other).status_code == 200


def test_the_description_of_the_api_is_for_readers_and_by_setting(guarded: OfflineNode) -> None:
    place = "/api/v1/openapi.json"
    with page_of(guarded) as client:
        assert client.get(place).status_code == 401
        log_in(client, "rita")
        assert "/api/v1/studies" in client.get(place).json()["paths"]
    web = guarded.settings.web.model_copy(update={"api_description": False})
    guarded.settings = guarded.settings.model_copy(update={"web": web})
    with page_of(guarded) as client:
        log_in(client, "rita")
        assert client.get(place).status_code == 404


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
        client.get("/login"), client.get("/login")
        answer = client.get("/login")
        assert answer.status_code == 429
        assert answer.headers["Content-Security-Policy"]
        for path in ("/healthz", "/readyz") * 5:
            assert client.get(path).status_code == 200
    node.close()


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-For": "203.0.113.66"},
        {"X-Forwarded-Proto": "http"},
        {"x-forwarded-host": "localhost"},
        {"X-Forwarded-Prefix": "/"},
        {"X-Real-IP": ""},
        {"Forwarded": "for=203.0.113.66"},
        {"Via": "1.1 proxy"},
        {"CF-Connecting-IP": "203.0.113.66"},
    ],
    ids=lambda headers: next(iter(headers)),
)
def test_who_comes_through_a_proxy_has_to_log_in_even_where_nobody_else_has(
    tmp_path: Path, headers: dict[str, str]
) -> None:
    node = OfflineNode(tmp_path / "data")
    with page_of(node) as client:
        assert client.get("/access").status_code == 200
        assert client.get("/access", headers=headers).status_code == 303
        assert client.get("/api/v1/studies", headers=headers).status_code == 401
    node.close()


def behind_proxies(node: OfflineNode, *proxies: str, peer: str = "127.0.0.1") -> TestClient:
    web = node.settings.web.model_copy(update={"login": True, "trusted_proxies": proxies})
    settings = node.settings.model_copy(update={"web": web})
    return TestClient(
        create_app(settings), base_url="http://localhost", follow_redirects=False, client=(peer, 1234)
    )


@pytest.mark.parametrize(
    ("peer", "header", "address"),
    [
        ("127.0.0.1", "203.0.113.7", "203.0.113.7"),
        ("127.0.0.1", "198.51.100.1, 203.0.113.7", "203.0.113.7"),
        ("127.0.0.1", "203.0.113.7, 10.0.0.9", "203.0.113.7"),
        ("127.0.0.1", "198.51.100.1, 203.0.113.7:5555, 10.0.0.9", "203.0.113.7"),
        ("127.0.0.1", "[2001:db8::7]:443", "2001:db8::7"),
        ("::ffff:10.0.0.1", "::ffff:203.0.113.7", "203.0.113.7"),
        ("127.0.0.1", "unknown", "127.0.0.1"),
        ("127.0.0.1", "x" * 5000, "127.0.0.1"),
        ("203.0.113.66", "198.51.100.1", "203.0.113.66"),
    ],
)
def test_the_address_is_the_readers_own_behind_a_trusted_proxy_only(
    guarded: OfflineNode, peer: str, header: str, address: str
) -> None:
    with behind_proxies(guarded, "127.0.0.1", "10.0.0.0/8", peer=peer) as client:
        client.headers["X-Forwarded-For"] = header
        assert log_in(client, "ada") == 303
        shown = re.sub(r"<[^>]+>|\s+", " ", client.get("/access").text)
    assert re.search(rf"ada +{re.escape(address)} +login", shown)


def test_one_reader_behind_a_proxy_locks_out_nobody_else(guarded: OfflineNode) -> None:
    with behind_proxies(guarded, "127.0.0.1") as client:
        client.headers["X-Forwarded-For"] = "203.0.113.66"
        for _ in range(LOGINS_PER_MINUTE + 1):
            log_in(client, "rita", "wrong")
        assert log_in(client, "rita") == 429
        client.headers["X-Forwarded-For"] = "203.0.113.7"
        assert log_in(client, "rita") == 303


def test_the_address_of_a_proxy_has_no_limit_of_its_own() -> None:
    throttle = LoginThrottle()
    guesses = [f"guess {number}" for number in range(11 * LOGINS_PER_MINUTE)]
    assert all(throttle.allowed("10.0.0.1", name, shared=True) for name in guesses)
    assert not all(throttle.allowed("203.0.113.66", name) for name in guesses)
    assert not all(throttle.allowed("10.0.0.1", "ada", shared=True) for _ in range(LOGINS_PER_MINUTE + 1))
    assert throttle.allowed("10.0.0.1", "rita", shared=True)


def test_the_addresses_of_one_ipv6_network_count_as_one() -> None:
    throttle = LoginThrottle()
    one_network = [f"2001:db8:1:2::{number:x}" for number in range(1, 3 * LOGINS_PER_MINUTE)]
    assert sum(throttle.allowed(address, "ada") for address in one_network) == LOGINS_PER_MINUTE
    assert throttle.allowed("2001:db8:1:3::1", "ada")


def test_requests_are_counted_for_each_reader_behind_a_proxy(guarded: OfflineNode) -> None:
    web = guarded.settings.web.model_copy(update={"requests_per_minute": 5})
    guarded.settings = guarded.settings.model_copy(update={"web": web})
    with behind_proxies(guarded, "127.0.0.1") as client:
        for address in ("203.0.113.66", "203.0.113.7"):
            found = [client.get("/login", headers={"X-Forwarded-For": address}).status_code for _ in range(6)]
            assert found == [200] * 5 + [429]
        for session in ("one", "other"):  # the proxy names no reader
            shown = {"Cookie": f"reading_room={session}"}
            assert [client.get("/login", headers=shown).status_code for _ in range(6)] == [200] * 5 + [429]


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
def test_a_form_is_small_wherever_it_is_sent(guarded: OfflineNode, kind: str) -> None:
    with page_of(guarded) as client:
        log_in(client, "ada")
        for path in ("/login", "/api/v1/trials", "/api/v1/instances"):
            answer = client.post(path, content=b"a=b&" * 20_000, headers={"Content-Type": kind})
            assert answer.status_code == 413, path


def test_a_compressed_body_is_refused_unread(guarded: OfflineNode) -> None:
    with page_of(guarded) as client:
        headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
        assert client.post("/login", content=gzip.compress(b"{}"), headers=headers).status_code == 415
