"""Page of a running node in a real browser, while a film arrives by C-STORE."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect
from pydicom import dcmread

from tests.support.browser import Visit
from tests.support.dicom_tools import storescu
from tests.support.peers import Node, StoreSCP

pytestmark = [pytest.mark.peer, pytest.mark.timeout(300)]
READ_MS = 90_000


def seen(page: Page) -> np.ndarray:
    """Screenshot of the film as RGB values, shape (rows, columns, 3)."""
    with Image.open(io.BytesIO(page.locator(".film").first.screenshot())) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


def test_a_reader_sees_a_study_come_in_and_be_read(
    tmp_path: Path,
    cr_films: list[Path],
    chromium: Browser,
) -> None:
    film = cr_films[0]
    with (
        StoreSCP(tmp_path / "pacs") as pacs,
        Node(tmp_path / "node", [pacs.destination], worker__gate="gate") as node,
    ):
        context = chromium.new_context(viewport={"width": 1280, "height": 800})
        visit = Visit(context, node.page.rstrip("/"))
        page = visit.go("/")
        expect(page.get_by_text("No study yet")).to_be_visible()
        expect(page.locator("#live-state")).to_have_text("live", timeout=20_000)
        page.evaluate("window.same = true")
        assert storescu(node.port, [film]).returncode == 0
        row = page.locator(".worklist tbody tr")
        expect(row).to_have_count(1, timeout=20_000)
        expect(row.locator(".state")).to_have_text("reported", timeout=READ_MS)
        expect(row.locator(".chip").first).to_be_visible(timeout=20_000)
        expect(row.get_by_text(re.compile(r"\d+ sent"))).to_be_visible(timeout=READ_MS)
        assert page.evaluate("window.same")

        row.get_by_role("link").click()
        page.locator('.film[aria-busy="false"]').wait_for()
        plain = seen(page)
        page.keyboard.press("ArrowUp")
        assert np.abs(seen(page) - plain).max() > 20
        page.keyboard.press("r")
        button = page.get_by_role("button", name="heat map of").first
        finding = page.get_by_role("row").filter(has=button)
        expect(finding.locator(".interval").last).to_have_text(re.compile(r"^\d+–\d+ %$"))
        button.click()
        expect(page.locator(".film-heat")).to_be_visible()
        assert np.abs(seen(page) - plain).max() > 40
        expect(page.get_by_role("row", name=re.compile("^SR")).get_by_text("sent")).to_be_visible()

        # The same film without any PACS, as a picture.
        pixels = dcmread(film).pixel_array.astype(float)
        grey = (255 * (pixels.max() - pixels) / np.ptp(pixels)).astype(np.uint8)
        inverted = dcmread(film).PhotometricInterpretation == "MONOCHROME1"
        Image.fromarray(grey if inverted else 255 - grey).save(tmp_path / "film.png")
        visit.go("/try")
        page.locator("#film").set_input_files(tmp_path / "film.png")
        page.wait_for_url("**/studies/2", timeout=60_000)
        page.evaluate("window.same = true")
        expect(page.locator("#live .state")).to_have_text("reported", timeout=READ_MS)
        expect(page.locator(".scores tbody tr").first).to_be_visible(timeout=20_000)
        page.get_by_role("button", name="heat map of").first.click()
        expect(page.locator(".film-heat")).to_be_visible(timeout=20_000)
        assert page.evaluate("window.same")
        assert not visit.elsewhere
        assert not [each for each in visit.complaints if "404" not in each]
        context.close()
        # The picture from the try page was sent nowhere.
        assert {str(dcmread(each).StudyInstanceUID) for each in pacs.files()} == {
            str(dcmread(film).StudyInstanceUID)
        }
        assert node.stop() == 0
