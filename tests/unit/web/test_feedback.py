"""Feedback of readers, and figures of all analyses together."""

from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import update

from dicom_node.runtime import logs
from dicom_node.store import database
from dicom_node.store.analysis_records import AnalysisRecord, FindingRecord
from dicom_node.store.states import StudyState
from dicom_node.store.tables import catalogue
from dicom_node.web.feedback import Feedback, Verdict
from dicom_node.web.media.trial_films import TRIAL_DESCRIPTION
from dicom_node.web.read_models.cohort import BINS, read_cohort
from tests.support.factories import uid
from tests.support.offline_node import OfflineNode


def reading(certainty: float | None, presence: str) -> AnalysisRecord:
    findings = (
        FindingRecord("nodule", "Nodule", certainty, 0.5, 0.4, presence),
        FindingRecord("mass", "Mass", None, 0.001, 0.002, "absent"),
    )
    return AnalysisRecord("tiny", "1.0.0", ("weights_sha256=1",), "absent", findings, ())


@pytest.fixture
def read(tmp_path: Path) -> Iterator[OfflineNode]:
    node = OfflineNode(tmp_path / "data")
    node.finish(1, StudyState.REPORTED, reading=reading(0.75, "present"))
    node.finish(2, StudyState.REPORTED, reading=reading(0.1, "absent"))
    node.finish(3, StudyState.REPORTED, reading=reading(1.0, "present"))
    yield node
    node.close()


def say(client: TestClient, **form: str) -> str:
    page = client.get("/studies/1").text
    found = re.search(r'name="csrf" value="(\w+)"', page)
    assert found
    answer = client.post("/studies/1/feedback", data={"csrf": found[1], **form})
    assert answer.status_code == 200, answer.text
    return answer.text


def test_a_reader_says_and_changes_their_mind(read: OfflineNode) -> None:
    with read.browser() as client:
        page = say(client, key="nodule", verdict="disagree", comment="<b>a rib</b>")
        assert re.search(r'id="disagree-nodule"[^>]*aria-pressed="true"', page)
        assert "&lt;b&gt;a rib&lt;/b&gt;" in page
        page = say(client, key="nodule", verdict="agree", comment="")
        assert re.search(r'id="agree-nodule"[^>]*aria-pressed="true"', page)
        assert re.search(r'id="disagree-nodule"[^>]*aria-pressed="false"', page)
        (opinion,) = client.get("/api/v1/studies/1/feedback").json()["nodule"]
    assert (opinion["reader"], opinion["verdict"], opinion["comment"]) == ("local", "agree", "")


def test_a_verdict_is_taken_back_and_a_comment_alone_is_no_verdict(read: OfflineNode) -> None:
    with read.browser() as client:
        say(client, key="nodule", verdict="agree", comment="")
        page = say(client, key="nodule", verdict="none", comment="")
        assert 'aria-pressed="true"' not in page
        assert client.get("/api/v1/studies/1/feedback").json() == {}
        assert len(client.get("/api/v1/feedback.csv").text.splitlines()) == 1
        page = say(client, key="nodule", verdict="none", comment="a rib")
        assert "a rib" in page
        (opinion,) = client.get("/api/v1/studies/1/feedback").json()["nodule"]
    assert (opinion["verdict"], opinion["comment"]) == ("none", "a rib")


def test_only_findings_of_the_reading_can_be_judged(read: OfflineNode) -> None:
    with read.browser() as client:
        csrf = re.search(r'name="csrf" value="(\w+)"', client.get("/studies/1").text)
        assert csrf
        form = {"csrf": csrf[1], "verdict": "agree"}
        assert client.post("/studies/1/feedback", data=form | {"key": "unicorn"}).status_code == 404
        assert (
            client.post("/studies/1/feedback", data=form | {"key": "mass", "verdict": "x"}).status_code == 400
        )
        headers = {"X-CSRF-Token": csrf[1]}
        put = client.put("/api/v1/studies/1/feedback/mass", json={"verdict": "agree"}, headers=headers)
        assert put.json()["key"] == "mass"


def test_all_of_it_comes_as_csv_that_no_spreadsheet_runs(read: OfflineNode) -> None:
    feedback = Feedback(read.index.engine, lambda: 0.0)
    feedback.record(1, "nodule", "rita", Verdict.DISAGREE, '=cmd|"/c calc"')
    feedback.record(1, "mass", "ada", Verdict.UNSURE, "two\nlines, one comma")
    with read.browser() as client:
        answer = client.get("/api/v1/feedback.csv")
    assert "research-use-only" in answer.headers["Content-Disposition"]
    first, second = csv.DictReader(io.StringIO(answer.text))
    assert first == {
        "intended_use": "research use only", "study": logs.uid_hash(_study()), "revision": "1",
        "model": "tiny", "model_version": "1.0.0", "finding": "nodule", "certainty": "0.75", "score": "0.5",
        "threshold": "0.4", "presence": "present", "reader": "rita", "verdict": "disagree",
        "comment": "'=cmd|\"/c calc\"", "at": "1970-01-01T00:00:00Z",
    }  # fmt: skip
    assert (second["certainty"], second["comment"]) == ("", "two\nlines, one comma")


def _study() -> str:
    from tests.support.factories import film

    return str(film(rows=64, columns=64, study=1, SOPInstanceUID=uid(1, 1)).StudyInstanceUID)


