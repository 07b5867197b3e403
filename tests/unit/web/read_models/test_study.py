"""Study page: everything besides findings, images and objects."""

from __future__ import annotations

import re

from dicom_node.store.analysis_records import (
    AnalysisRecord,
    FindingChangeRecord,
    FindingRecord,
    PriorComparisonRecord,
    WordWeightsRecord,
)
from dicom_node.store.states import StudyState
from tests.support.offline_node import OfflineNode

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
    assert "Previous study: 2025-03-04. New: Nodule. No longer present: Mass. Unchanged: Edema." in text


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
