"""Study page: everything besides findings, images and objects."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dicom_node.store.analysis_records import (
    AnalysisRecord,
    FindingChangeRecord,
    FindingRecord,
    PriorComparisonRecord,
    WordWeightsRecord,
)
from dicom_node.store.states import StudyState
from tests.support.offline_node import OWNER, PACS, OfflineNode

FINDINGS = tuple(
    FindingRecord(key, name, 0.7, 0.7, 0.5, "present")
    for key, name in (("nodule", "Nodule"), ("mass", "Mass"), ("edema", "Edema"))
)


def shown(
    node: OfflineNode,
    *,
    prior: PriorComparisonRecord | None = None,
    words: tuple[WordWeightsRecord, ...] = (),
) -> str:
    reading = AnalysisRecord("tiny", "1", (), "absent", FINDINGS, (), prior=prior, words=words)
    node.finish(1, StudyState.REPORTED, reading=reading)
    with node.browser() as client:
        text = client.get("/studies/1").text
    return re.sub(r"\s+", " ", text)


def test_what_changed_since_the_previous_film_is_said(node: OfflineNode) -> None:
    changes = (
        FindingChangeRecord("nodule", 0.1, 0.1, "absent", "new"),
        FindingChangeRecord("mass", 0.8, 0.8, "present", "gone"),
        FindingChangeRecord("edema", 0.7, 0.7, "present", "unchanged"),
    )
    text = re.sub(r"<[^>]+>", "", shown(node, prior=PriorComparisonRecord("1.2.3", "20250304", "", changes)))
    assert (
        "Previous study: 2025-03-04. New: Nodule. No longer above threshold: Mass. Unchanged: Edema." in text
    )


def test_why_nothing_was_compared_is_said(node: OfflineNode) -> None:
    assert "No comparison: the study names no Patient ID." in shown(
        node, prior=PriorComparisonRecord("", "", "the study names no Patient ID")
    )


def test_words_are_shown_by_what_they_add_and_stay_text(node: OfflineNode) -> None:
    words = WordWeightsRecord("mass", (("cough", 0.9), ("<b>", -0.5), ("of", 0.1), ("it", 0.0)))
    text = shown(node, words=(words,))
    assert 'class="speaks-for-3" title="+0.900">cough<' in text
    assert 'class="speaks-against-2" title="-0.500">&lt;b&gt;<' in text
    assert 'class="speaks-for-1" title="+0.100">of<' in text
    assert 'class="speaks-against-0" title="+0.000">it<' in text


def test_words_that_add_nothing_are_shown(node: OfflineNode) -> None:
    assert ">cough<" in shown(node, words=(WordWeightsRecord("mass", (("cough", 0.0),)),))


def test_without_either_nothing_of_them_is_said(node: OfflineNode) -> None:
    text = shown(node)
    assert "previous study" not in text
    assert "Words in the text" not in text


def test_the_page_says_what_was_compared_in_the_order_of_the_margin(node: OfflineNode) -> None:
    findings = (
        FindingRecord("mass", "Mass", 0.6, 0.5, 0.5, "present"),
        FindingRecord("nodule", "Nodule", 0.03, 0.02, 0.01, "present", 0.01, 0.08),
        FindingRecord("edema", "Edema", None, 0.2, 0.5, "absent"),
        FindingRecord("cyst", "Cyst", 0.5, 0.5, 0.5, "undetermined"),
    )
    node.finish(1, StudyState.REPORTED, reading=AnalysisRecord("tiny", "1", (), "undetermined", findings, ()))
    with node.browser() as client:
        text = re.sub(r"\s+", " ", client.get("/studies/1").text)
    assert "neither normal nor abnormal" in text
    assert "in 100 such studies about 3 had it (1 to 8)" in text
    scores = text.partition('id="sent"')[0]
    rows = re.findall(r'<th scope="row">(\w+)(.*?)</tr>', scores)
    answers = re.findall(r'<td class="number">([\w ]+) <span class="label">([\d. %]+)</span></td>', scores)
    # A rare finding at three times its threshold is further from it than a common one at 1.2 times.
    assert [name for name, _ in rows] == ["Nodule", "Mass", "Cyst", "Edema"]
    assert answers == [("above", "1 %"), ("above", "50 %"), ("undetermined at", "50 %"), ("below", "0.50")]
    assert "not calibrated" in rows[3][1]
    assert "2 findings that are not above their threshold" in text


@pytest.mark.parametrize(
    ("state", "said"), [(StudyState.SKIPPED, "did not read"), (StudyState.FAILED, "the analysis failed")]
)
def test_a_study_without_findings_says_why(node: OfflineNode, state: StudyState, said: str) -> None:
    node.finish(1, state, "not a chest film")
    with node.browser() as client:
        text = client.get("/studies/1").text
    assert f"No findings: the model {said}" in text or f"No findings: {said}" in text
    assert "No findings yet" not in text


def test_deliveries_stand_by_destination_and_each_error_once(tmp_path: Path) -> None:
    pacs, archive = (PACS.model_copy(update={"name": name}) for name in ("pacs", "archive"))
    node = OfflineNode(tmp_path / "data", pacs, archive)
    node.finish(1, StudyState.REPORTED, results=3, destinations=("pacs", "archive"))
    node.send("pacs", error="it is away")
    node.send("archive")
    with node.browser() as client:
        text = client.get("/studies/1").text
    node.close()
    assert text.count("it is away") == 1
    places = [text.index(words) for words in ("to archive", "to pacs", "it is away")]
    assert places == sorted(places)
    assert text.count("to archive") == text.count("to pacs") == 1


def test_a_waiting_study_says_its_place_and_the_health_page_who_analyses(node: OfflineNode) -> None:
    uids = [node.complete(number) for number in (1, 2, 3)]
    with node.browser() as client:
        assert "no. 3 in the queue" in client.get("/studies/3").text
        assert node.leases.acquire(uids[0], 1, OWNER, 60)
        assert "no. 2 in the queue" in client.get("/studies/3").text
        assert "in the queue," not in client.get("/studies/1").text
        text = re.sub(r"<.*?>|\s+", " ", client.get("/health").text)
    assert f"by process {OWNER.pid} on {OWNER.host} for" in text
