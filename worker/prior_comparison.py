"""How the same model's answers to two films of one patient compare, and when a difference counts.

A finding counts as new, or as gone, when both are so:

* the answer crossed the label's threshold, and
* its odds changed at least fivefold.

Likelihood ratios from five on move a probability by more than a little (Jaeschke, Guyatt, Sackett: Users'
guides to the medical literature III, JAMA 1994;271:703-7). Without the second condition a finding whose
scores lie about the threshold comes and goes with the noise of positioning:
``tests/bench/repeated_films.py`` measures it. How much more certain the model became says nothing of how
large or how clear a finding is, and is no change.
"""

from __future__ import annotations

from dicom_node.results.report import Change, Earlier, Presence
from models.explain.targets import NORMAL
from models.processing.types import FindingScore

ODDS_RATIO = 5.0


def compare(now: FindingScore, then: FindingScore) -> Earlier | None:
    """Compare one label's answers; None when it is absent in both, or is no finding.

    Parameters
    ----------
    now, then
        Of the same bundle, so on the same scale.
    """
    if not (now.present or then.present) or now.key == NORMAL:
        return None
    return Earlier(
        certainty=then.probability,
        score=then.score,
        presence=Presence.PRESENT if then.present else Presence.ABSENT,
        change=change(_value(now), _value(then), present_now=now.present, present_then=then.present),
    )


def change(now: float, then: float, *, present_now: bool, present_then: bool) -> Change:
    """Return what became of a finding.

    Parameters
    ----------
    now, then
        In [0, 1], on one scale.
    """
    if present_now == present_then:
        return Change.UNCHANGED
    more, less = (now, then) if present_now else (then, now)
    if more * (1 - less) < ODDS_RATIO * less * (1 - more):
        return Change.UNCHANGED
    return Change.NEW if present_now else Change.GONE


def _value(entry: FindingScore) -> float:
    return entry.score if entry.probability is None else entry.probability
