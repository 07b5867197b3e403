from __future__ import annotations

import hashlib
import json
import logging
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from dicom_node import web
from dicom_node.config.data_dir import DataDir
from dicom_node.config.destinations import DicomDestination
from dicom_node.config.settings import Settings
from dicom_node.results.codes import RESEARCH_USE_ONLY
from dicom_node.runtime import logs
from dicom_node.store.audit import IndexQueries
from dicom_node.store.states import ResultState, StudyState
from dicom_node.web import templating
from dicom_node.web.app import create_app
from dicom_node.web.auth.security_middleware import SECURITY_HEADERS
from dicom_node.web.read_models import worklist
from dicom_node.web.templating import RESULT_WORDS, STUDY_WORDS
from tests.support.offline_node import PACS, OfflineNode
from tests.support.peers import until

STATIC = Path(web.__file__).parent / "static"
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)> {{ 7*7 }}"
PATHS = ["/", "/?state=FAILED", "/health", "/nowhere", "/?after=none", "/?state=BROKEN"]


class Page(HTMLParser):
    """Page as a browser reads it: text, elements, addresses that it would fetch."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(markup)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))

    def links(self) -> list[str]:
        found = [attributes.get("href") or attributes.get("src") for _, attributes in self.elements]
        return [address for address in found if address and not address.startswith("#")]


def rows(client: TestClient, path: str = "/api/v1/studies") -> list[dict[str, object]]:
    return list(client.get(path).json()["studies"])


def test_a_new_node_shows_an_empty_worklist(empty: TestClient) -> None:
    answer = empty.get("/").text
    shown = Page(answer)
    assert "No study yet. Send a film by C-STORE" in shown.text
    told = dict(re.findall(r'<dt>(.*?)</dt><dd class="mono">(.*?)</dd>', answer))
    assert told == {"host": "127.0.0.1", "port": "11112", "AE title": "DICOM_NODE"}
    assert "It is reached from this machine only" in shown.text
    assert '<a href="/try">' in answer
    assert "ORTHANC@127.0.0.1:4242" in Page(empty.get("/health").text).text


def test_a_node_without_destinations_says_so(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    DataDir(settings).prepare(alone=True)
    node = OfflineNode(tmp_path)
    with TestClient(create_app(settings), base_url="http://localhost") as client:
        assert "results are stored and sent nowhere" in client.get("/health").text
    node.close()


def test_each_study_is_shown_with_its_state_reason_counts_and_deliveries(
    node: OfflineNode, client: TestClient
) -> None:
    skipped = node.finish(1, StudyState.SKIPPED, "Only a lateral view was received.", instances=2, results=1)
    node.send("pacs")
    reported = node.finish(2, StudyState.REPORTED, instances=1, results=3)
    node.send("pacs", error="connection refused")
    waiting = node.receive(3)
    shown = [
        (row["study"], row["state"], row["reason"], row["revision"], row["images"], row["deliveries"])
        for row in rows(client)
    ]
    assert shown == [
        (logs.uid_hash(waiting), "RECEIVING", "", 1, 1, {}),
        (logs.uid_hash(reported), "REPORTED", "", 1, 1, {"ENCODED": 3}),
        (logs.uid_hash(skipped), "SKIPPED", "Only a lateral view was received.", 1, 2, {"SENT": 1}),
    ]
    text = Page(client.get("/").text).text
    for words in (
        "3 waiting",
        "1 sent",
        "Only a lateral view was received.",
        logs.uid_hash(reported),
        "receiving",
    ):
        assert words in text


def test_a_late_image_shows_the_new_revision(node: OfflineNode, client: TestClient) -> None:
    node.finish(1, StudyState.REPORTED)
    node.receive(1, 2)
    (row,) = rows(client)
    assert (row["state"], row["revision"], row["images"]) == ("RECEIVING", 2, 2)


def test_counts_are_those_of_the_index(node: OfflineNode, client: TestClient) -> None:
    node.finish(1, StudyState.FAILED, "No model could read it.", results=0)
    node.finish(2, StudyState.REPORTED, results=2)
    status = client.get("/api/v1/status").json()
    assert status["studies"] == {str(state): int(state in ("FAILED", "REPORTED")) for state in StudyState}
    assert status["results"] == dict.fromkeys(status["results"], 0) | {"ENCODED": 2}


def test_a_destination_shows_its_backlog_and_its_last_error(node: OfflineNode, client: TestClient) -> None:
    node.finish(1, StudyState.REPORTED, results=2, destinations=("pacs", "former"))
    node.send("pacs", error="ORTHANC@127.0.0.1:4242: connection refused")
    node.send("former", error="the SOP class is not accepted", permanent=True)
    pacs, former = client.get("/api/v1/status").json()["destinations"]
    assert (pacs["name"], pacs["results"], pacs["error"]) == (
        "pacs",
        {"ENCODED": 2},
        "ORTHANC@127.0.0.1:4242: connection refused",
    )
    assert pacs["oldest_waiting"] == pytest.approx(node.now, abs=1)
    assert (former["name"], former["results"], former["oldest_waiting"]) == ("former", {"REJECTED": 2}, None)
    text = Page(client.get("/health").text).text
    assert "no longer configured" in text
    assert "the SOP class is not accepted" in text


def test_a_state_shows_only_its_studies(node: OfflineNode, client: TestClient) -> None:
    node.receive(1)
    failed = node.finish(2, StudyState.FAILED, "No model could read it.", results=0)
    assert [row["study"] for row in rows(client, "/api/v1/studies?state=FAILED")] == [logs.uid_hash(failed)]
    assert "No study found." in client.get("/?state=SKIPPED").text


def test_every_state_has_its_word_and_its_colour() -> None:
    assert set(STUDY_WORDS) == set(StudyState)
    assert set(RESULT_WORDS) == set(ResultState)
    css = (Path(web.__file__).parent / "static" / "page.css").read_text()
    for state in [*StudyState, *ResultState]:
        assert re.search(rf"(^|[ ,])\.{state.lower()}( \{{|, )", css, re.MULTILINE), state


def test_the_audit_is_shown_and_tells_what_is_missing(node: OfflineNode) -> None:
    node.finish(1, StudyState.SKIPPED, "Only a lateral view was received.", results=0)
    for name in list(node.data_dir.spool.names()):
        node.data_dir.spool.path(name).unlink()
    with TestClient(create_app(node.settings), base_url="http://localhost") as client:
        audit = until(lambda: client.get("/api/v1/status").json()["audit"], 10, "an audit")
        text = Page(client.get("/health").text).text
    assert audit["received"] == audit["fates"]["skipped"] == 1
    assert not audit["conserved"]
    assert "Some images are not accounted for" in text
    assert "No such file" in text


def test_an_audit_without_contradiction_says_that_nothing_was_lost(node: OfflineNode) -> None:
    node.finish(1, StudyState.REPORTED)
    with TestClient(create_app(node.settings), base_url="http://localhost") as client:
        until(lambda: client.get("/api/v1/status").json()["audit"], 10, "an audit")
        assert "No image was lost" in client.get("/health").text


@pytest.mark.parametrize("path", PATHS)
def test_research_use_only_is_on_every_page(empty: TestClient, path: str) -> None:
    (banner,) = re.findall(r'<aside class="banner".*?</aside>', empty.get(path).text)
    assert RESEARCH_USE_ONLY in banner


@pytest.mark.parametrize("path", [*PATHS, "/api/v1/status", "/healthz", "/readyz", "/static/page.css"])
@pytest.mark.parametrize("host", ["localhost", "elsewhere.example"])
def test_every_answer_carries_the_guarding_headers(empty: TestClient, path: str, host: str) -> None:
    answer = empty.get(path, headers={"Host": host})
    # What is public may be kept, as long as it is asked whether it is still the same.
    kept = {"Cache-Control": "no-cache"} if path.startswith("/static/") and answer.is_success else {}
    for name, value in (SECURITY_HEADERS | kept).items():
        assert answer.headers[name] == value


def test_the_policy_allows_neither_inline_nor_foreign_content() -> None:
    policy = SECURITY_HEADERS["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    sources = {source for rule in policy.split("; ") for source in rule.split(" ")[1:]}
    assert sources == {"'none'", "'self'"}


@pytest.mark.parametrize("path", PATHS)
def test_a_page_needs_nothing_inline_and_nothing_from_another_host(
    node: OfflineNode, client: TestClient, path: str
) -> None:
    node.receive(1)
    shown = Page(client.get(path).text)
    for tag, attributes in shown.elements:
        assert tag != "style"
        assert tag != "script" or attributes.get("src")
        assert not [name for name in attributes if name == "style" or name.startswith("on")]
    for address in shown.links():
        assert re.match(r"/(?!/)", address), address
    for address in shown.links():
        assert client.get(address).status_code == 200, address


def test_static_files_name_no_other_host() -> None:
    for path in STATIC.iterdir():
        if path.is_file():
            found = set(re.findall(r"https?://[^\s\"')]+", path.read_text()))
            assert found <= {"http://www.w3.org/2000/svg"}, path.name
            assert "innerHTML" not in path.read_text()


def test_what_others_wrote_is_what_they_published() -> None:
    (script,) = (STATIC / "vendor").glob("*.js")
    assert script.name == "htmx-2.0.11.min.js"  # npm, htmx.org 2.0.11, dist/htmx.min.js
    digest = hashlib.sha256(script.read_bytes()).hexdigest()
    assert digest == "d6fdc75f204e6bdefa99b69bf1e6d4ac69b8a364f77929f45c13476b4000f717"
    assert "Zero-Clause BSD" in (STATIC / "vendor" / "htmx-LICENSE.txt").read_text()


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    name = HOSTILE[:64]
    pacs = DicomDestination(name=name, ae_title="<b>X</b>", host="pacs", port=104)
    node = OfflineNode(tmp_path, pacs)
    node.finish(1, StudyState.FAILED, HOSTILE, results=0)
    node.finish(2, StudyState.REPORTED, destinations=(name, "<u>former</u>"))
    node.send(name, error=HOSTILE)
    with TestClient(create_app(node.settings), base_url="http://localhost") as client:
        shown = Page(client.get("/").text + client.get("/health").text)
    node.close()
    tags = {tag for tag, _ in shown.elements}
    assert not tags & {"b>", "i", "u"}
    pictures = [attributes["src"] or "" for tag, attributes in shown.elements if tag == "img"]
    assert all(source.startswith("/api/v1/studies/") for source in pictures)
    assert [attributes for tag, attributes in shown.elements if tag == "script"] == [
        {"src": "/static/vendor/htmx-2.0.11.min.js", "defer": None},
        {"src": "/static/page.js", "defer": None},
    ] * 2
    assert shown.text.count("<script>alert(1)</script>") >= 3
    assert "{{ 7*7 }}" in shown.text
    assert "<u>former</u>" in shown.text


def test_no_identifier_of_the_study_or_the_patient_is_shown(node: OfflineNode, client: TestClient) -> None:
    uid = node.finish(1, StudyState.REPORTED)
    for path in ("/", "/api/v1/studies", "/studies/1", "/api/v1/studies/1"):
        text = client.get(path).text
        assert logs.uid_hash(uid) in text
        assert uid not in text
        assert "Doe" not in text
        assert "PAT-1" not in text


@pytest.mark.parametrize("path", ["/", "/api/v1/status", "/healthz", "/readyz"])
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_nothing_can_be_changed(empty: TestClient, method: str, path: str) -> None:
    a_search = (method, path) == ("POST", "/")  # which only the page itself may ask for
    assert empty.request(method, path).status_code == (403 if a_search else 405)


@pytest.mark.parametrize("path", ["/", "/health", "/healthz", "/readyz", "/metrics"])
def test_head_is_answered_like_get(empty: TestClient, path: str) -> None:
    answer = empty.head(path)
    assert answer.status_code == 200
    assert answer.content == b""


@pytest.mark.parametrize(
    "path", ["/docs", "/redoc", "/openapi.json", "/static/../app.py", "/static/%2e%2e/app.py"]
)
def test_there_is_nothing_else(empty: TestClient, path: str) -> None:
    answer = empty.get(path)
    assert answer.status_code == 404
    assert "There is no such page." in answer.text


@pytest.mark.parametrize(
    ("query", "name"), [("state=BROKEN", "state"), ("sort=0", "sort"), (f"state={HOSTILE}", "state")]
)
def test_a_wrong_query_is_one_sentence(empty: TestClient, query: str, name: str) -> None:
    assert empty.get(f"/api/v1/studies?{query}").json() == {
        "error": f"The request is not valid: check {name}."
    }
    answer = empty.get(f"/?{query}")
    assert answer.status_code == 400
    assert "alert(" not in answer.text


@pytest.mark.parametrize(
    ("host", "taken"),
    [
        ("localhost", True),
        ("localhost:8080", True),
        ("127.0.0.1:8080", True),
        ("[::1]:8080", True),
        ("evil.example", False),
        ("localhost.evil.example", False),
        ("", False),
    ],
)
def test_a_loopback_page_answers_only_to_its_own_names(empty: TestClient, host: str, taken: bool) -> None:
    assert (empty.get("/", headers={"Host": host}).status_code == 200) is taken
    for path in ("/healthz", "/readyz"):
        assert empty.get(path, headers={"Host": host}).status_code == 200


def test_a_page_on_the_network_answers_to_any_name(node: OfflineNode) -> None:
    settings = node.settings.model_copy(
        update={"web": node.settings.web.model_copy(update={"host": "0.0.0.0"})}
    )
    with TestClient(create_app(settings), base_url="http://pacs.example") as client:
        assert client.get("/").status_code == 200


def test_without_its_database_it_lives_but_is_not_ready(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "gone", destinations=(PACS,))
    with TestClient(create_app(settings), base_url="http://localhost") as client:
        assert client.get("/healthz").text == "alive\n"
        ready = client.get("/readyz")
        assert (ready.status_code, ready.text) == (503, "the index is damaged or lost\n")
        assert "`dicom-node rebuild`" in client.get("/api/v1/status").json()["error"]
        shown = client.get("/")
    assert shown.status_code == 503
    assert "`dicom-node rebuild`" in Page(shown.text).text
    assert not (tmp_path / "gone" / "index.sqlite").exists()


@pytest.mark.parametrize("lose", ["deleted", "damaged"])
def test_a_lost_index_is_said_on_the_page_and_by_the_health_check(node: OfflineNode, lose: str) -> None:
    path = node.settings.data_dir / "index.sqlite"
    with node.browser() as client:
        assert client.get("/readyz").status_code == 200
        if lose == "deleted":
            path.unlink()
        else:
            path.with_name("index.sqlite-damaged").write_text("database disk image is malformed\n")
        ready = client.get("/readyz")
        assert (ready.status_code, ready.text) == (503, "the index is damaged or lost\n")
        assert client.get("/healthz").status_code == 200
        for address in ("/", "/health"):
            shown = client.get(address)
            assert shown.status_code == 503
            assert "dicom-node rebuild" in Page(shown.text).text
        assert "dicom-node rebuild" in client.get("/api/v1/status").json()["error"]
    assert path.exists() == (lose == "damaged")


def test_with_its_database_it_is_ready(empty: TestClient) -> None:
    assert empty.get("/readyz").text == "ready\n"


def test_a_fault_shows_no_traceback_and_is_logged(
    node: OfflineNode, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(worklist, "read_worklist", broken)
    with TestClient(
        create_app(node.settings), base_url="http://localhost", raise_server_exceptions=False
    ) as client:
        answer = client.get("/")
    assert answer.status_code == 500
    assert "The page could not be made; see the log for the reason." in answer.text
    assert "RESEARCH USE ONLY" in answer.text
    assert "secret" not in answer.text
    assert answer.headers["Content-Security-Policy"]
    assert [record for record in caplog.records if record.levelno == logging.ERROR and record.exc_info]


def test_the_json_gives_the_counts_as_the_status_command_does(node: OfflineNode, client: TestClient) -> None:
    node.finish(1, StudyState.REPORTED, results=2)
    node.send("pacs")
    status = client.get("/api/v1/status").json()
    overview = IndexQueries(node.index.engine)
    assert status["studies"] == json.loads(json.dumps(overview.study_counts()))
    assert status["results"] == json.loads(json.dumps(overview.result_counts()))
    assert status["intended_use"] == "research use only"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-5, "0 s"), (0.4, "0 s"), (59.9, "59 s"), (60, "1 min"), (3661, "1 h 1 min"), (90061, "1 d 1 h")],
)
def test_a_duration_is_written_with_its_two_largest_units(seconds: float, words: str) -> None:
    assert templating.age(seconds) == words


def test_the_page_needs_no_model_no_queue_and_no_writer_of_results() -> None:
    code = (
        "import sys, dicom_node.web.app; "
        "print(sorted({'torch', 'celery', 'highdicom', 'pynetdicom'} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def _luminance(colour: str) -> float:
    """Relative luminance of ``#rrggbb`` (WCAG 2.2)."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_every_text_colour_has_the_contrast_of_wcag_aa_on_every_ground() -> None:
    css = (Path(web.__file__).parent / "static" / "page.css").read_text()
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", css))
    words = {name for name in colours if name.startswith("word-")}
    texts = set(colours) - {"ground", "panel", "line", "banner-ground"} - words
    assert {"text", "muted", "failed"} <= texts
    pairs = [(text, ground) for text in texts for ground in ("ground", "panel")] + [
        ("banner", "banner-ground"),
        *(("text", ground) for ground in words),
    ]
    for text, ground in pairs:
        light, dark = sorted((_luminance(colours[text]), _luminance(colours[ground])), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (text, ground)
    # No colour is written anywhere else.
    assert sorted(re.findall(r"#[0-9a-fA-F]{3,8}\b(?! \{|\[)", css.replace("#now", ""))) == sorted(
        colours.values()
    )
    assert not re.search(r"\b(rgb|hsl|lab|lch|oklch|color)a?\(", css)
