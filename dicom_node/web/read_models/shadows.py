"""Comparison of shadow models with the model that is shown, over the studies that both have read."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from sqlalchemy import Connection, Engine, func, select

from dicom_node.config.served_models import ModelRole
from dicom_node.store import database
from dicom_node.store.analysis_records import FindingRecord
from dicom_node.store.tables import catalogue, feedback, finding, reading, study
from dicom_node.web.agreement import KappaEstimate, estimate_kappa
from dicom_node.web.read_models.routine_studies import is_routine

BINS: Final = 10
_MOST_STUDIES: Final = 5000
_Z: Final = 1.959964
_PRESENT: Final = "present"


@dataclass(frozen=True, slots=True)
class ComparedFinding:
    """Answers of two models on one finding.

    Attributes
    ----------
    studies
        Number of studies that both have read.
    present, shadow_present
        Share of them in which the finding is above its threshold.
    kappa
        Cohen's kappa of the two answers, above threshold or not; None when chance explains all.
    calibrated
        Whether both have certainties; otherwise scores are compared, which need not be on one scale.
    difference
        Mean of the shadow's certainty less the other's.
    low, high
        Limits of its 95 % interval, by the normal distribution; None for fewer than two studies.
    histogram, shadow_histogram
        Number of studies by certainty or score, from 0 to 1 in `BINS` bins.
    judged
        Number of studies in which a reader agreed or disagreed with the model that is shown.
    right, shadow_right
        Number of those in which each model answered as the reader.
    brier, shadow_brier
        Mean squared distance of the certainties from what the reader said, 0 at best; None where nothing
        was judged, or there is no certainty.
    """

    key: str
    name: str
    studies: int
    present: float
    shadow_present: float
    kappa: KappaEstimate | None
    calibrated: bool
    difference: float
    low: float | None
    high: float | None
    histogram: Sequence[int]
    shadow_histogram: Sequence[int]
    judged: int
    right: int
    shadow_right: int
    brier: float | None
    shadow_brier: float | None


@dataclass(frozen=True, slots=True)
class ShadowComparison:
    """Shadow model beside the model that is shown.

    Attributes
    ----------
    model, shadow
        Name and version of both.
    studies
        Number of studies that both have read.
    seconds, shadow_seconds
        Median time that each took for the films of a study; None where none was recorded.
    findings
        Findings that both know, by name.
    """

    model: str
    shadow: str
    studies: int
    seconds: float | None
    shadow_seconds: float | None
    findings: Sequence[ComparedFinding]


@dataclass(frozen=True, slots=True)
class _Pair:
    """Answers of both models to one study, by key, with what a reader said."""

    seconds: tuple[float | None, float | None]
    answers: dict[str, tuple[FindingRecord, FindingRecord]]
    truths: dict[str, bool]


def read_shadows(engine: Engine, days: int) -> list[ShadowComparison]:
    """Compare every shadow with the model that is shown, over the newest studies of some days.

    Films that were tried on the page are left out, and more than 5,000 studies.

    Parameters
    ----------
    days
        Largest age of an analysis.
    """
    shown, shadow = reading.alias("shown"), reading.alias("shadow")
    query = (
        select(shown.c.id, shadow.c.id.label("shadow_id"), shown.c.study_id, shown.c.revision)
        .add_columns(shadow.c.position, shown.c.model, shown.c.model_version)
        .add_columns(shadow.c.model.label("shadow_model"), shadow.c.model_version.label("shadow_version"))
        .join(shadow, (shadow.c.study_id == shown.c.study_id) & (shadow.c.revision == shown.c.revision))
        .join(study, (study.c.id == shown.c.study_id) & (study.c.revision == shown.c.revision))
        .join(catalogue, catalogue.c.study_id == shown.c.study_id)
        .where(
            shown.c.position == 0,
            shadow.c.role == ModelRole.SHADOW,
            shown.c.model != "",
            shown.c.created_at >= time.time() - days * 86400,
            is_routine(shown.c.study_id),
        )
        .order_by(shown.c.id.desc())
        .limit(_MOST_STUDIES)
    )
    with database.reading(engine) as connection:
        rows = connection.execute(query).all()
        answers = _findings(connection, [key for row in rows for key in (row.id, row.shadow_id)])
        truths = _truths(connection, [row.id for row in rows], answers)
        seconds = _seconds(connection, [key for row in rows for key in (row.id, row.shadow_id)])
    groups: dict[tuple[str, str], list[_Pair]] = defaultdict(list)
    for row in rows:
        first, second = answers.get(row.id, {}), answers.get(row.shadow_id, {})
        names = (f"{row.model} {row.model_version}", f"{row.shadow_model} {row.shadow_version}")
        groups[names].append(
            _Pair(
                (seconds.get(row.id), seconds.get(row.shadow_id)),
                {key: (first[key], second[key]) for key in first if key in second},
                truths.get(row.id, {}),
            )
        )
    return [_compare(*names, pairs) for names, pairs in sorted(groups.items())]


def _compare(model: str, shadow: str, pairs: Sequence[_Pair]) -> ShadowComparison:
    keys = {key: pair.answers[key][0].name for pair in pairs for key in pair.answers}
    return ShadowComparison(
        model=model,
        shadow=shadow,
        studies=len(pairs),
        seconds=_median([pair.seconds[0] for pair in pairs]),
        shadow_seconds=_median([pair.seconds[1] for pair in pairs]),
        findings=[
            _compare_finding(key, name, [pair for pair in pairs if key in pair.answers])
            for key, name in sorted(keys.items(), key=lambda item: item[1])
        ],
    )


def _compare_finding(key: str, name: str, pairs: Sequence[_Pair]) -> ComparedFinding:
    both = [pair.answers[key] for pair in pairs]
    calibrated = all(each.certainty is not None for pair in both for each in pair)
    values = np.array([[each.value if calibrated else each.score for each in pair] for pair in both])
    present = np.array([[each.presence == _PRESENT for each in pair] for pair in both])
    difference = values[:, 1] - values[:, 0]
    mean = float(difference.mean())
    margin = _Z * float(difference.std(ddof=1)) / len(both) ** 0.5 if len(both) > 1 else None
    judged = np.array([key in pair.truths for pair in pairs])
    truth = np.array([pair.truths.get(key, False) for pair in pairs])
    right = (present == truth[:, None]) & judged[:, None]
    brier = None
    if calibrated and judged.any():
        brier = ((values - truth[:, None]) ** 2)[judged].mean(axis=0)
    histograms = [np.histogram(values[:, column], BINS, (0, 1))[0].tolist() for column in (0, 1)]
    return ComparedFinding(
        key=key,
        name=name,
        studies=len(both),
        present=float(present[:, 0].mean()),
        shadow_present=float(present[:, 1].mean()),
        kappa=estimate_kappa(present[:, 0].tolist(), present[:, 1].tolist()),
        calibrated=calibrated,
        difference=mean,
        low=None if margin is None else mean - margin,
        high=None if margin is None else mean + margin,
        histogram=histograms[0],
        shadow_histogram=histograms[1],
        judged=int(judged.sum()),
        right=int(right[:, 0].sum()),
        shadow_right=int(right[:, 1].sum()),
        brier=None if brier is None else float(brier[0]),
        shadow_brier=None if brier is None else float(brier[1]),
    )


def _findings(connection: Connection, ids: Sequence[int]) -> dict[int, dict[str, FindingRecord]]:
    found: dict[int, dict[str, FindingRecord]] = defaultdict(dict)
    columns = [finding.c[name] for name in FindingRecord.__slots__]
    for block in _blocks(ids):
        query = select(finding.c.reading_id, *columns).where(finding.c.reading_id.in_(block))
        for key, *entry in connection.execute(query):
            record = FindingRecord(*entry)
            found[key][record.key] = record
    return found


def _truths(
    connection: Connection, ids: Sequence[int], answers: dict[int, dict[str, FindingRecord]]
) -> dict[int, dict[str, bool]]:
    """Return what most readers said of the findings of the model that is shown; ties are left out."""
    votes: dict[tuple[int, str], int] = defaultdict(int)
    for block in _blocks(ids):
        query = (
            select(feedback.c.reading_id, feedback.c.key, feedback.c.verdict, func.count())
            .where(feedback.c.reading_id.in_(block), feedback.c.verdict.in_(("agree", "disagree")))
            .group_by(feedback.c.reading_id, feedback.c.key, feedback.c.verdict)
        )
        for number, key, verdict, count in connection.execute(query):
            votes[number, key] += count if verdict == "agree" else -count
    found: dict[int, dict[str, bool]] = defaultdict(dict)
    for (number, key), vote in votes.items():
        if vote and key in answers.get(number, {}):
            found[number][key] = (answers[number][key].presence == _PRESENT) == (vote > 0)
    return found


def _seconds(connection: Connection, ids: Sequence[int]) -> dict[int, float | None]:
    found: dict[int, float | None] = {}
    for block in _blocks(ids):
        rows = connection.execute(select(reading.c.id, reading.c.seconds).where(reading.c.id.in_(block)))
        found |= {row.id: row.seconds for row in rows}
    return found


def _blocks(ids: Sequence[int], size: int = 500) -> list[Sequence[int]]:
    return [ids[start : start + size] for start in range(0, len(ids), size)]


def _median(values: Sequence[Any]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None
