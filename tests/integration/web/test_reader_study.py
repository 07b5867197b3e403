"""A reader study in a real Chromium: made, read and looked at by one person."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from dicom_node.store.case_readings import CaseReadings
from dicom_node.store.reader_studies import ReaderStudies
from dicom_node.web.app import create_app
from tests.support.browser import Visit
from tests.support.offline_node import OfflineNode
from tests.support.reader_study import analysed, study_list
from tests.support.web_server import served

pytestmark = pytest.mark.peer


@pytest.fixture
def node(tmp_path: Path) -> Iterator[OfflineNode]:
    one = OfflineNode(tmp_path / "data")
    yield one
    one.close()


@pytest.fixture
def visit(node: OfflineNode, chromium: Browser) -> Iterator[Visit]:
    with served(create_app(node.settings)) as address:
        context = chromium.new_context(viewport={"width": 1280, "height": 800})
        yield Visit(context, address)
        context.close()


def accessible(page: Page) -> None:
    found = Axe().run(page).response["violations"]
    grave = [each for each in found if each["impact"] in ("serious", "critical", "moderate")]
    assert not grave, [each["id"] for each in grave]


def test_one_reads_two_studies_and_sees_the_results(node: OfflineNode, visit: Visit, tmp_path: Path) -> None:
    uids = [analysed(node, number, {"nodule": value}) for number, value in ((1, 0.9), (2, 0.1))]
    page = visit.go("/reader-studies/new")
    page.get_by_label("Name").fill("Nodules")
    page.get_by_label("Studies, as CSV").fill(study_list(uids, {"nodule": [1, 0]}))
    page.get_by_label("local").check()
    accessible(page)
    page.screenshot(path=tmp_path / "new.png")
    page.get_by_role("button", name="Make the reader study").click()
    expect(page.get_by_text("0 of 2")).to_be_visible()
    page.get_by_role("link", name="Begin to read").click()
    for number in (1, 2):
        expect(page.get_by_text(f"Reading {number} of 2")).to_be_visible()
        expect(page.locator("#viewer canvas").first).to_be_visible(timeout=20_000)
        assert "What the model says" not in page.content()
        page.get_by_label("present" if number == 1 else "absent").check()
        page.get_by_label("confidence").fill(str(60 + number))
        if number == 1:
            accessible(page)
            page.screenshot(path=tmp_path / "case.png")
            page.reload()  # goes on with the same study
            expect(page.get_by_text("Reading 1 of 2")).to_be_visible()
            page.get_by_label("present").check()
            page.get_by_label("confidence").fill("61")
        page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("You have read all of it.")).to_be_visible()
    page.get_by_text("Close the reader study").click()
    page.get_by_role("button", name="Close it for good").click()
    expect(page.get_by_role("heading", name="Nodule", exact=True)).to_be_visible()
    accessible(page)
    page.screenshot(path=tmp_path / "results.png", full_page=True)
    (found,) = ReaderStudies(node.index.engine).all()
    readings = CaseReadings(node.index.engine).readings(found)
    assert [each.answers["nodule"].rating for each in readings] == [61, -62]
    assert all(0 < each.visible_seconds <= each.seconds + 1 for each in readings)
    assert not visit.elsewhere
