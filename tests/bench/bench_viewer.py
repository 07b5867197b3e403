"""Seconds from a click in the worklist until Chromium has drawn a film of 2560 x 2048 pixels (10 MB)."""

from __future__ import annotations

import time
from pathlib import Path

from playwright.sync_api import Browser, expect

from dicom_node.store.states import StudyState
from dicom_node.web.app import create_app
from tests.support.benchmarks import Record, Target, few
from tests.support.factories import film
from tests.support.offline_node import OfflineNode
from tests.support.web_server import served

STUDIES = few(10, 4)
LIMIT = Target("at most", 1)
SHOWN = "performance.timeOrigin + performance.getEntriesByName('film shown')[0].startTime"
"""When Chromium had drawn it, by its own clock, which is the one of this program."""


def test_a_film_is_seen_after_the_click(tmp_path: Path, chromium: Browser, record: Record) -> None:
    node = OfflineNode(tmp_path / "data")
    for number in range(1, STUDIES + 1):
        ds = film(rows=2560, columns=2048, study=number, seed=number)
        node.finish(number, StudyState.REPORTED, films=[ds])
    taken = []
    with served(create_app(node.settings)) as address:
        page = chromium.new_context(viewport={"width": 1280, "height": 800}).new_page()
        for number in range(1, STUDIES + 1):
            page.goto(address)
            link = page.locator(f'.worklist a.open[href="/studies/{number}"]')
            expect(link).to_be_visible()
            # Longer than a reader needs to choose: what the worklist fetches ahead is there.
            page.wait_for_load_state("networkidle")
            began = time.time()
            link.click()
            page.locator('.film[aria-busy="false"]').wait_for(timeout=60_000)
            taken.append(page.evaluate(SHOWN) / 1000 - began)
    node.close()
    record("click to first film of 10 MB drawn", "s", taken[0], target=LIMIT)
    record("click to later films of 10 MB drawn", "s", taken[1:], target=LIMIT)
