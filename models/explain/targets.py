"""Targets of an explanation: the findings of a study, and the film for each."""

from __future__ import annotations

from models.processing.types import FindingScore, Prediction

#: Key of normality, which has no location on a film.
NORMAL = "normal"


def reported_findings(prediction: Prediction, limit: int) -> tuple[str, ...]:
    """Return the keys of the findings that get a heat map: the present ones, most certain first.

    Normality has no location and gets none; abnormality gets one.
    """
    present = [entry for entry in prediction.findings if entry.present and entry.key != NORMAL]
    present.sort(key=_certainty, reverse=True)
    return tuple(entry.key for entry in present[:limit])


def best_film(prediction: Prediction, key: str) -> int:
    """Return the position of the film on which a finding scores highest."""
    entry = next(entry for entry in prediction.findings if entry.key == key)
    return max(range(len(entry.film_scores)), key=entry.film_scores.__getitem__)


def _certainty(entry: FindingScore) -> float:
    return entry.score if entry.probability is None else entry.probability
