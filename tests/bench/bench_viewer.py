"""Seconds in Chromium until a film, the next one and a heat map are drawn; and how much the page weighs.

Films have 2560 x 2048 pixels (10 MB).
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, Request, expect

from dicom_node.store.analysis_records import AnalysisRecord, FindingRecord, HeatMapRecord, ImageRecord
from dicom_node.store.states import StudyState
from dicom_node.web.app import create_app
from tests.support.benchmarks import Record, Target, few
from tests.support.browser import seconds_until
from tests.support.factories import film, uid
from tests.support.offline_node import OfflineNode
from tests.support.web_server import served

STUDIES = few(10, 4)
ROUNDS = few(10, 4)
CLICK = Target("at most", 0.5)
AT_ONCE = Target("at most", 0.1)
WEIGHT = Target("at most", 1.2)
SHOWN = "performance.timeOrigin + performance.getEntriesByName('film shown')[0].startTime"
"""When Chromium had drawn it, by its own clock, which is the one of this program."""
DRAWN = """document.querySelector('.film.shown[aria-busy="false"]')"""
MAP_DRAWN = "document.querySelector('.film-heat:not([hidden])')"
FINDING = FindingRecord("cardiomegaly", "Cardiomegaly", 0.75, 0.9, 0.23, "present", 0.5, 0.9)
PAGE_PARTS = ("document", "script", "stylesheet", "font", "image")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a node with studies of two films and a heat map."""
    node = OfflineNode(tmp_path_factory.mktemp("viewer") / "data")
    for number in range(1, STUDIES + 1):
        films = [
            film(
                rows=2560,
                columns=2048,
                study=number,
                seed=2 * number + side,
                SOPInstanceUID=uid(number, side),
            )
            for side in (0, 1)
        ]
        node.finish(
            number,
            StudyState.REPORTED,
            films=films,
            reading=AnalysisRecord(
                "tiny",
                "1.0.0",
                ("weights_sha256=1",),
                "absent",
                (FINDING,),
                tuple(
                    ImageRecord(uid(number, side), view, "", "")
                    for side, view in enumerate(("frontal", "lateral"))
                ),
                maps=(HeatMapRecord(FINDING.key, uid(number, 0), "Grad-CAM"),),
                maps_file=node.data_dir.maps.keep([np.eye(64, dtype=np.uint8) * 255]),
            ),
        )
    with served(create_app(node.settings)) as running:
        yield running
    node.close()


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    context = chromium.new_context(viewport={"width": 1280, "height": 800})
    yield context.new_page()
    context.close()


def open_study(page: Page, address: str, number: int) -> float:
    """Open a study from the worklist; returns the seconds from the click until its film was drawn."""
    page.goto(address)
    link = page.locator(f'.worklist a.open[href="/studies/{number}"]')
    expect(link).to_be_visible()
    # Longer than a reader needs to choose: what the worklist fetches ahead is there.
    page.wait_for_load_state("networkidle")
    began = time.time()
    link.click()
    page.locator('.film[aria-busy="false"]').wait_for(timeout=60_000)
    return float(page.evaluate(SHOWN)) / 1000 - began


def test_a_film_is_seen_after_the_click(page: Page, address: str, record: Record) -> None:
    taken = [open_study(page, address, number) for number in range(1, STUDIES + 1)]
    record("click to first film of 10 MB drawn", "s", taken[0])
    record("click to later films of 10 MB drawn", "s", taken[1:], target=CLICK)


def test_the_next_film_and_a_heat_map_are_there_at_once(page: Page, address: str, record: Record) -> None:
    open_study(page, address, 1)
    page.wait_for_load_state("networkidle")
    page.locator(".film").first.focus()
    record(
        "next film of the study drawn",
        "s",
        [seconds_until(page, lambda: page.keyboard.press("n"), "keydown", DRAWN) for _ in range(ROUNDS)],
        target=AT_ONCE,
    )
    open_study(page, address, 2)
    page.wait_for_load_state("networkidle")
    button = page.get_by_role("button", name="heat map of Cardiomegaly")
    taken = []
    for _ in range(ROUNDS):
        taken.append(seconds_until(page, button.click, "click", MAP_DRAWN))
        button.click()
        expect(page.locator(".film-heat").first).to_be_hidden()
    record("heat map drawn after the click", "s", taken, target=AT_ONCE)


def test_the_page_of_a_study_is_light(page: Page, address: str, record: Record) -> None:
    finished: list[Request] = []
    page.on("requestfinished", lambda request: finished.append(request))  # noqa: PLW0108 - playwright asks for one
    page.goto(f"{address}/studies/1")
    page.locator('.film[aria-busy="false"]').wait_for(timeout=60_000)
    page.wait_for_load_state("networkidle")
    parts = [request for request in finished if request.resource_type in PAGE_PARTS]
    weight = sum(request.sizes()["responseBodySize"] for request in parts)
    record("page of a study on the wire, without films", "MB", weight / 1e6, target=WEIGHT)
