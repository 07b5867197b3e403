"""Every main page at four sizes of the screen, in a real Chromium."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Page

from dicom_node.store.analysis_records import AnalysisRecord, FindingRecord, HeatMapRecord, ImageRecord
from dicom_node.store.reader_studies import Design, NewCase, ReaderStudies
from dicom_node.store.states import StudyState
from dicom_node.web.app import create_app
from tests.support.browser import Visit
from tests.support.factories import chest, film, uid
from tests.support.offline_node import OfflineNode
from tests.support.web_server import served

pytestmark = pytest.mark.peer

SIZES = {"laptop": (1280, 800), "desktop": (1920, 1080), "portrait": (2048, 2560), "telephone": (390, 844)}
#: Least share of the screen's area that the films take; on a telephone, of its height.
SHARES = {"laptop": 0.6, "desktop": 0.6, "portrait": 0.5, "telephone": 0.6}
#: Long names and intervals, as of the shipped models.
FINDINGS = (
    FindingRecord("cardiomegaly", "Cardiomegaly", 0.75, 0.9, 0.23, "present", 0.5, 0.9),
    FindingRecord("artery", "Pulmonary Artery Enlargement", 0.53, 0.7, 0.15, "present", 0.24, 0.8),
    FindingRecord("emphysema", "Subcutaneous Emphysema", None, 0.02, 0.3, "absent"),
)
PARTS = """() => {
    const width = document.documentElement.clientWidth;
    const slides = (each) => {
        const how = getComputedStyle(each).overflowX;
        return (how === "auto" || how === "scroll") && each.scrollWidth > each.clientWidth + 1;
    };
    const within = (each) => {
        for (let up = each; up; up = up.parentElement) if (slides(up)) return true;
        return false;
    };
    const controls = [...document.querySelectorAll("main :is(a, button, input, select, textarea, summary)")];
    const cut = controls.filter((each) => {
        if (!each.checkVisibility({ visibilityProperty: true }) || each.closest(".hidden")) return false;
        const { left, right, width: across } = each.getBoundingClientRect();
        return across > 0 && (left < -1 || right > width + 1) && !within(each);
    });
    const sliding = [...document.querySelectorAll("main :not(pre)")].filter(slides);
    const named = (each) => `${each.tagName} ${each.id || each.className} ${each.textContent.slice(0, 20)}`;
    const sideways = document.documentElement.scrollWidth - width;
    return { sideways, cut: cut.map(named), sliding: sliding.map(named) };
}"""
COVERED = """() => {
    const films = document.querySelector(".viewer-films");
    films.scrollIntoView({ block: "center" });
    const { left, top, width, height } = films.getBoundingClientRect();
    const over = new Set();
    for (let across = 0.02; across < 1; across += 0.06)
        for (let down = 0.02; down < 1; down += 0.06) {
            const point = [left + across * width, top + down * height];
            const seen = document.elementFromPoint(...point);
            const inView = point[1] > 0 && point[1] < innerHeight;
            if (inView && !films.contains(seen)) over.add(seen?.outerHTML.slice(0, 80));
        }
    return [...over];
}"""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OfflineNode]:
    """Node with a study, its prior, a heat map of every finding, and a study to read with the model."""
    one = OfflineNode(tmp_path_factory.mktemp("sizes") / "data")
    for number, patient, date in ((1, "A", "20250101"), (2, "A", "20260102"), (3, "B", "20260103")):
        shown = film(
            pixels=chest(256, 224, seed=number), study=number, SOPInstanceUID=uid(number, 1),
            patient_id=patient, StudyDate=date, StudyDescription="Chest PA and lateral",
        )  # fmt: skip
        spots = [np.eye(64, dtype=np.uint8) * 255 for _ in FINDINGS]
        one.finish(
            number, StudyState.REPORTED, films=[shown], results=2,
            reading=AnalysisRecord(
                "tiny", "1.0.0", ("weights_sha256=1",), "absent", FINDINGS,
                (ImageRecord(uid(number, 1), "frontal", "", ""),),
                maps=tuple(HeatMapRecord(each.key, uid(number, 1), "Grad-CAM") for each in FINDINGS),
                maps_file=one.data_dir.maps.keep(spots),
            ),
        )  # fmt: skip
    ReaderStudies(one.index.engine).add(
        "Hearts", Design.AIDED, findings={each.key: each.name for each in FINDINGS}, readers=["local"],
        cases=[NewCase(shown.StudyInstanceUID, {})], seed=1, made_by="local",
    )  # fmt: skip
    yield one
    one.close()


@pytest.mark.parametrize("name", SIZES)
def test_every_main_page_fits_its_screen(
    node: OfflineNode, chromium: Browser, name: str, tmp_path: Path
) -> None:
    width, height = SIZES[name]
    login = node.settings.web.model_copy(update={"login": True})
    closed = node.settings.model_copy(update={"web": login})
    with served(create_app(node.settings)) as address, served(create_app(closed)) as door:
        context = chromium.new_context(viewport={"width": width, "height": height})
        visit = Visit(context, address)
        # The study is read first: until then, what the model says of it is hidden on the other pages.
        for path in ("/reader-studies/1/read", "/", "/studies/2", "/cohort", "/health", "/try",
                     "/reader-studies", "/reader-studies/new", f"{door}/login"):  # fmt: skip
            visit.address = "" if path.startswith("http") else address
            page = visit.go(path)
            if page.locator("#viewer").count():
                films_fill_the_screen(page, name, prior=path == "/studies/2")
            for details in page.locator("details:not(.viewer-keys)").all():
                details.evaluate("each => each.open = true")
            page.screenshot(path=tmp_path / f"{path.strip('/').rpartition('/')[2] or 'list'}.png")
            found = page.evaluate(PARTS)
            assert found["sideways"] <= 0, path
            assert found["cut"] == [], path
            if name != "telephone":
                assert found["sliding"] == [], path
            assert visit.complaints == [], path
        context.close()


def films_fill_the_screen(page: Page, name: str, *, prior: bool) -> None:
    """Check that films take their share of a screen, beside the prior and under a heat map, and lie free."""
    width, height = SIZES[name]
    page.locator('.film.shown[aria-busy="false"]').wait_for(timeout=60_000)
    if prior:
        page.get_by_role("button", name="With prior").click()
        page.locator(".film.shown").nth(1).wait_for()
    page.get_by_role("button", name="heat map of Cardiomegaly").click()
    page.locator(".film-heat").first.wait_for()
    box = page.locator(".viewer-films").bounding_box()
    assert box is not None
    if name == "telephone":
        assert box["height"] >= SHARES[name] * height
    else:
        assert box["width"] * box["height"] >= SHARES[name] * width * height
    for film_box in (each.bounding_box() for each in page.locator(".film").all()):
        assert film_box is not None
        assert min(film_box["width"], film_box["height"]) >= min(width, height) * 0.3
    assert page.evaluate(COVERED) == []
