"""The pages in a real Chromium, over a real node."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Route, expect

from dicom_node.config.sections import RetrievalSettings
from dicom_node.store.analysis_records import (
    AnalysisRecord,
    FindingRecord,
    ImageRecord,
    SimilarCaseRecord,
    SimilarCasesRecord,
)
from dicom_node.store.states import StudyState
from dicom_node.web.app import create_app
from dicom_node.web.auth.accounts import Accounts, Role
from dicom_node.web.feedback import Feedback, Verdict
from dicom_node.web.notes import Notes
from dicom_node.web.saved_filters import SavedFilters
from tests.support.browser import Visit
from tests.support.factories import chest, encoded, film, uid
from tests.support.offline_node import OfflineNode
from tests.support.web_server import served

pytestmark = pytest.mark.peer


@pytest.fixture
def node(tmp_path: Path) -> Iterator[OfflineNode]:
    one = OfflineNode(tmp_path / "data")
    yield one
    one.close()


@pytest.fixture(scope="module")
def context(chromium: Browser) -> Iterator[BrowserContext]:
    """Context of all tests, whose process has read the scripts before; each begins without cookies."""
    kept = chromium.new_context(viewport={"width": 1280, "height": 800})
    yield kept
    kept.close()


@pytest.fixture
def visit(node: OfflineNode, context: BrowserContext) -> Iterator[Visit]:
    context.clear_cookies()
    with served(create_app(node.settings)) as address:
        one = Visit(context, address)
        yield one
        one.page.close()


def hostile(study: int = 1) -> Any:
    return film(
        rows=64, columns=64, study=study, SOPInstanceUID=uid(study, 1),
        patient_name="O'Neil^\"Quoted\"<b>", StudyDescription="<script>document.title = 'taken'</script>",
    )  # fmt: skip


def test_a_study_appears_without_reload_and_hostile_text_stays_text(node: OfflineNode, visit: Visit) -> None:
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


def test_a_link_that_is_pressed_stays_until_the_button_is_released(node: OfflineNode, visit: Visit) -> None:
    node.receive(1, ds=film(rows=64, columns=64, study=1, SOPInstanceUID=uid(1, 1)))
    page = visit.go("/")
    expect(page.locator("#live-state")).to_have_text("live", timeout=20_000)
    rows = page.locator(".worklist tbody tr")
    rows.get_by_role("link").hover()
    page.mouse.down()
    page.evaluate("""
        window.told = new Promise((done) =>
            new EventSource("/api/v1/events").addEventListener("studies", () => setTimeout(done, 1000)));
    """)
    node.receive(2, ds=film(rows=64, columns=64, study=2, SOPInstanceUID=uid(2, 1)))
    page.evaluate("window.told")  # more than the time in which the list moves
    expect(rows).to_have_count(1)
    page.mouse.up()
    page.wait_for_url("**/studies/1")


def test_the_words_of_a_search_may_name_a_patient_and_stand_in_no_address(
    node: OfflineNode, visit: Visit
) -> None:
    for number, description in ((1, "Thorax Meier"), (2, "Thorax Schulze"), (3, "Meier standing")):
        node.receive(number, ds=film(
            rows=64, columns=64, study=number, SOPInstanceUID=uid(number, 1), StudyDescription=description
        ))  # fmt: skip
    node.finish(4, StudyState.REPORTED, films=[film(
        rows=64, columns=64, study=4, SOPInstanceUID=uid(4, 1), StudyDescription="Meier lying"
    )])  # fmt: skip
    page = visit.go("/")
    rows = page.locator(".worklist tbody tr")
    expect(rows).to_have_count(4, timeout=20_000)
    page.get_by_label("Search").fill("meier")
    expect(rows).to_have_count(3)
    # The words hold when a state is chosen, when the list moves by itself, and when the reader comes back.
    page.get_by_role("link", name="1 reported").click()
    expect(rows).to_have_count(1)
    expect(page).to_have_url(f"{visit.address}/?state=REPORTED")
    page.get_by_role("link", name="3 all studies").click()
    expect(rows).to_have_count(3)
    node.receive(5, ds=film(
        rows=64, columns=64, study=5, SOPInstanceUID=uid(5, 1), StudyDescription="Meier again"
    ))  # fmt: skip
    expect(rows).to_have_count(4, timeout=20_000)
    page.get_by_role("link", name="1 reported").click()
    expect(rows).to_have_count(1)
    rows.get_by_role("link").click()
    page.wait_for_url("**/studies/4")
    page.go_back()
    expect(page.get_by_label("Search")).to_have_value("meier")
    expect(rows).to_have_count(1)
    assert not [url for url in visit.asked if "meier" in url.lower()]
    page.get_by_label("Search").fill("schulze")
    expect(page.get_by_text("No study found.")).to_be_visible()  # none of them is reported
    page.get_by_role("link", name="1 all studies").click()
    expect(rows).to_have_count(1)
    page.get_by_label("Search").fill("")
    expect(rows).to_have_count(5)
    assert not visit.elsewhere


def reading() -> AnalysisRecord:
    return AnalysisRecord(
        model="tiny",
        model_version="1.0.0",
        parameters=("weights_sha256=1",),
        normality="absent",
        findings=(
            FindingRecord("nodule", "Nodule", 0.75, 0.5, 0.4, "present", 0.6, 0.85),
            FindingRecord("mass", "Mass", None, 0.001, 0.002, "absent"),
        ),
        images=(ImageRecord(uid(1, 1), "frontal", "", ""),),
        similar=SimilarCasesRecord(
            "reference",
            (SimilarCaseRecord("openi:CXR1", 0.91, ("Nodule",), "A nodule in the left apex."),),
            0.5,
            disagrees=True,
        ),
    )


def test_a_reader_agrees_by_keyboard_and_the_page_shows_it(node: OfflineNode, visit: Visit) -> None:
    node.finish(1, StudyState.REPORTED, reading=reading())
    page = visit.go("/studies/1")
    expect(page.get_by_role("row", name="Nodule").get_by_text("60–85 %")).to_be_visible()
    agree = page.get_by_role("button", name="agree: Nodule", exact=True)
    agree.focus()
    page.keyboard.press("Enter")
    expect(agree).to_have_attribute("aria-pressed", "true", timeout=20_000)
    page.get_by_label("comment on Nodule", exact=True).click()
    comment = page.get_by_label("Comment on Nodule", exact=True)
    comment.fill("<i>left apex</i>")
    comment.blur()
    # What is written and not yet sent is not taken away when the page fetches itself, nor is the focus.
    page.evaluate("refresh()")
    page.wait_for_timeout(1000)
    expect(comment).to_have_value("<i>left apex</i>")
    page.get_by_role("button", name="Save").click()
    opens = page.get_by_role("link", name="Open openi:CXR1")
    opens.focus()
    page.evaluate("document.getElementById('similar').dataset.old = ''; refresh()")
    expect(page.locator("#similar:not([data-old])")).to_be_visible(timeout=20_000)
    expect(opens).to_be_focused()
    expect(page.get_by_text("<i>left apex</i>").first).to_be_visible(timeout=20_000)
    assert page.locator("#live i").count() == 0
    assert not visit.elsewhere


def test_the_next_study_of_the_list_is_a_key_away(node: OfflineNode, visit: Visit) -> None:
    for number in (1, 2, 3):
        node.finish(number, StudyState.REPORTED, reading=reading())
    page = visit.go("/?sort=arrived")
    expect(page.locator(".worklist a.open")).to_have_count(3)
    page.locator("#open-3").click()
    page.wait_for_url("**/studies/3")
    expect(page.locator("#previous-study")).to_be_hidden()
    page.keyboard.press("j")
    page.wait_for_url("**/studies/2")
    page.get_by_role("link", name="Next study").click()
    page.wait_for_url("**/studies/1")
    expect(page.locator("#next-study")).to_be_hidden()
    page.keyboard.press("k")
    page.wait_for_url("**/studies/2")


def test_selected_studies_are_tagged_and_stay_selected_while_the_list_moves(
    node: OfflineNode, visit: Visit
) -> None:
    for number in (1, 2, 3):
        node.finish(number, StudyState.REPORTED, reading=reading())
    page = visit.go("/?sort=arrived")
    expect(page.locator("#live-state")).to_have_text("live", timeout=20_000)
    tag = page.get_by_role("button", name="Tag selected")
    expect(tag).to_be_disabled()
    page.locator("#select-all").check()
    expect(page.get_by_text("3 selected")).to_be_visible()
    page.locator("#select-2").uncheck()
    page.locator("#bulk-word").fill("teaching")
    page.locator("#bulk-word").blur()
    node.receive(4)
    page.evaluate("document.getElementById('live').dataset.old = ''; refresh()")
    page.wait_for_timeout(1000)
    expect(page.locator("#live[data-old]")).to_be_visible()  # the list waits while a tag is written
    tag.click()
    expect(page.locator("#done")).to_have_text("2 of 2 studies were tagged.", timeout=20_000)
    expect(page.locator("#study-1 .word")).to_have_text("teaching")
    page.evaluate("document.getElementById('live').dataset.old = ''; refresh()")
    expect(page.locator("#live:not([data-old])")).to_be_visible(timeout=20_000)
    expect(page.locator("#done")).to_have_text("2 of 2 studies were tagged.")  # an update leaves it
    expect(page.locator("#study-2 .word")).to_have_count(0)
    expect(page.get_by_text("0 selected")).to_be_visible()
    page.locator("#select-2").check()
    page.evaluate("document.getElementById('live').dataset.old = ''; refresh()")
    expect(page.locator("#live:not([data-old])")).to_be_visible(timeout=20_000)
    expect(page.locator("#select-2")).to_be_checked()
    expect(page.get_by_text("1 selected")).to_be_visible()
    page.locator("#tag").select_option("teaching")
    expect(page.locator(".worklist tbody tr")).to_have_count(2, timeout=20_000)
    page.locator("#filter-summary").click()
    page.locator("#filter-name").fill("for teaching")
    page.get_by_role("button", name="Save", exact=True).click()
    saved = page.get_by_role("link", name="for teaching")
    expect(saved).to_have_attribute("aria-current", "true", timeout=20_000)
    page.goto(visit.address)
    saved.click()
    expect(page.locator(".worklist tbody tr")).to_have_count(2, timeout=20_000)
    assert not visit.elsewhere


def test_a_note_and_a_tag_of_somebody_else_come_by_themselves(node: OfflineNode, visit: Visit) -> None:
    node.finish(1, StudyState.REPORTED, reading=reading())
    page = visit.go("/studies/1")
    expect(page.locator("#live-state")).to_have_text("live", timeout=20_000)
    page.locator("#note-summary").click()
    page.get_by_label("Note on this study").fill("<i>see 2024</i>")
    page.get_by_role("button", name="Save the note").click()
    expect(page.get_by_text("<i>see 2024</i>")).to_be_visible(timeout=20_000)
    page.locator("#new-tag").fill("rib")
    page.get_by_role("button", name="Tag", exact=True).click()
    expect(page.get_by_role("link", name="rib", exact=True)).to_be_visible(timeout=20_000)
    Notes(node.index.engine).tag([1], "other", "rita")
    expect(page.get_by_role("link", name="other", exact=True)).to_be_visible(timeout=20_000)
    page.get_by_role("button", name="Remove the tag rib").click()
    expect(page.get_by_role("link", name="rib", exact=True)).to_have_count(0, timeout=20_000)


@pytest.mark.parametrize("path", ["/", "/studies/1", "/try", "/cohort"])
def test_no_page_scrolls_sideways_on_a_telephone(node: OfflineNode, visit: Visit, path: str) -> None:
    node.finish(1, StudyState.REPORTED, reading=reading())
    Notes(node.index.engine).tag([1], "a-tag-of-very-many-letters-12345", "rita")
    visit.page.set_viewport_size({"width": 390, "height": 844})
    page = visit.go(path)
    for details in page.locator("details").all():
        details.evaluate("each => each.open = true")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_study_on_paper_is_dark_on_white_and_keeps_the_notice(node: OfflineNode, visit: Visit) -> None:
    node.finish(1, StudyState.REPORTED, reading=reading())
    page = visit.go("/studies/1")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    expect(page.get_by_text("RESEARCH USE ONLY").first).to_be_visible()
    expect(page.get_by_role("button", name="agree: Nodule", exact=True)).to_be_hidden()


def test_a_comment_that_is_being_written_outlives_a_click_on_another_finding(
    node: OfflineNode, visit: Visit
) -> None:
    node.finish(1, StudyState.REPORTED, reading=reading())
    page = visit.go("/studies/1")
    page.get_by_label("comment on Nodule", exact=True).click()
    comment = page.get_by_label("Comment on Nodule", exact=True)
    comment.fill("not yet sent")
    page.locator("#absent-summary").click()
    disagree = page.get_by_role("button", name="disagree: Mass", exact=True)
    disagree.click()
    expect(disagree).to_have_attribute("aria-pressed", "true", timeout=20_000)
    expect(comment).to_be_visible()
    expect(comment).to_have_value("not yet sent")


def test_a_verdict_is_taken_back_and_those_of_others_come_by_themselves(
    node: OfflineNode, visit: Visit
) -> None:
    node.finish(1, StudyState.REPORTED, reading=reading())
    page = visit.go("/studies/1")
    expect(page.locator("#live-state")).to_have_text("live", timeout=20_000)
    agree = page.get_by_role("button", name="agree: Nodule", exact=True)
    for pressed in ("true", "false"):
        agree.click()
        expect(agree).to_have_attribute("aria-pressed", pressed, timeout=20_000)
    others = Feedback(node.index.engine)
    others.record(1, "nodule", "rita", Verdict.DISAGREE, "")
    expect(page.get_by_text("rita: disagree")).to_be_visible(timeout=20_000)
    others.record(1, "nodule", "rita", Verdict.NONE, "")
    expect(page.get_by_text("rita: disagree")).to_have_count(0, timeout=20_000)


def test_a_node_that_does_not_answer_leaves_the_page_and_is_said(node: OfflineNode, visit: Visit) -> None:
    node.finish(1, StudyState.REPORTED, reading=reading())
    page = visit.go("/studies/1")
    page.context.set_offline(True)
    agree = page.get_by_role("button", name="agree: Nodule", exact=True)
    agree.click()
    expect(page.get_by_role("alert")).to_contain_text("does not answer", timeout=20_000)
    expect(agree).to_have_attribute("aria-pressed", "false")
    page.context.set_offline(False)
    agree.click()
    expect(agree).to_have_attribute("aria-pressed", "true", timeout=20_000)
    expect(page.get_by_role("alert")).to_be_hidden()


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (1920, 1080)])
def test_most_of_a_screen_is_film(node: OfflineNode, visit: Visit, width: int, height: int) -> None:
    node.finish(1, StudyState.REPORTED, films=[film(rows=64, columns=64, study=1)], reading=reading())
    visit.page.set_viewport_size({"width": width, "height": height})
    page = visit.go("/studies/1")
    box = page.locator(".viewer-films").bounding_box(timeout=20_000)
    assert box is not None
    assert box["width"] * box["height"] >= 0.6 * width * height
    bar = page.locator(".viewer-bar").first.bounding_box()
    assert bar is not None
    assert bar["height"] < 40  # one line
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize(("width", "height"), [(390, 844), (640, 400)])
def test_a_film_is_large_on_a_telephone_and_on_a_page_at_200_percent(
    node: OfflineNode, visit: Visit, width: int, height: int
) -> None:
    node.finish(1, StudyState.REPORTED, films=[film(rows=64, columns=64, study=1)], reading=reading())
    visit.page.set_viewport_size({"width": width, "height": height})
    box = visit.go("/studies/1").locator(".viewer-films").bounding_box(timeout=20_000)
    assert box is not None
    assert box["height"] >= 0.6 * height
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_similar_case_opens_with_its_film(node: OfflineNode, chromium: Browser, tmp_path: Path) -> None:
    Image.fromarray((chest(96, 80) * 255).astype(np.uint8)).save(tmp_path / "CXR1_IM-1.jpg")
    node.settings = node.settings.model_copy(update={"retrieval": RetrievalSettings(films=tmp_path)})
    node.finish(1, StudyState.REPORTED, reading=reading())
    # The page may fetch itself meanwhile: whichever element stands there has to be drawn in the end.
    drawn = """() => [...document.images].some((each) => each.src.includes("/similar/1/films/")
        && each.complete && each.naturalWidth === 80 && each.naturalHeight === 96)"""
    with served(create_app(node.settings)) as address:
        context = chromium.new_context(viewport={"width": 1280, "height": 800})
        visit = Visit(context, address)
        page = visit.go("/studies/1")
        opens = page.get_by_role("link", name="Open openi:CXR1")
        expect(opens).to_be_visible()
        # In one step, for the page may put another element there at any moment.
        page.evaluate("document.getElementById('similar').scrollIntoView()")
        page.wait_for_function(drawn)
        opens.press("Enter")
        expect(page).to_have_url(f"{address}/studies/1/similar/1")
        expect(page.get_by_role("img", name="Film 1 of openi:CXR1")).to_be_visible()
        page.wait_for_function(drawn)
        expect(page.get_by_text("A nodule in the left apex.")).to_be_visible()
        found = Axe().run(page).response["violations"]
        assert not [each["id"] for each in found if each["impact"] in ("serious", "critical")]
        assert not visit.elsewhere
        context.close()


def test_a_study_page_weighs_less_than_3_mb_without_the_film(node: OfflineNode, visit: Visit) -> None:
    node.finish(1, StudyState.REPORTED, films=[hostile()], reading=reading())
    addresses: dict[str, str] = {}
    weights: dict[str, int] = {}
    wire = visit.page.context.new_cdp_session(visit.page)
    wire.on(
        "Network.responseReceived",
        lambda each: addresses.update({each["requestId"]: each["response"]["url"]}),
    )
    wire.on(
        "Network.loadingFinished", lambda each: weights.update({each["requestId"]: each["encodedDataLength"]})
    )
    wire.send("Network.enable")
    visit.go("/studies/1")
    expect(visit.page.locator("#viewer canvas").first).to_be_visible(timeout=60_000)
    parts = {url: weights.get(key, 0) for key, url in addresses.items() if not url.endswith("/pixels")}
    assert parts[f"{visit.address}/static/viewer/libraries.js"] > 0
    assert sum(parts.values()) < 3e6
    print(f"\n{sum(parts.values()) / 1e6:.2f} MB in {len(parts)} parts")


def test_a_reader_logs_in_looks_and_logs_out(tmp_path: Path, chromium: Browser) -> None:
    node = OfflineNode(tmp_path / "data")
    web = node.settings.web.model_copy(update={"login": True})
    node.settings = node.settings.model_copy(update={"web": web})
    Accounts(node.index.engine).add("rita", Role.READER, "correct horse battery")
    node.finish(1, StudyState.FAILED, "no model could read it", results=0)
    with served(create_app(node.settings)) as address:
        context = chromium.new_context()
        page = Visit(context, address).go("/studies/1")
        for password, seen in (
            ("wrong password", "Wrong name or password"),
            ("correct horse battery", "rita"),
        ):
            page.get_by_label("Name").fill("rita")
            page.get_by_label("Password").fill(password)
            page.get_by_role("button", name="Log in").click()
            expect(page.get_by_text(seen).first).to_be_visible(timeout=20_000)
        assert page.get_by_role("button", name="Analyse again").count() == 0
        # The session ends: the page stays, and says so.
        expect(page.locator("#live-state")).to_have_text("live", timeout=20_000)
        context.clear_cookies()
        for ask, path in (
            ("refresh()", "**/login?**"),
            ("htmx.ajax('POST', '/studies/1/feedback', { target: '#live', select: '#live' })", "**/feedback"),
        ):
            page.evaluate("complain('')")
            with page.expect_response(path) as answered:
                page.evaluate(ask)
            assert answered.value.status == (200 if "login" in path else 401)
            expect(page.get_by_role("alert")).to_contain_text("Your session has ended.", timeout=20_000)
            expect(page.get_by_role("heading", name="Findings")).to_be_visible()
        # The page goes on asking; its link stays the same, so that a press of it is a click.
        assert page.evaluate(
            "() => { const link = problem.querySelector('a'); complain(ENDED); return link.isConnected }"
        )
        page.get_by_role("link", name="Log in again").click()
        page.get_by_label("Name").fill("rita")
        page.get_by_label("Password").fill("correct horse battery")
        page.get_by_role("button", name="Log in").click()
        page.wait_for_url("**/studies/1")
        page.goto(f"{address}/access")
        expect(page.get_by_text("not allowed")).to_be_visible()
        page.goto(address)
        page.get_by_role("button", name="Log out").click()
        expect(page.get_by_role("heading", name="Log in")).to_be_visible(timeout=20_000)
        context.close()
    node.close()


def test_a_file_is_uploaded_and_a_film_is_tried(node: OfflineNode, visit: Visit, tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_bytes(encoded(hostile(1)))
    Image.fromarray((chest(96, 80) * 255).astype(np.uint8)).save(tmp_path / "b.png")
    page = visit.go("/try")
    page.locator("#films").set_input_files(tmp_path / "a.dcm")
    expect(page.get_by_role("link", name="open")).to_have_attribute("href", "/studies/1", timeout=30_000)
    page.locator("#film").set_input_files(tmp_path / "b.png")
    expect(page).to_have_url(f"{visit.address}/studies/2", timeout=60_000)
    expect(page.get_by_text("Tried in the reading room")).to_be_visible(timeout=20_000)


def test_films_that_are_dropped_together_are_one_study_and_a_refusal_stays_in_view(
    node: OfflineNode, visit: Visit, tmp_path: Path
) -> None:
    for number, view in ((1, "PA"), (2, "LL")):
        picture = Image.fromarray((chest(96, 80, view=view) * 255).astype(np.uint8))
        picture.save(tmp_path / f"{number}.png")
    (tmp_path / "report.pdf").write_bytes(b"%PDF-1.7 nothing")
    page = visit.go("/try")
    page.locator("#film").set_input_files([tmp_path / "report.pdf", tmp_path / "1.png"])
    expect(page.get_by_text("The file is a PDF document")).to_be_visible(timeout=60_000)
    expect(page.get_by_role("link", name="open")).to_have_attribute("href", "/studies/1", timeout=60_000)
    expect(page).to_have_url(f"{visit.address}/try")
    page.locator("#film").set_input_files([tmp_path / "1.png", tmp_path / "2.png"])
    expect(page).to_have_url(f"{visit.address}/studies/2", timeout=60_000)
    expect(page.get_by_text("2 images")).to_be_visible(timeout=20_000)
    page.goto(f"{visit.address}/try")
    page.get_by_role("button", name="Try two drawn films").click()
    expect(page).to_have_url(f"{visit.address}/studies/3", timeout=60_000)


@pytest.mark.parametrize(
    "path",
    [
        "/", "/studies/1", "/studies/2", "/studies/1/similar/1", "/models/openi-findings-0.2.0",
        "/try", "/cohort", "/health", "/access", "/tokens", "/nowhere",
    ],
)  # fmt: skip
def test_axe_finds_nothing_of_weight(node: OfflineNode, visit: Visit, path: str) -> None:
    node.finish(1, StudyState.REPORTED, reading=reading())
    node.finish(2, StudyState.FAILED, "no model could read it", results=0)
    Notes(node.index.engine).tag([1], "teaching", "rita")
    Notes(node.index.engine).write(1, "rita", "see the film of 2024")
    SavedFilters(node.index.engine).save("local", "to read", "read=unread")
    page = visit.go(path)
    for details in page.locator("details").all():
        details.evaluate("each => each.open = true")
    found = Axe().run(page).response["violations"]
    weighty = [each for each in found if each["impact"] != "minor"]
    assert not weighty, [(each["id"], [node["html"][:200] for node in each["nodes"]]) for each in weighty]


def test_a_page_listens_again_after_an_answer_that_is_an_error(visit: Visit) -> None:
    refused: list[str] = []

    def answer(route: Route) -> None:
        if refused:
            route.continue_()
        else:  # as a proxy before a node that starts again
            refused.append(route.request.url)
            route.fulfill(status=502)

    visit.page.route("**/api/v1/events", answer)
    page = visit.go("/")
    expect(page.locator("#live-state")).to_have_text("connection lost")
    expect(page.locator("#live-state")).to_have_text("live", timeout=20_000)