def test_the_cohort_is_what_was_read(read: OfflineNode) -> None:
    Feedback(read.index.engine).record(1, "nodule", "rita", Verdict.AGREE, "")
    Feedback(read.index.engine).record(2, "nodule", "rita", Verdict.DISAGREE, "")
    with read.browser():
        read.context.event_stream.study_headers.update([1, 2, 3])
    cohort = read_cohort(read.index.engine, "nodule", 30)
    assert {number: count for number, count in enumerate(cohort.histogram) if count} == {
        2: 1,
        15: 1,
        BINS - 1: 1,
    }
    (week,) = cohort.weeks
    assert (week.count, week.mean, week.present) == (3, pytest.approx(1.85 / 3), pytest.approx(2 / 3))
    assert [(each.name, each.count) for each in cohort.views] == [("PA", 3)]
    assert [(each.name, each.agree, each.disagree) for each in cohort.agreements] == [("Nodule", 1, 1)]
    assert cohort.normality == {"absent": 3}
    assert 0 <= cohort.turnaround["median"] <= cohort.turnaround["99 %"] < 1
    assert read_cohort(read.index.engine, "", 30).finding == "mass"


@pytest.fixture
def headed(read: OfflineNode) -> OfflineNode:
    """Node whose headers are read: its page reads none while it runs."""
    with read.browser():
        read.context.event_stream.study_headers.update([1, 2, 3])
    return read


def test_views_are_sets_and_the_threshold_is_a_line(headed: OfflineNode) -> None:
    with database.writing(headed.index.engine) as connection:
        for key, views in ((1, "PA, LL"), (2, "LL, PA"), (3, "")):
            connection.execute(update(catalogue).where(catalogue.c.study_id == key).values(views=views))
    cohort = read_cohort(headed.index.engine, "nodule", 30)
    with headed.browser() as client:
        page = client.get("/cohort?finding=nodule").text
    both, unknown = cohort.views
    assert (both.name, both.count, both.mean, both.present) == ("LL + PA", 2, pytest.approx(0.425), 0.5)
    assert (unknown.name, unknown.count) == ("unknown", 1)
    assert cohort.thresholds == {"tiny 1.0.0": 0.4}
    assert cohort.count_ticks == [0, 1]
    assert f'class="limit" x1="{40 + 384 * 0.4:.1f}"' in page
    assert "threshold of tiny 1.0.0: 0.40" in page


@pytest.mark.parametrize(
    ("most", "ticks"), [(0, [0, 1]), (4, [0, 1, 2, 3, 4]), (5, [0, 2, 4, 6]), (90, [0, 50, 100])]
)
def test_the_axis_of_counts_has_round_numbers(read: OfflineNode, most: int, ticks: list[int]) -> None:
    cohort = read_cohort(read.index.engine, "nodule", 30)
    assert replace(cohort, histogram=[0] * (BINS - 1) + [most]).count_ticks == ticks


def test_a_bar_leads_to_its_studies_and_a_trial_is_in_neither(headed: OfflineNode) -> None:
    with headed.browser() as client:
        page = client.get("/cohort?finding=nodule").text
        bars = [html.unescape(each) for each in re.findall(r'<a href="(/\?finding=[^"]*)" aria-label', page)]
        weeks = [html.unescape(each) for each in re.findall(r'<a href="(/\?finding=[^"]*since[^"]*)">', page)]
        assert len(bars) == 3
        found = [re.findall(r'<tr id="study-(\d)"', client.get(each).text) for each in bars]
        assert found == [["2"], ["1"], ["3"]]  # 0.1, 0.75 and 1
        assert "Nodule 0.75 to 0.80" in client.get(bars[1]).text
        assert [sorted(re.findall(r'<tr id="study-(\d)"', client.get(each).text)) for each in weeks] == [
            ["1", "2", "3"]
        ]
        with database.writing(headed.index.engine) as connection:
            trial = update(catalogue).where(catalogue.c.study_id == 1)
            connection.execute(trial.values(description=TRIAL_DESCRIPTION))
        assert re.findall(r'<tr id="study-(\d)"', client.get(bars[1]).text) == []
        assert client.get("/api/v1/studies?finding=nodule&low=2").status_code == 400
        assert client.get("/api/v1/studies?since=monday").status_code == 400
        listed = client.get("/api/v1/studies?finding=nodule&low=0.05&high=0.8&until=2000-01-01").json()
        assert listed["studies"] == []


def test_the_analyses_behind_the_cohort_come_as_csv(headed: OfflineNode) -> None:
    with headed.browser() as client:
        answer = client.get("/api/v1/cohort.csv?finding=nodule&days=30")
    assert "research-use-only" in answer.headers["Content-Disposition"]
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["certainty"] for row in rows] == ["0.75", "0.1", "1.0"]
    assert rows[0]["study"] == logs.uid_hash(_study())
    assert (rows[0]["finding"], rows[0]["threshold"], rows[0]["views"]) == ("nodule", "0.4", "PA")


def test_the_cohort_of_nothing_is_empty(empty: TestClient) -> None:
    page = empty.get("/cohort")
    assert page.status_code == 200
    assert "No analysis yet." in page.text
    assert empty.get("/cohort?days=0").status_code == 400
