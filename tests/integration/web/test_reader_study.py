"""A reader study in a real Chromium: made, read and looked at by one person."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from dicom_node.store.case_boxes import CaseBoxes
from dicom_node.store.case_readings import CaseReadings
from dicom_node.store.reader_studies import ReaderStudies
from dicom_node.web.app import create_app
from tests.support.browser import Visit
from tests.support.factories import uid
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


def test_a_box_is_drawn_with_the_mouse_and_is_there_after_a_reload(node: OfflineNode, visit: Visit) -> None:
    uids = [analysed(node, 1, {"nodule": 0.9, "pleural_effusion": 0.1})]
    page = visit.go("/reader-studies/new")
    page.get_by_label("Name").fill("Nodules")
    page.get_by_label("Studies, as CSV").fill(study_list(uids, {"nodule": [1], "pleural_effusion": [0]}))
    page.get_by_label("local").check()
    page.get_by_label("readers may draw a box").check()
    page.get_by_role("button", name="Make the reader study").click()
    page.get_by_role("link", name="Begin to read").click()
    films, film = page.locator(".film-boxes"), page.locator(".film.shown .film-view")

    def draw(finding: str, left: float, top: float, right: float, bottom: float) -> None:
        """Draw a box, in shares of the film's height from its upper left corner: the film is a square."""
        button = page.get_by_role("button", name=f"Draw a box: {finding}")
        button.click()
        expect(button).to_have_attribute("aria-pressed", "true")
        box = film.bounding_box()
        assert box is not None
        side = min(box["width"], box["height"])
        x, y = box["x"] + (box["width"] - side) / 2, box["y"] + (box["height"] - side) / 2
        page.mouse.move(x + left * side, y + top * side)
        page.mouse.down()
        page.mouse.move(x + 0.5 * side, y + 0.5 * side)
        page.mouse.move(x + right * side, y + bottom * side)
        with page.expect_response(lambda answer: "/boxes/" in answer.url) as answered:
            page.mouse.up()
        assert answered.value.status == 204
        expect(button).to_have_attribute("aria-pressed", "false")

    expect(film).to_be_visible(timeout=20_000)
    accessible(page)
    draw("Nodule", 0.25, 0.25, 0.5, 0.75)
    draw("Pleural effusion", 0.1, 0.9, 0.4, 0.6)  # from its lower left corner
    expect(films).to_have_attribute("aria-label", "Boxes: Nodule; Pleural effusion")
    before = films.locator("polygon.over").first.get_attribute("points")
    accessible(page)
    page.reload()
    expect(films).to_have_attribute("aria-label", "Boxes: Nodule; Pleural effusion", timeout=20_000)
    after = films.locator("polygon.over").first.get_attribute("points")
    assert before is not None
    assert after is not None
    for one, other in zip(re.split("[ ,]", before), re.split("[ ,]", after), strict=True):
        assert float(one) == pytest.approx(float(other), abs=1)
    nodule, effusion = (page.get_by_role("group", name=each) for each in ("Nodule", "Pleural effusion"))
    expect(nodule.get_by_label("present")).to_be_checked()

    (found,) = ReaderStudies(node.index.engine).all()
    (kept,) = CaseBoxes(node.index.engine).all(found).values()
    edges = (kept["nodule"].left, kept["nodule"].top, kept["nodule"].right, kept["nodule"].bottom)
    assert edges == pytest.approx((16, 16, 32, 48), abs=1)  # of 64 rows and columns
    assert kept["nodule"].sop_instance_uid == uid(1, 1)

    # A turned film is drawn on as it is seen, and the box lies on the film as it is stored.
    page.get_by_role("button", name="Turn").click()
    expect(page.get_by_text("turned 90 degrees")).to_be_visible()
    draw("Nodule", 0.25, 0.25, 0.75, 0.5)  # turned back by 90 degrees, it is as high as it was wide
    turned = CaseBoxes(node.index.engine).all(found)[1]["nodule"]
    assert (turned.left, turned.top, turned.right, turned.bottom) == pytest.approx((16, 16, 32, 48), abs=1)

    # Absent takes a box away, and so does its button.
    effusion.get_by_label("absent").check()
    expect(films).to_have_attribute("aria-label", "Boxes: Nodule")
    page.get_by_role("button", name="Remove the box: Nodule").click()
    expect(films).to_have_attribute("aria-label", "No boxes")
    draw("Nodule", 0.5, 0.5, 0.75, 0.75)
    for each in (nodule, effusion):
        each.get_by_label("confidence").fill("70")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("You have read all of it.")).to_be_visible()
    (answered,) = CaseBoxes(node.index.engine).all(found).values()
    assert set(answered) == {"nodule"}
    assert not visit.complaints
    assert not visit.elsewhere
