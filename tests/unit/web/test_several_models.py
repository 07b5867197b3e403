"""Pages and API of studies that several models have read: whose answers are shown, and to whom."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from scipy import stats
from sklearn.metrics import brier_score_loss, cohen_kappa_score

from dicom_node.store.analysis_records import AnalysisRecord, FindingRecord, HeatMapRecord
from dicom_node.store.states import StudyState
from dicom_node.web.feedback import Feedback, Verdict
from dicom_node.web.read_models.cohort import read_cohort
from dicom_node.web.read_models.shadows import read_shadows
from dicom_node.web.read_models.worklist import WorklistQuery, read_worklist
from tests.support.factories import film
from tests.support.login import csrf_token, log_in
from tests.support.offline_node import OfflineNode
from tests.support.reader_study import ask_for_logins


def answer(
    model: str, role: str = "primary", *, nodule: float, version: str = "1", seconds: float = 0.1
) -> AnalysisRecord:
    found = FindingRecord(
        "nodule", "Nodule", nodule, nodule / 2, 0.5, "present" if nodule >= 0.5 else "absent"
    )
    return AnalysisRecord(model, version, (), "undetermined", (found,), (), role=role, seconds=seconds)


@pytest.fixture
def guarded(node: OfflineNode) -> OfflineNode:
    """Node with an admin "ada", a reader "rita" and a study that three models have read."""
    spot = np.full((2, 2), 200, np.uint8)
    ds = film(rows=64, columns=64, study=1)
    mapped = replace(
        answer("beta", nodule=0.9),
        maps=(HeatMapRecord("nodule", ds.SOPInstanceUID, "Grad-CAM"),),
        maps_file=node.data_dir.maps.keep([spot]),
    )
    node.finish(
        1,
        StudyState.REPORTED,
        films=[ds],
        reading=answer("alpha", nodule=0.2),
        further=[mapped, answer("gamma", "shadow", nodule=0.7)],
    )
    ask_for_logins(node, "rita")
    return node


@pytest.fixture
def reader(guarded: OfflineNode) -> Iterator[TestClient]:
    with guarded.browser() as client:
        log_in(client, "rita")
        yield client


@pytest.fixture
def admin(guarded: OfflineNode) -> Iterator[TestClient]:
    with guarded.browser() as client:
        log_in(client, "ada")
        yield client


def test_the_first_model_is_shown_and_the_others_can_be_chosen(reader: TestClient) -> None:
    first = reader.get("/studies/1").text
    assert "alpha 1: model card" in first
    assert '<a id="model-1" href="/studies/1?model=1">beta 1</a>' in first
    second = reader.get("/studies/1", params={"model": 1}).text
    assert "beta 1: model card" in second
    assert 'data-api="/api/v1/studies/1/viewer?model=1"' in second
    shown = reader.get("/api/v1/studies/1", params={"model": 1}).json()
    assert shown["reading"]["model"] == "beta"
    assert [each["name"] for each in shown["models"]] == ["alpha", "beta"]
    (heat,) = reader.get("/api/v1/studies/1/viewer", params={"model": 1}).json()["maps"]
    assert reader.get(heat["map"]).content == bytes([200] * 4)
    assert reader.get("/api/v1/studies/1/viewer").json()["maps"] == []


@pytest.mark.parametrize(
    "path",
    [
        "/studies/1?model=2",
        "/api/v1/studies/1?model=2",
        "/api/v1/studies/1/viewer?model=2",
        "/api/v1/studies/1/maps/0?model=2",
        "/api/v1/studies/1/feedback?model=2",
    ],
)
def test_only_an_admin_sees_a_shadow(guarded: OfflineNode, path: str) -> None:
    with guarded.browser() as client:
        log_in(client, "rita")
        assert client.get(path).status_code == 404
        assert client.get(path.replace("=2", "=3")).status_code == 404
        assert "gamma" not in client.get("/studies/1").text + client.get("/cohort").text
        assert "gamma" not in client.get("/api/v1/studies/1").text
    with guarded.browser() as client:
        log_in(client, "ada")
        assert client.get(path).status_code == (404 if "maps" in path else 200)
        assert "shadow: never sent" in client.get("/studies/1").text


def test_an_opinion_is_on_the_model_that_was_shown(guarded: OfflineNode, admin: TestClient) -> None:
    page = admin.get("/studies/1?model=1").text
    form = {"csrf": csrf_token(page), "key": "nodule", "verdict": "agree", "model": "1"}
    said = admin.post("/studies/1/feedback", data=form, follow_redirects=False)
    assert said.headers["Location"] == "/studies/1?model=1"
    assert admin.get("/api/v1/studies/1/feedback").json() == {}
    assert admin.get("/api/v1/studies/1/feedback?model=1").json()["nodule"][0]["verdict"] == "agree"
    assert admin.post("/studies/1/feedback", data=form | {"model": "x"}).status_code == 400
    assert admin.post("/studies/1/feedback", data=form | {"model": "3"}).status_code == 404
    Feedback(guarded.index.engine).record(3, "nodule", "ada", Verdict.AGREE, "")
    assert admin.get("/api/v1/feedback.csv").text.count("gamma") == 1


def test_a_reader_s_export_holds_nothing_on_shadows(guarded: OfflineNode, reader: TestClient) -> None:
    Feedback(guarded.index.engine).record(3, "nodule", "ada", Verdict.AGREE, "")
    assert "gamma" not in reader.get("/api/v1/feedback.csv").text


def test_lists_and_statistics_are_those_of_the_first_model(guarded: OfflineNode) -> None:
    with guarded.browser():
        guarded.context.event_stream.study_headers.update([1])
    assert read_worklist(guarded.index.engine, WorklistQuery(finding="nodule")).rows == []
    cohort = read_cohort(guarded.index.engine, "nodule", 30)
    assert sum(cohort.histogram) == 1
    assert cohort.weeks[0].mean == pytest.approx(0.2)
    Feedback(guarded.index.engine).record(3, "nodule", "ada", Verdict.AGREE, "")
    assert read_cohort(guarded.index.engine, "nodule", 30).agreements == []


def test_a_shadow_is_compared_as_the_libraries_compute_it(node: OfflineNode) -> None:
    random = np.random.default_rng(3)
    ours = random.random(40).round(3)
    theirs = np.clip(ours + random.normal(0.05, 0.2, 40), 0, 1).round(3)
    for number, (first, second) in enumerate(zip(ours.tolist(), theirs.tolist(), strict=True), 1):
        node.finish(
            number,
            StudyState.REPORTED,
            reading=answer("alpha", nodule=first, seconds=0.1),
            further=[answer("gamma", "shadow", nodule=second, version="2", seconds=0.3)],
        )
    opinions = Feedback(node.index.engine)
    for number in range(1, 21):
        opinions.record(
            2 * number - 1, "nodule", "rita", Verdict.AGREE if number % 4 else Verdict.DISAGREE, ""
        )
    with node.browser() as client:
        node.context.event_stream.study_headers.update(list(range(1, 41)))
        page = client.get("/cohort").text
    (found,) = read_shadows(node.index.engine, 30)
    assert (found.model, found.shadow, found.studies) == ("alpha 1", "gamma 2", 40)
    assert (found.seconds, found.shadow_seconds) == (pytest.approx(0.1), pytest.approx(0.3))
    (nodule,) = found.findings
    assert nodule.kappa is not None
    assert nodule.kappa.kappa == pytest.approx(cohen_kappa_score(ours >= 0.5, theirs >= 0.5))
    difference = theirs - ours
    assert nodule.difference == pytest.approx(difference.mean())
    interval = stats.norm.interval(0.95, difference.mean(), stats.sem(difference))
    assert (nodule.low, nodule.high) == pytest.approx(interval)
    truth = np.array([(ours[n - 1] >= 0.5) == (n % 4 != 0) for n in range(1, 21)])
    assert (nodule.judged, nodule.right, nodule.shadow_right) == (
        20,
        15,
        int((truth == (theirs[:20] >= 0.5)).sum()),
    )
    assert nodule.brier == pytest.approx(brier_score_loss(truth, ours[:20]))
    assert nodule.shadow_brier == pytest.approx(brier_score_loss(truth, theirs[:20]))
    assert list(nodule.shadow_histogram) == np.histogram(theirs, 10, (0, 1))[0].tolist()
    assert "Shadow: gamma 2 beside alpha 1" in page


def test_a_study_that_was_only_tried_counts_for_no_shadow(tmp_path: Path) -> None:
    node = OfflineNode(tmp_path / "tried")
    node.finish(
        1,
        StudyState.REPORTED,
        reading=answer("alpha", nodule=0.1),
        further=[answer("gamma", "shadow", nodule=0.9)],
    )
    assert read_shadows(node.index.engine, 30) == []  # its headers were not read yet
    node.close()
