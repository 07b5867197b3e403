"""Draw the pictures of docs/reading-room.md: ``python -m tests.bench.web_screenshots FOLDER``.

Films are drawn and analyses invented; pages, model card and metrics are real.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright
from pydicom.dataset import Dataset

from dicom_node.config.sections import RetrievalSettings
from dicom_node.store.analysis_records import (
    AnalysisRecord,
    FindingChangeRecord,
    FindingRecord,
    HeatMapRecord,
    ImageRecord,
    PriorComparisonRecord,
    SimilarCaseRecord,
    SimilarCasesRecord,
    WordWeightsRecord,
)
from dicom_node.store.states import StudyState
from dicom_node.web.app import create_app
from dicom_node.web.auth.accounts import Accounts, Role
from dicom_node.web.feedback import Verdict
from dicom_node.web.notes import Notes
from models.bundles.bundle import Bundle, find_bundle, read_bundle
from tests.support.browser import FLAGS
from tests.support.factories import chest, film, uid
from tests.support.offline_node import OfflineNode
from tests.support.web_server import served

BUNDLE = "openi-findings-0.2.0"
STUDIES = 16
WEEK = 7 * 86400
DESCRIPTIONS = ("Chest PA and lateral", "Thorax pa/lat", "Chest 2 views", "Chest portable")
MANUFACTURERS = ("Fuji", "Philips", "Agfa")
DECODED = "The film could not be decoded: the JPEG data end early."
LATERAL = "Only a lateral view was received."
#: Scores of the first study; those of the others are chance.
SCORES = {"cardiomegaly": 0.9, "pleural_effusion": 0.7, "atelectasis": 0.15, "normal": 0.02}
CASES = (
    (1204, ("Cardiomegaly", "Pleural Effusion"), "The heart is enlarged. Small left pleural effusion."),
    (887, ("Cardiomegaly", "Atelectasis"), "Mild bibasilar atelectasis. No focal consolidation."),
    (3120, ("Cardiomegaly", "Pleural Effusion"), "Stable cardiomegaly. The effusions have grown."),
    (45, ("Cardiomegaly",), "Heart size is enlarged. The lungs are clear."),
    (2210, (), ""),
)
WORDS = (("dyspnea", 0.31), ("and", 0.0), ("oedema,", 0.22), ("no", -0.05), ("fever", -0.12))


def main(folder: Path) -> None:
    """Draw all pictures into a folder."""
    with tempfile.TemporaryDirectory() as scratch:
        reference = Path(scratch) / "reference"
        draw_reference(reference)
        node = OfflineNode(Path(scratch) / "data")
        fill(node, read_bundle(find_bundle(BUNDLE)))
        node.settings = node.settings.model_copy(update={"retrieval": RetrievalSettings(films=reference)})
        login = node.settings.web.model_copy(update={"login": True})
        closed = node.settings.model_copy(update={"web": login})
        with (
            served(create_app(node.settings)) as address,
            served(create_app(closed)) as door,
            sync_playwright() as playwright,
        ):
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
            study = f"{address}/studies/{STUDIES}"
            draw(browser, address, folder / "reading-room-worklist.png", in_view)
            draw(browser, study, folder / "reading-room-study.png", with_heat)
            draw(browser, study, folder / "reading-room-portrait.png", with_heat, (2048, 2560))
            draw(browser, f"{study}/similar/1", folder / "reading-room-case.png", in_view)
            draw(browser, f"{address}/cohort", folder / "reading-room-shadow.png", at_shadow)
            draw(browser, f"{address}/models/{BUNDLE}", folder / "reading-room-model.png")
            for page in ("cohort", "health", "try", "access"):
                draw(browser, f"{address}/{page}", folder / f"reading-room-{page}.png")
            draw(browser, f"{door}/login", folder / "reading-room-login.png")
            browser.close()
        node.close()


def draw_reference(folder: Path) -> None:
    """Draw the films of the similar cases."""
    folder.mkdir()
    for seed, (case, *_) in enumerate(CASES, start=20):
        for number, view in enumerate(("PA", "LL"), start=1):
            picture = Image.fromarray((chest(512, 448, seed=seed, view=view) * 255).astype(np.uint8))
            picture.save(folder / f"{case}_IM-{number}.jpg")


def fill(node: OfflineNode, bundle: Bundle) -> None:
    """Fill the node with studies of every outcome."""
    shutil.copytree(bundle.path, node.data_dir.cards / BUNDLE, ignore=shutil.ignore_patterns("*.safetensors"))
    chance = np.random.default_rng(4)
    today = node.now
    for number in range(1, STUDIES + 1):
        node.now = today - WEEK * ((STUDIES - number) // 3)
        films = [drawn(number, "PA", 1), drawn(number, "LL", 2)]
        if number == 5:
            node.finish(number, StudyState.FAILED, DECODED, films=films[:1], results=0)
        elif number == 9:
            node.finish(number, StudyState.SKIPPED, LATERAL, films=films[1:], results=1)
        else:
            reading = read(node, bundle, number, chance)
            further = [shadow(reading, bundle, chance)]
            node.finish(number, StudyState.REPORTED, films=films, reading=reading, further=further, results=3)
    states = (
        ("findings", "primary", "openi-findings", "openi-findings 0.2.0", ""),
        ("our-chest", "shadow", "/srv/models/our-chest-0.1.0", "our-chest 0.1.0", ""),
        ("theirs", "shadow", "https://model.example", "", "https://model.example does not answer"),
    )
    names = ("name", "role", "where", "model", "problem")
    said = [dict(zip(names, state, strict=True)) | {"since": today - 4000} for state in states]
    node.data_dir.model_states.write_text(json.dumps(said), encoding="utf-8")
    node.send("pacs")
    node.receive(STUDIES + 1, ds=drawn(STUDIES + 1, "PA", 1))
    notes = Notes(node.index.engine)
    notes.tag([STUDIES, STUDIES - 2], "teaching", "rita")
    notes.tag([STUDIES], "second-opinion", "local")
    notes.write(STUDIES, "rita", "Compare with the lateral film of January before the next meeting.")
    accounts = Accounts(node.index.engine)
    accounts.add("rita", Role.READER, "correct horse battery")


def drawn(study: int, view: str, instance: int) -> Dataset:
    """Draw one film of a study; the first and the last study are of one patient."""
    patient = 1 if study == STUDIES else study
    return film(
        pixels=chest(1024, 896, seed=study, view=view),
        study=study,
        instance=instance,
        SOPInstanceUID=uid(study, instance),
        view=view,
        patient_name=f"Drawn^Patient{patient}",
        patient_id=f"D-{patient}",
        StudyDescription=DESCRIPTIONS[study % 4],
        StudyDate=f"2026{1 + study * 11 // 18:02}{1 + study % 27:02}",
        Manufacturer=MANUFACTURERS[study % 3],
    )


def read(node: OfflineNode, bundle: Bundle, study: int, chance: np.random.Generator) -> AnalysisRecord:
    """Invent the analysis of a study; the last study is the one that is shown."""
    looked_at = study == STUDIES
    findings = []
    for label in bundle.labels:
        score = SCORES.get(label.key, 1e-5) if looked_at else float(chance.beta(0.6, 6))
        curve = bundle.calibration.labels[label.key]
        low, high = curve.interval(score) or (None, None)
        presence = "present" if curve.present(score) else "absent"
        findings.append(
            FindingRecord(
                label.key, label.name, curve.probability(score), score, curve.threshold, presence, low, high
            )
        )
    y, x = np.mgrid[0:64, 0:64] / 63
    spots = [
        (255 * np.exp(-(((x - across) / wide) ** 2) - ((y - down) / high) ** 2)).astype(np.uint8)
        for across, down, wide, high in ((0.56, 0.66, 0.2, 0.16), (0.83, 0.82, 0.1, 0.1))
    ]
    keys = ("cardiomegaly", "pleural_effusion")
    cases = [
        SimilarCaseRecord(f"openi:{case}", 0.93 - 0.03 * rank, labels, report)
        for rank, (case, labels, report) in enumerate(CASES)
    ]
    changes = (
        FindingChangeRecord("pleural_effusion", 0.04, 0.05, "absent", "new"),
        FindingChangeRecord("cardiomegaly", 0.6, 0.7, "present", "unchanged"),
    )
    name, version = BUNDLE.rsplit("-", 1)
    return AnalysisRecord(
        model=name,
        model_version=version,
        parameters=(f"weights_sha256={bundle.identity.weights_sha256}",),
        normality="absent" if any(each.presence == "present" for each in findings) else "present",
        findings=tuple(findings),
        images=(ImageRecord(uid(study, 1), "frontal", "", ""), ImageRecord(uid(study, 2), "lateral", "", "")),
        maps=tuple(HeatMapRecord(key, uid(study, 1), "Grad-CAM") for key in keys) if looked_at else (),
        maps_file=node.data_dir.maps.keep(spots) if looked_at else "",
        similar=SimilarCasesRecord("openi train", tuple(cases), 0.78, disagrees=False),
        prior=PriorComparisonRecord("1.2.3", "20260102", "", changes) if looked_at else None,
        words=(WordWeightsRecord("pleural_effusion", WORDS),) if looked_at else (),
        seconds=0.12,
    )


def shadow(shown: AnalysisRecord, bundle: Bundle, chance: np.random.Generator) -> AnalysisRecord:
    """Invent the answers of a shadow model, near those of the model that is shown."""
    findings = []
    for each in shown.findings:
        score = float(np.clip(each.score + chance.normal(0.02, 0.05), 0, 1))
        curve = bundle.calibration.labels[each.key]
        low, high = curve.interval(score) or (None, None)
        presence = "present" if curve.present(score) else "absent"
        certainty = curve.probability(score)
        findings.append(
            replace(each, score=score, certainty=certainty, presence=presence, low=low, high=high)
        )
    return replace(
        shown,
        model="our-chest",
        model_version="0.1.0",
        role="shadow",
        seconds=0.21,
        findings=tuple(findings),
        maps=(),
        maps_file="",
        similar=None,
        prior=None,
        words=(),
    )


def draw(
    browser: Browser,
    address: str,
    file: Path,
    then: Callable[[Page], None] = lambda _page: None,
    size: tuple[int, int] = (1280, 800),
) -> None:
    """Take the picture of one page."""
    page = browser.new_page(viewport={"width": size[0], "height": size[1]})
    page.goto(address)
    page.wait_for_load_state("networkidle")
    then(page)
    page.screenshot(path=file)
    page.close()
    print(file)


def in_view(page: Page) -> None:
    """Wait until all pictures in view are loaded."""
    page.wait_for_function(
        "[...document.images].every(each => each.loading === 'lazy' ? true : each.complete)"
    )
    page.wait_for_timeout(1500)


def at_shadow(page: Page) -> None:
    """Go to the comparison of the shadow."""
    page.locator("#shadow-1").scroll_into_view_if_needed()
    page.evaluate("document.querySelector('#shadow-1').closest('section').scrollIntoView()")


def with_heat(page: Page) -> None:
    """Agree with a finding and show its heat map over the film."""
    page.locator('.film[aria-busy="false"]').wait_for()
    page.get_by_role("button", name=f"{Verdict.AGREE}: Cardiomegaly", exact=True).click()
    page.get_by_role("button", name="heat map of Cardiomegaly").click()
    page.locator(".film-heat").wait_for()
    page.wait_for_timeout(1500)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
