"""Readers whom an identity provider vouches for: a real provider's process, and one that lies."""

from __future__ import annotations

import asyncio
import contextlib
import html
import json
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from fastapi.testclient import TestClient
from joserfc.jwk import OctKey, RSAKey
from playwright.sync_api import expect, sync_playwright
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from dicom_node.config.sections import OidcSettings
from dicom_node.errors import ConfigurationError
from dicom_node.web.app import create_app
from dicom_node.web.auth import oidc_client
from dicom_node.web.auth.accounts import Accounts, Role
from dicom_node.web.auth.oidc_client import STATE_SECONDS, LoginFailed, OidcClient
from dicom_node.web.auth.security_middleware import SECURITY_HEADERS
from tests.support.browser import CHROMIUM, FLAGS
from tests.support.login import PASSWORD, csrf_token, log_in
from tests.support.offline_node import OfflineNode
from tests.support.oidc_issuer import CLIENT, SECRET, Issuer
from tests.support.peers import free_port, until
from tests.support.web_server import served

pytestmark = pytest.mark.peer

PAGE = "http://reading.example"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[OfflineNode]:
    one = OfflineNode(tmp_path / "data")
    yield one
    one.close()


@pytest.fixture(scope="module")
def lying() -> Iterator[Issuer]:
    one = Issuer()
    with served(one.app) as address:
        one.address = address
        yield one


@pytest.fixture
def issuer(lying: Issuer) -> Issuer:
    """The provider that lies, honest so far; its one user is a reader."""
    lying.key, lying.algorithm, lying.refuses = lying.published[0], "RS256", ""
    lying.claims, lying.info, lying.named = {"roles": ["dicom-node-reader"]}, {}, {}
    lying.ended.clear()
    return lying


