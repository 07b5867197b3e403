from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.results.report import Change, Presence
from models.processing.types import FindingScore
from worker.prior_comparison import classify_change, compare_finding

SCORES = st.floats(0, 1)


def said(value: float, *, present: bool, key: str = "cardiomegaly") -> FindingScore:
    return FindingScore(key, value, None, 0.5, present, ())


@given(SCORES, SCORES, st.floats(0.01, 0.99))
def test_turned_round_in_time_new_is_gone(now: float, then: float, threshold: float) -> None:
    there, was = now >= threshold, then >= threshold
    forth = classify_change(now, then, present_now=there, present_then=was)
    back = classify_change(then, now, present_now=was, present_then=there)
    mirrored = {Change.NEW: Change.GONE, Change.GONE: Change.NEW, Change.UNCHANGED: Change.UNCHANGED}
    assert back is mirrored[forth]
    if forth is not Change.UNCHANGED:
        assert there != was


@pytest.mark.parametrize(
    ("now", "then", "expected"),
    [
        (0.9, 0.1, Change.NEW),
        (0.1, 0.9, Change.GONE),
        (0.51, 0.49, Change.UNCHANGED),  # about the threshold
        (0.834, 0.499, Change.NEW),  # the odds rose fivefold
        (0.832, 0.499, Change.UNCHANGED),
        (0.99, 0.51, Change.UNCHANGED),  # more certain, and no more than that
        (1.0, 0.0, Change.NEW),
    ],
)
def test_what_counts_as_a_change(now: float, then: float, expected: Change) -> None:
    found = compare_finding(said(now, present=now >= 0.5), said(then, present=then >= 0.5))
    assert found is not None
    assert found.change is expected
    assert (found.score, found.presence is Presence.PRESENT) == (then, then >= 0.5)


def test_what_is_absent_in_both_is_not_compared_and_normal_is_no_finding() -> None:
    assert compare_finding(said(0.4, present=False), said(0.1, present=False)) is None
    assert (
        compare_finding(said(0.9, present=True, key="normal"), said(0.1, present=False, key="normal")) is None
    )
