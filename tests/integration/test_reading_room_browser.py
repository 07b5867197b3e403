"""The pages in a real Chromium, over a real node."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from playwright.sync_api import Browser, BrowserContext, Page, Request, expect, sync_playwright

from dicom_node.network.transport import bind
from dicom_node.reading_room.app import create_app
from tests.factories import film, uid
from tests.peers import until
from tests.unit.reading_room.node import StillNode

pytestmark = pytest.mark.peer

CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage"]


@contextlib.contextmanager
def served(app: Any) -> Iterator[str]:
    """Serve an application in a thread; yields its address without a slash at its end."""
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False))
    listening = bind("127.0.0.1", 0)
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    try:
        until(lambda: server.started, 20, "uvicorn listening")
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        app.state.room.changes.stop()
        server.should_exit = True
        thread.join(20)
        listening.close()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


class Visit:
    """One reader's browser: whatever it asked for, and whatever it complained of."""

    def __init__(self, context: BrowserContext, address: str) -> None:
        self.page: Page = context.new_page()
        self.asked: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", self._asked)
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.address = address

    def _asked(self, request: Request) -> None:
        self.asked.append(request.url)

    def go(self, path: str) -> Page:
        self.page.goto(self.address + path)
        return self.page

    @property
    def elsewhere(self) -> list[str]:
        return [url for url in self.asked if not url.startswith((self.address, "data:", "blob:"))]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[StillNode]:
    one = StillNode(tmp_path / "data")
    yield one
    one.close()


@pytest.fixture
def visit(node: StillNode, chromium: Browser) -> Iterator[Visit]:
    with served(create_app(node.settings)) as address:
        context = chromium.new_context(viewport={"width": 1280, "height": 800})
        yield Visit(context, address)
        context.close()


def hostile(study: int = 1) -> Any:
    return film(
        rows=64, columns=64, study=study, SOPInstanceUID=uid(study, 1),
        patient_name="O'Neil^\"Quoted\"<b>", StudyDescription="<script>document.title = 'taken'</script>",
    )  # fmt: skip


def test_a_study_appears_without_reload_and_hostile_text_stays_text(node: StillNode, visit: Visit) -> None:
    page = visit.go("/")
    expect(page.locator("#live-state")).to_have_text("live", timeout=20_000)
    expect(page.get_by_text("No study yet")).to_be_visible()
    page.evaluate("window.same = true")
    node.receive(1, ds=hostile())
    expect(page.locator(".worklist tbody tr")).to_have_count(1, timeout=20_000)
    expect(page.get_by_text("<script>document.title = 'taken'</script>")).to_be_visible()
    assert page.evaluate("window.same")
    assert "taken" not in page.title()
    page.locator("body").press("j")
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{visit.address}/studies/1")
    expect(page.get_by_text("<script>document.title = 'taken'</script>")).to_be_visible()
    assert not visit.elsewhere
    assert not [each for each in visit.complaints if "viewer" not in each and "404" not in each]
