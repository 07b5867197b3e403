"""OHIF in Chromium, set up as docs/dicomweb.md says, opens the studies of a node with a reader's token."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Dialog, Page
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from dicom_node.config.web import WebSettings
from dicom_node.store.states import StudyState
from dicom_node.web.app import create_app
from dicom_node.web.auth.accounts import Accounts, Role
from tests.support.browser import launched
from tests.support.factories import chest, film, uid
from tests.support.login import PASSWORD
from tests.support.offline_node import OfflineNode
from tests.support.peers import ROOT, until
from tests.support.web_server import served

FILES = ROOT / "build" / "ohif"
pytestmark = [
    pytest.mark.peer,
    pytest.mark.skipif(not (FILES / "index.html").exists(), reason="`make peers` fetches OHIF by npm"),
]


def configuration(node: str) -> str:
    """Configuration of OHIF as the document has it, for a node at another address."""
    text = (ROOT / "docs" / "dicomweb.md").read_text("utf-8")
    (found,) = re.findall(r"```js\n(window\.config.*?)```", text, re.DOTALL)
    return str(found).replace("https://reading.example", node)


class Ohif:
    """OHIF's files, and the configuration that it asks for."""

    def __init__(self) -> None:
        self.configuration = ""
        self.app = Starlette(routes=[Route("/{path:path}", self._answer)])

    async def _answer(self, request: Request) -> Response:
        path = FILES / request.path_params["path"]
        if path.name == "app-config.js":
            return Response(self.configuration, media_type="text/javascript")
        return FileResponse(path if path.is_file() else FILES / "index.html")


@pytest.fixture
def node(tmp_path: Path) -> Iterator[OfflineNode]:
    one = OfflineNode(tmp_path / "data")
    ds = film(
        pixels=chest(512, 448),
        SOPInstanceUID=uid(1, 1),
        patient_name="Drawn^Patient",
        StudyDescription="Chest PA",
    )
    one.finish(1, StudyState.REPORTED, films=[ds], results=0, destinations=())
    Accounts(one.index.engine).add("rita", Role.READER, PASSWORD)
    yield one
    one.close()


def test_ohif_lists_a_study_and_shows_its_film(node: OfflineNode) -> None:
    accounts = Accounts(node.index.engine)
    rita = accounts.find("rita")
    assert rita
    token = accounts.make_token(rita, "ohif", 3600)
    ohif = Ohif()
    with served(ohif.app) as viewer, launched() as browser:
        web = WebSettings(port=0, login=True, patient="name", dicomweb_origins=(viewer,))
        node.settings = node.settings.model_copy(update={"web": web})
        with served(create_app(node.settings)) as address:
            ohif.configuration = configuration(address)
            page = browser.new_page(viewport={"width": 1280, "height": 800})
            asked: list[Dialog] = []
            answers: list[tuple[int, str]] = []

            def answer(dialog: Dialog) -> None:
                asked.append(dialog)
                dialog.accept(token)

            page.on("dialog", answer)
            page.on("response", lambda each: answers.append((each.status, each.url)))
            page.goto(viewer)
            page.get_by_text("Drawn, Patient").first.wait_for(timeout=60_000)
            page.get_by_text("Chest PA").first.wait_for()
            page.goto(f"{viewer}/viewer?StudyInstanceUIDs={node.index.study_uid(1)}")
            page.locator(".cornerstone-canvas").first.wait_for(timeout=60_000)
            until(lambda: _contrast(page) > 10, 60, "a film in the canvas")
            page.close()
    assert len(asked) == 1  # once in a tab
    of_node = [(status, url) for status, url in answers if url.startswith(address)]
    assert {status for status, _ in of_node} == {200}
    assert any("/frames/1" in url for _, url in of_node)
    assert not any(token in url for _, url in answers)


def _contrast(page: Page) -> float:
    """Standard deviation of the greys in the middle of OHIF's canvas."""
    picture = page.locator(".cornerstone-canvas").first.screenshot()
    greys = np.asarray(Image.open(io.BytesIO(picture)).convert("L"), np.float64)
    rows, columns = greys.shape
    return float(greys[rows // 4 : -rows // 4, columns // 4 : -columns // 4].std())