@pytest.fixture(scope="module")
def provider() -> Iterator[str]:
    """A provider in a process of its own, with three users."""
    port = free_port()
    users = [
        {"sub": "rita", "preferred_username": "Rita", "realm_access": {"roles": ["users", "radiology"]}},
        {"sub": "ada", "preferred_username": "Ada", "realm_access": {"roles": ["radiology", "it"]}},
        {"sub": "mallory", "preferred_username": "Mallory", "realm_access": {"roles": ["users"]}},
    ]
    command = [sys.executable, "-m", "oidc_provider_mock", "--port", str(port), "--require-nonce", "true"]
    for user in users:
        command += ["--user-claims", json.dumps(user)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        address = f"http://127.0.0.1:{port}"

        def answers() -> bool:
            with contextlib.suppress(httpx.TransportError):
                return httpx.get(f"{address}/jwks", trust_env=False).status_code == 200
            return False

        until(answers, 60, "the identity provider")
        yield address
        process.terminate()


def with_provider(node: OfflineNode, address: str, **values: object) -> OfflineNode:
    secret = node.settings.data_dir / "secret"
    secret.write_text(f"{SECRET}\n")
    settings = OidcSettings(
        **{"issuer": address, "client_id": CLIENT, "client_secret_file": secret, "page_url": PAGE, **values}
    )
    node.settings = node.settings.model_copy(update={"oidc": settings})
    return node


@contextlib.contextmanager
def page_of(node: OfflineNode) -> Iterator[TestClient]:
    with TestClient(create_app(node.settings), base_url="http://localhost", follow_redirects=False) as one:
        yield one


def begun(client: TestClient, target: str = "/") -> str:
    """Where the page sends a browser."""
    answer = client.get("/login/oidc", params={"next": target})
    assert answer.status_code == 303
    return answer.headers["Location"]


def sent_back(answer: httpx.Response) -> str:
    """Path and query at which the provider sends a browser back to the page."""
    location = answer.headers["Location"]
    assert location.startswith(f"{PAGE}/login/oidc/back?")
    return location.removeprefix(PAGE)


def came_back(client: TestClient, target: str = "/") -> httpx.Response:
    return client.get(sent_back(httpx.get(begun(client, target), trust_env=False)))


def as_user(client: TestClient, sub: str, target: str = "/") -> httpx.Response:
    answer = httpx.post(begun(client, target), data={"sub": sub}, trust_env=False)
    return client.get(sent_back(answer))


def logged_out(client: TestClient) -> str:
    """Where a logout leads."""
    answer = client.post("/logout", data={"csrf": csrf_token(client.get("/").text)})
    assert answer.status_code == 303
    return answer.headers["Location"]


def link_in(text: str) -> str:
    """Where the page that follows a logout goes on to by itself."""
    found = re.search(r'http-equiv="refresh" content="0; url=([^"]+)"', text)
    assert found
    return html.unescape(found[1])


MAPPED = {"role_claim": "realm_access.roles", "readers": ("radiology",), "admins": ("it",)}


def test_a_reader_of_a_real_provider_comes_in_and_goes(node: OfflineNode, provider: str) -> None:
    with page_of(with_provider(node, provider, **MAPPED)) as client:
        assert client.get("/").status_code == 303  # the page asks who they are, though on the loopback
        shown = client.get("/login")
        assert "Log in with your organisation" in shown.text
        assert shown.headers["Content-Security-Policy"] == SECURITY_HEADERS["Content-Security-Policy"]
        answer = as_user(client, "rita", "/cohort")
        assert (answer.status_code, answer.headers["Location"]) == (303, "/cohort")
        page = client.get("/cohort")
        assert page.status_code == 200
        assert "Rita" in page.text
        assert client.get("/access").status_code == 403
        account = Accounts(node.index.engine).find("Rita")
        assert account is not None
        assert account.role is Role.READER
        assert logged_out(client) == "/login/oidc/out"
        assert client.get("/cohort").status_code == 303
        onward = client.get("/login/oidc/out")
        assert onward.headers["Content-Security-Policy"] == SECURITY_HEADERS["Content-Security-Policy"]
        there = httpx.get(link_in(onward.text), trust_env=False)
        assert there.status_code == 200
        assert f"redirected to <code>{PAGE}/login</code>" in there.text
        assert as_user(client, "ada").status_code == 303
        seen = client.get("/access")
        assert seen.status_code == 200
        assert "login" in seen.text


def test_who_has_no_role_stays_out_and_a_refusal_is_said(node: OfflineNode, provider: str) -> None:
    with page_of(with_provider(node, provider, **MAPPED)) as client:
        answer = as_user(client, "mallory")
        assert answer.status_code == 403
        assert "gives you no role" in answer.text
        assert client.get("/").status_code == 303
        assert Accounts(node.index.engine).all() == []
        denied = httpx.post(begun(client), data={"action": "deny"}, trust_env=False)
        state = parse_qs(urlsplit(begun(client)).query)["state"][0]
        assert denied.status_code in (302, 400)
        answer = client.get("/login/oidc/back", params={"error": "access_denied", "state": state})
        assert (answer.status_code, "refused the login" in answer.text) == (401, True)


def test_the_provider_says_who_is_what_each_time(node: OfflineNode, issuer: Issuer) -> None:
    accounts = Accounts(node.index.engine)
    with page_of(with_provider(node, issuer.address)) as client:
        issuer.claims["roles"] = "dicom-node-admin"  # one, and not in a list
        assert came_back(client).status_code == 303
        assert client.get("/access").status_code == 200
        (account,) = accounts.all()
        token = accounts.make_token(account, "", 3600)
        issuer.claims |= {"roles": ["dicom-node-reader"], "preferred_username": "rita.married"}
        assert came_back(client).status_code == 303
        assert client.get("/access").status_code == 403
        (account,) = accounts.all()
        assert (account.name, account.role) == ("rita", Role.READER)
        issuer.claims["roles"] = []
        with page_of(node) as elsewhere:
            assert came_back(elsewhere).status_code == 403
        assert client.get("/").status_code == 303
        assert accounts.find_by_token(token, "token") is None


def test_nobody_becomes_somebody_else_by_name(node: OfflineNode, issuer: Issuer) -> None:
    accounts = Accounts(node.index.engine)
    accounts.add("rita", Role.ADMIN, PASSWORD)
    with page_of(with_provider(node, issuer.address)) as client:
        answer = came_back(client)
        assert answer.status_code == 403
        assert "already exists" in answer.text
        issuer.claims["preferred_username"] = "carla"
        assert came_back(client).status_code == 303
        issuer.claims["sub"] = "2"
        assert came_back(client).status_code == 403
        with page_of(node) as local:  # the local login stays, and takes no digest for a password
            assert log_in(local, "carla", "oidc:" + "0" * 64) == 401
            assert log_in(local, "rita") == 303


def test_what_the_token_lacks_is_asked_of_user_info(node: OfflineNode, issuer: Issuer) -> None:
    accounts = Accounts(node.index.engine)
    with page_of(with_provider(node, issuer.address, role_claim="access.roles")) as client:
        issuer.named = {"userinfo_endpoint": f"http://127.0.0.1:{free_port()}/"}
        issuer.claims = {"access": {"roles": ["dicom-node-admin"]}}
        assert came_back(client).status_code == 303  # the token says all: nobody is asked
        issuer.claims = {"access": {"roles": []}}
        assert came_back(client).status_code == 403  # and that there is no role
        issuer.claims = {"preferred_username": None, "access": {"level": 1}, "sub": "2"}
        answer = came_back(client)
        assert (answer.status_code, "does not answer" in answer.text) == (503, True)
        issuer.named = {"userinfo_endpoint": f"{issuer.address}/info"}
        issuer.info = {"sub": "2", "preferred_username": "carla", "access": {"roles": ["dicom-node-reader"]}}
        assert came_back(client).status_code == 303
        assert {(each.name, each.role) for each in accounts.all()} == {
            ("rita", Role.ADMIN),
            ("carla", Role.READER),
        }


def test_the_user_info_of_somebody_else_lets_nobody_in(node: OfflineNode, issuer: Issuer) -> None:
    issuer.claims = {"roles": None}
    issuer.named = {"userinfo_endpoint": f"{issuer.address}/info"}
    with page_of(with_provider(node, issuer.address)) as client:
        for sub in ("2", None, 1):
            issuer.info = {"sub": sub, "roles": ["dicom-node-admin"]}
            answer = came_back(client)
            assert (answer.status_code, "cannot be trusted" in answer.text) == (401, True)
        issuer.named = {"userinfo_endpoint": "http://id.example/info"}
        assert "cannot be trusted" in came_back(client).text
        assert Accounts(node.index.engine).all() == []


def test_a_logout_goes_on_to_the_provider_that_has_one(node: OfflineNode, issuer: Issuer) -> None:
    Accounts(node.index.engine).add("ada", Role.ADMIN, PASSWORD)
    with page_of(with_provider(node, issuer.address)) as client:
        issuer.named = {"end_session_endpoint": f"{issuer.address}/end?tenant=1"}
        assert log_in(client, "ada") == 303
        assert logged_out(client) == "/login"  # a local account ends here
        assert came_back(client).status_code == 303
        assert logged_out(client) == "/login/oidc/out"
        assert client.get("/").headers["Location"].startswith("/login")  # it ended before anybody is asked
        asked = urlsplit(link_in(client.get("/login/oidc/out").text))
        assert f"{asked.scheme}://{asked.netloc}{asked.path}" == f"{issuer.address}/end"
        back = {"client_id": [CLIENT], "post_logout_redirect_uri": [f"{PAGE}/login"]}
        assert parse_qs(asked.query) == {"tenant": ["1"], **back}
        issuer.named = {"end_session_endpoint": "http://id.example/end"}
        assert "may still be logged in" in client.get("/login/oidc/out").text
        issuer.named = {}
        assert client.get("/login/oidc/out").headers["Location"] == "/login"
    with page_of(with_provider(node, issuer.address, logout=False)) as client:
        assert came_back(client).status_code == 303
        assert logged_out(client) == "/login"


def test_a_provider_that_is_away_keeps_nobody_from_logging_out(node: OfflineNode, issuer: Issuer) -> None:
    with page_of(with_provider(node, issuer.address)) as client:
        assert came_back(client).status_code == 303
        with page_of(with_provider(node, f"http://127.0.0.1:{free_port()}")) as later:
            later.cookies = client.cookies
            answer = later.get(logged_out(later))
            assert (answer.status_code, "may still be logged in" in answer.text) == (200, True)
            assert later.get("/").headers["Location"].startswith("/login")


def test_a_browser_is_logged_out_here_and_there(node: OfflineNode, issuer: Issuer) -> None:
    port = free_port()
    page_url = f"http://127.0.0.1:{port}"
    issuer.named = {"end_session_endpoint": f"{issuer.address}/end"}
    app = create_app(with_provider(node, issuer.address, page_url=page_url).settings)
    with served(app, port), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page()
        page.goto(page_url)
        page.get_by_role("link", name="Log in with your organisation").click()
        page.get_by_role("button", name="Log out").click()
        expect(page).to_have_url(f"{page_url}/login", timeout=20_000)
        expect(page.get_by_role("heading", name="Log in")).to_be_visible()
        assert issuer.ended == [{"client_id": CLIENT, "post_logout_redirect_uri": f"{page_url}/login"}]
        browser.close()


OTHER = RSAKey.generate_key(2048, {"kid": "one"})


@pytest.mark.parametrize(
    "lie",
    [
        lambda one: one.claims.update(nonce="another"),
        lambda one: one.claims.update(nonce=None),
        lambda one: one.claims.update(iss="https://id.example"),
        lambda one: one.claims.update(aud="another"),
        lambda one: one.claims.update(aud=[CLIENT, "another"], azp="another"),
        lambda one: one.claims.update(exp=int(time.time()) - 3600),
        lambda one: one.claims.update(exp=None),
        lambda one: one.claims.update(sub=None),
        lambda one: setattr(one, "key", OTHER),
        lambda one: one.__dict__.update(key=OctKey.import_key(SECRET.encode() * 4), algorithm="HS256"),
    ],
    ids=[
        "nonce",
        "no nonce",
        "issuer",
        "audience",
        "party",
        "expired",
        "no end",
        "nobody",
        "forged",
        "secret",
    ],
)
def test_a_token_that_cannot_be_trusted_lets_nobody_in(
    node: OfflineNode, issuer: Issuer, lie: Callable[[Issuer], None]
) -> None:
    with page_of(with_provider(node, issuer.address)) as client:
        lie(issuer)
        answer = came_back(client)
        assert (answer.status_code, "cannot be trusted" in answer.text) == (401, True)
        assert client.get("/").status_code == 303
        assert Accounts(node.index.engine).all() == []


def test_a_login_comes_back_to_the_browser_that_began_it(node: OfflineNode, issuer: Issuer) -> None:
    with page_of(with_provider(node, issuer.address)) as client, page_of(node) as victim:
        back = sent_back(httpx.get(begun(client), trust_env=False))
        victim.get("/login")
        assert "start again" in victim.get(back).text
        for state in ("", "a.b.c.d", "1.2", "x" * 4000, "é.é"):
            answer = client.get("/login/oidc/back", params={"code": "x", "state": state})
            assert answer.status_code in (401, 429)
        # Nobody used the code, and five tries are those of a minute.
        assert client.get(back).status_code == 429


def test_a_state_lasts_ten_minutes_and_a_code_is_taken_once(node: OfflineNode, issuer: Issuer) -> None:
    provider = OidcClient(with_provider(node, issuer.address).settings.oidc, b"k" * 32, clock=lambda: now)
    now = 1000.0
    state = parse_qs(urlsplit(provider.authorization_url("cookie", "/studies/1")).query)["state"][0]
    now += STATE_SECONDS
    assert provider.read_target("cookie", state) == "/studies/1"
    with pytest.raises(LoginFailed):
        provider.read_target("another", state)
    now += 1
    with pytest.raises(LoginFailed):
        provider.read_target("cookie", state)
    with page_of(node) as client:
        back = sent_back(httpx.get(begun(client), trust_env=False))
        assert client.get(back).status_code == 303
        held = dict(client.cookies)
        assert client.get(back).status_code == 401  # the cookie is another one since
        assert dict(client.cookies) == held
        assert client.get("/").status_code == 200


@pytest.mark.parametrize("target", ["//evil.example", "https://evil.example/", "/\\evil.example", "evil"])
def test_no_login_leads_to_another_site(node: OfflineNode, issuer: Issuer, target: str) -> None:
    with page_of(with_provider(node, issuer.address)) as client:
        asked = parse_qs(urlsplit(begun(client, target)).query)
        assert asked["redirect_uri"] == [f"{PAGE}/login/oidc/back"]  # whatever the browser calls the page
        assert came_back(client, target).headers["Location"] == "/"
        assert client.get("/login", headers={"Host": "reading.example"}).status_code == 303
        assert client.get("/login", headers={"Host": "evil.example"}).status_code == 400


def test_without_the_provider_a_sentence_is_shown_and_passwords_work(node: OfflineNode) -> None:
    Accounts(node.index.engine).add("rita", Role.READER, PASSWORD)
    with page_of(with_provider(node, f"http://127.0.0.1:{free_port()}")) as client:
        answer = client.get("/login/oidc")
        assert (answer.status_code, "does not answer" in answer.text) == (503, True)
        assert log_in(client, "rita") == 303


@pytest.mark.parametrize("fault", ["redirect", "endless", "drops"])
def test_an_answer_of_the_provider_has_an_end_and_leads_nowhere(
    node: OfflineNode, issuer: Issuer, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oidc_client, "_TIMEOUT_SECONDS", 2)
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while fault == "endless" or sent < 600:
            piece = b" " * (1 << 16 if fault == "endless" else 1)
            sent += len(piece)
            yield piece
            await asyncio.sleep(0 if fault == "endless" else 0.1)

    async def discovery(_: Request) -> Response:
        if fault == "redirect":  # to what would be a good answer
            return RedirectResponse(f"{issuer.address}/.well-known/openid-configuration")
        return StreamingResponse(endless(), media_type="application/json")

    app = Starlette(routes=[Route("/.well-known/openid-configuration", discovery)])
    with served(app) as address, page_of(with_provider(node, address)) as client:
        begun_at = time.monotonic()
        answer = client.get("/login/oidc")
        assert (answer.status_code, "does not answer" in answer.text) == (503, True)
        assert time.monotonic() - begun_at < 20
    assert sent < 64 << 20


def test_a_missing_secret_is_said_at_the_start(node: OfflineNode, issuer: Issuer) -> None:
    with_provider(node, issuer.address)
    (node.settings.data_dir / "secret").unlink()
    with pytest.raises(ConfigurationError, match="client_secret_file"):
        create_app(node.settings)
