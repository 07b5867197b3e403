"""No word of a label gets through, however the report is written."""

from __future__ import annotations

import re

from hypothesis import example, given
from hypothesis import strategies as st

from models.labels.vocabulary import load_vocabulary
from models.text.study_text import scrub

VOCABULARY = load_vocabulary()
LABELS = VOCABULARY.labels.values()

#: Put together here a second time and more simply: what must not be left, in lower case.
TERMS = sorted(
    {
        " ".join(part.casefold().split())
        for label in LABELS
        for part in (
            *label.name.replace("(abnormal)", "").split(" and "),
            *label.synonyms,
            *(rule.heading for rule in label.mesh if rule.qualifier is None),
        )
    }
)
GAPS = (" ", "  ", "\n", ", ", ". ", "-", "/", "; ", ": ", "_")
WORDS = ("no", "not", "without", "evidence", "of", "the", "is", "mild", "left", "bone", "pulmonary",
         "disease", "seen", "or", "and", "lung", "\0", "tube", "air", "1.", "?", "but")  # fmt: skip


@st.composite
def reports(draw: st.DrawFn) -> str:
    """Terms and other words, in any case and with any blanks and stops between them."""
    parts = draw(st.lists(st.sampled_from(TERMS) | st.sampled_from(WORDS), max_size=25))
    gaps = draw(st.lists(st.sampled_from(GAPS), min_size=len(parts)))
    cases = draw(st.lists(st.sampled_from([str.upper, str.title, str.lower]), min_size=len(parts)))
    return "".join(case(part) + gap for part, gap, case in zip(parts, gaps, cases, strict=False))


def survivors(text: str) -> list[str]:
    return [term for term in TERMS if re.search(rf"(?<![a-z0-9]){re.escape(term)}(?![a-z0-9])", text)]


@given(reports())
@example("Rib pneumonia fracture")
@example("No mass_normal\0heart, or edema")
def test_no_term_survives_and_scrubbing_again_changes_nothing(report: str):
    left = scrub(report, VOCABULARY)
    assert not survivors(" ".join(re.split(r"[\s_/-]+", left.casefold())))
    assert scrub(left, VOCABULARY) == left
    assert "\0" not in left
    assert len(left) <= len(report)


@given(st.text())
def test_any_text_can_be_scrubbed(text: str):
    left = scrub(text, VOCABULARY)
    assert scrub(left, VOCABULARY) == left
