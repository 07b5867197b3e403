"""Drift of scores: whether the scores of the last days come from another distribution than those before.

Each finding is tested by the two-sample Kolmogorov-Smirnov test, the last `RECENT_DAYS` against the
`REFERENCE_DAYS` before them, and the p-values of all findings are corrected together by Holm's method. Only
analyses of the model version of the newest analysis count, so that a new model is no drift; films that were
tried on the page, or read although the gate refused them, do not.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Engine, func, select

from dicom_node.store import database
from dicom_node.store.tables import catalogue, finding, reading
from dicom_node.web.read_models.routine_studies import is_routine

_LOG = logging.getLogger(__name__)

RECENT_DAYS: Final = 30
REFERENCE_DAYS: Final = 90
LEAST_ANALYSES: Final = 20
"""Least number of analyses in either window; with fewer a finding is not tested."""
LEVEL: Final = 0.05
"""Corrected p-value below which a finding is said to drift."""
MOST_STEPS: Final = 12
"""Most weeks that are gone back to find the beginning of a drift."""
_MOST_ANALYSES: Final = 20_000
_DAY: Final = 86400.0
_WEEK: Final = 7 * _DAY

Scores: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class FindingDrift:
    """Test of one finding.

    Attributes
    ----------
    recent, reference
        Number of analyses in the two windows.
    distance
        Greatest distance of the two empirical distribution functions, 0 to 1.
    p, corrected
        p-value, and p-value corrected over all tested findings (Holm 1979).
    since
        Day (YYYY-MM-DD, UTC) of the first of the consecutive weekly tests that found it to drift, at most
        `MOST_STEPS` weeks ago; empty when it does not drift.
    """

    key: str
    name: str
    recent: int
    reference: int
    median_recent: float
    median_reference: float
    distance: float
    p: float
    corrected: float
    since: str

    @property
    def drifts(self) -> bool:
        """Whether the test finds it to drift."""
        return self.corrected < LEVEL


@dataclass(frozen=True, slots=True)
class ScoreDrift:
    """Tests of all findings, the least p-value first.

    Attributes
    ----------
    model
        Name and version of the model whose scores were tested; empty without an analysis.
    untested
        Number of findings of the model with too few analyses.
    """

    model: str
    findings: Sequence[FindingDrift]
    untested: int

    @property
    def drifting(self) -> list[FindingDrift]:
        """Findings that drift."""
        return [each for each in self.findings if each.drifts]


class DriftWatch:
    """Repeated test, which says in the log when the scores of a finding begin to drift, and when they end.

    Parameters
    ----------
    engine
        Database of the index.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._known: dict[str, str] = {}

    def run(self) -> ScoreDrift:
        """Test all findings now."""
        found = read_drift(self._engine, time.time())
        drifting = {each.key: each for each in found.drifting}
        for key in sorted(drifting.keys() - self._known):
            each = drifting[key]
            _LOG.warning(
                "the scores of %s (%s) have drifted since %s: D = %.2f, corrected p = %.2g",
                *(each.name, found.model, each.since, each.distance, each.corrected),
            )
        for key in sorted(self._known - drifting.keys()):
            _LOG.info("the scores of %s no longer drift", self._known[key])
        self._known = {key: each.name for key, each in drifting.items()}
        return found


def read_drift(engine: Engine, now: float) -> ScoreDrift:
    """Query the scores and test every finding; `now` in seconds since the epoch.

    Raises
    ------
    StorageFailed
        When the database does not answer.
    """
    model, names, samples = _read(engine, now)
    tests = _tested(samples, now)
    steps = [tests]
    while len(steps) <= MOST_STEPS and any(_drifts(each) for each in steps[-1].values()):
        steps.append(_tested(samples, now - len(steps) * _WEEK))
    found = [
        FindingDrift(key, names[key], *each, since=_since(key, steps, now) if _drifts(each) else "")
        for key, each in tests.items()
    ]
    found.sort(key=lambda each: (each.p, each.name))
    return ScoreDrift(model, found, len(names) - len(found))


def ks_distance(one: Scores, other: Scores) -> float:
    """Return the greatest distance of two empirical distribution functions, of samples that are sorted."""
    places = np.concatenate([one, other])
    shares = [np.searchsorted(each, places, side="right") / len(each) for each in (one, other)]
    return float(np.abs(shares[0] - shares[1]).max())


