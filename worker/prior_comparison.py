"""Comparison with the prior study: which findings of the same model are new, gone or unchanged.

A finding counts as new, or as gone, if both are true:

* the answer crossed the label's threshold, and
* its odds changed at least fivefold.

A likelihood ratio of five or more changes a probability by more than a little (Jaeschke, Guyatt, Sackett:
Users' guides to the medical literature III, JAMA 1994;271:703-7). Without the second condition a finding
whose scores lie near the threshold would appear and disappear with the patient's position:
``tests/bench/repeated_films.py`` measures this. A change of certainty alone says nothing about the size of
a finding, and counts as no change.
"""

from __future__ import annotations

from dicom_node.results.report import Change, Presence, PriorAnswer
from models.explain.targets import NORMAL
from models.processing.types import FindingScore

ODDS_RATIO = 5.0
"""Smallest ratio of the odds that counts as a change."""


def compare_finding(now: FindingScore, then: FindingScore) -> PriorAnswer | None:
    """Compare one label's answers; None when it is absent in both, or is the label "normal".

    Parameters
    ----------
    now, then
        Answers of the same bundle to the current and to the prior study.
    """
    if not (now.present or then.present) or now.key == NORMAL:
        return None
    return PriorAnswer(
        certainty=then.probability,
        score=then.score,
        presence=Presence.PRESENT if then.present else Presence.ABSENT,
        change=classify_change(_value(now), _value(then), present_now=now.present, present_then=then.present),
    )


def classify_change(now: float, then: float, *, present_now: bool, present_then: bool) -> Change:
    """Return whether a finding is new, gone or unchanged.

    Parameters
    ----------
    now, then
        Certainties in [0, 1], or scores in [0, 1], of the current and of the prior study.
    present_now, present_then
        Whether the answer reaches the label's threshold.
    """
    if present_now == present_then:
        return Change.UNCHANGED
    more, less = (now, then) if present_now else (then, now)
    if more * (1 - less) < ODDS_RATIO * less * (1 - more):
        return Change.UNCHANGED
    return Change.NEW if present_now else Change.GONE


def _value(entry: FindingScore) -> float:
    return entry.score if entry.probability is None else entry.probability
