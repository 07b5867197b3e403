"""What the page of a study says besides findings, images and objects."""

from __future__ import annotations

import re

from dicom_node.store.analysis_records import KeptChange, KeptFinding, KeptPrior, KeptReading, KeptWords
from dicom_node.store.states import StudyState
from tests.support.web_node import StillNode

FINDINGS = tuple(
    KeptFinding(key, name, 0.7, 0.7, 0.5, "present")
    for key, name in (("nodule", "Nodule"), ("mass", "Mass"), ("edema", "Edema"))
)


def shown(node: StillNode, *, prior: KeptPrior | None = None, words: tuple[KeptWords, ...] = ()) -> str:
    reading = KeptReading("tiny", "1", (), "absent", FINDINGS, (), prior=prior, words=words)
    node.finish(1, StudyState.REPORTED, reading=reading)
    with node.browser() as client:
        text = client.get("/studies/1").text
    return re.sub(r"\s+", " ", text)


def test_what_changed_since_the_previous_film_is_said(node: StillNode) -> None:
    changes = (
        KeptChange("nodule", 0.1, 0.1, "absent", "new"),
        KeptChange("mass", 0.8, 0.8, "present", "gone"),
        KeptChange("edema", 0.7, 0.7, "present", "unchanged"),
    )
    text = re.sub(r"<[^>]+>", "", shown(node, prior=KeptPrior("1.2.3", "20250304", "", changes)))
    assert "Of 2025-03-04. New: Nodule. No longer present: Mass. Unchanged: Edema." in text


def test_why_nothing_was_compared_is_said(node: StillNode) -> None:
    assert "Nothing was compared: the study names no Patient ID." in shown(
        node, prior=KeptPrior("", "", "the study names no Patient ID")
    )


def test_words_are_shown_by_what_they_add_and_stay_text(node: StillNode) -> None:
    words = KeptWords("mass", (("cough", 0.9), ("<b>", -0.5), ("of", 0.1), ("it", 0.0)))
    text = shown(node, words=(words,))
    assert 'class="speaks-for-3" title="+0.900">cough<' in text
    assert 'class="speaks-against-2" title="-0.500">&lt;b&gt;<' in text
    assert 'class="speaks-for-1" title="+0.100">of<' in text
    assert 'class="speaks-against-0" title="+0.000">it<' in text


def test_words_that_add_nothing_are_shown(node: StillNode) -> None:
    assert ">cough<" in shown(node, words=(KeptWords("mass", (("cough", 0.0),)),))


def test_without_either_nothing_of_them_is_said(node: StillNode) -> None:
    text = shown(node)
    assert "previous film" not in text
    assert "Words of the text" not in text