def ks_p_value(distance: float, n: int, m: int) -> float:
    """Return the two-sided p-value of a Kolmogorov-Smirnov distance of samples of `n` and `m` values.

    It is Kolmogorov's limit, which is a little too great for small samples of unequal size.
    """
    scaled = math.sqrt(n * m / (n + m)) * distance
    if scaled < 0.2:  # noqa: PLR2004 - the series converges slowly where its sum is 1
        return 1.0
    terms = (2.0 * (-1.0) ** (k - 1) * math.exp(-2 * (k * scaled) ** 2) for k in range(1, 101))
    return min(1.0, max(0.0, math.fsum(terms)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number by Holm's step-down method (1979), in the given order."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    corrected, greatest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        greatest = max(greatest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = greatest
    return corrected


_Test: TypeAlias = tuple[int, int, float, float, float, float, float]
"""Fields of :class:`FindingDrift` from `recent` to `corrected`."""


def _drifts(test: _Test) -> bool:
    return test[-1] < LEVEL


def _tested(samples: Mapping[str, tuple[Scores, Scores]], now: float) -> dict[str, _Test]:
    """Test the findings with enough analyses before a time."""
    found: dict[str, tuple[int, int, float, float, float, float]] = {}
    for key, (times, scores) in samples.items():
        border, begin = now - RECENT_DAYS * _DAY, now - (RECENT_DAYS + REFERENCE_DAYS) * _DAY
        recent = np.sort(scores[(times > border) & (times <= now)])
        before = np.sort(scores[(times > begin) & (times <= border)])
        if min(len(recent), len(before)) < LEAST_ANALYSES:
            continue
        distance = ks_distance(recent, before)
        p = ks_p_value(distance, len(recent), len(before))
        medians = float(np.median(recent)), float(np.median(before))
        found[key] = (len(recent), len(before), *medians, distance, p)
    corrected = holm([each[-1] for each in found.values()])
    return {key: (*each, right) for (key, each), right in zip(found.items(), corrected, strict=True)}


def _since(key: str, steps: Sequence[Mapping[str, _Test]], now: float) -> str:
    weeks = 0
    while weeks + 1 < len(steps) and key in steps[weeks + 1] and _drifts(steps[weeks + 1][key]):
        weeks += 1
    return datetime.fromtimestamp(now - weeks * _WEEK, UTC).strftime("%Y-%m-%d")


def _read(engine: Engine, now: float) -> tuple[str, dict[str, str], dict[str, tuple[Scores, Scores]]]:
    """Return the newest model, the names of its findings, and times and scores of each finding."""
    since = now - (RECENT_DAYS + REFERENCE_DAYS) * _DAY - MOST_STEPS * _WEEK
    newest = (
        select(reading.c.model, reading.c.model_version)
        .where(reading.c.model != "", reading.c.position == 0)
        .order_by(reading.c.id.desc())
        .limit(1)
    )
    with database.reading(engine) as connection:
        row = connection.execute(newest).one_or_none()
        if row is None:
            return "", {}, {}
        analyses = (
            select(reading.c.id, reading.c.created_at)
            .join(catalogue, catalogue.c.study_id == reading.c.study_id)
            .where(
                reading.c.model == row.model,
                reading.c.model_version == row.model_version,
                reading.c.created_at >= since,
                reading.c.position == 0,
                is_routine(reading.c.study_id),
            )
            .order_by(reading.c.id.desc())
            .limit(_MOST_ANALYSES)
            .subquery()
        )
        value: Any = func.coalesce(finding.c.certainty, finding.c.score)
        query = select(finding.c.key, finding.c.name, analyses.c.created_at, value).join(
            analyses, analyses.c.id == finding.c.reading_id
        )
        names: dict[str, str] = {}
        listed: dict[str, tuple[list[float], list[float]]] = {}
        for key, name, at, score in connection.execute(query):
            names[key] = name
            times, scores = listed.setdefault(key, ([], []))
            times.append(at)
            scores.append(score)
    samples = {key: (np.array(times), np.array(scores)) for key, (times, scores) in listed.items()}
    return f"{row.model} {row.model_version}", names, samples
