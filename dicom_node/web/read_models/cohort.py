"""Cohort statistics over all analyses: distribution and drift of scores, agreement of readers, turnaround.

Films that were tried on the page, or read although the gate refused them, are left out.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
from sqlalchemy import Connection, Engine, Integer, Select, case, cast, func, select

from dicom_node.config.served_models import ModelRole
from dicom_node.runtime import logs
from dicom_node.store import database
from dicom_node.store.states import StudyState
from dicom_node.store.tables import catalogue, feedback, finding, reading, study
from dicom_node.web.read_models.routine_studies import is_routine
from dicom_node.web.read_models.worklist import read_finding_names
from dicom_node.web.spreadsheets import csv_line
from dicom_node.web.templating import iso

BINS: Final = 20
_WEEK: Final = 7 * 86400
_MONDAY: Final = 4 * 86400
"""Seconds from the epoch to its first Monday, 1970-01-05."""
_MOST_TURNAROUNDS: Final = 5000
_MOST_STEPS: Final = 4
_MOST_THRESHOLDS: Final = 3
_CSV_COLUMNS: Final = (
    *("intended_use", "study", "revision", "analysed_at", "model", "model_version", "finding"),
    *("certainty", "score", "threshold", "presence", "manufacturer", "views"),
)


@dataclass(frozen=True, slots=True)
class Group:
    """Analyses of one week, manufacturer or view.

    Attributes
    ----------
    mean
        Mean certainty of the finding; mean score where it is not calibrated.
    present
        Share of analyses in which the finding is present.
    """

    name: str
    count: int
    mean: float
    present: float


@dataclass(frozen=True, slots=True)
class Agreement:
    """Opinions of readers on one finding."""

    name: str
    agree: int
    disagree: int


@dataclass(frozen=True, slots=True)
class Cohort:
    """Statistics over the analyses of the last days.

    Attributes
    ----------
    findings
        Name of each finding by key.
    thresholds
        Thresholds of the finding in these analyses, by name and version of the model; at most three, of the
        newest.
    histogram
        Number of analyses by certainty or score of the finding, from 0 to 1 in `BINS` bins.
    views
        By the set of the views of a study, in whatever order its films came.
    turnaround
        Seconds from the last image to the report, by name of the quantile.
    """

    finding: str
    days: int
    findings: Mapping[str, str]
    states: Mapping[StudyState, int]
    normality: Mapping[str, int]
    thresholds: Mapping[str, float]
    histogram: Sequence[int]
    weeks: Sequence[Group]
    manufacturers: Sequence[Group]
    views: Sequence[Group]
    agreements: Sequence[Agreement]
    turnaround: Mapping[str, float]

    @property
    def name(self) -> str:
        """Name of the finding that is shown."""
        return self.findings.get(self.finding, self.finding)

    @property
    def count_ticks(self) -> list[int]:
        """Numbers for the axis of the histogram: from 0 to its greatest count or a little more."""
        most = max(self.histogram, default=0) or 1
        step = next(
            size * 10**power
            for power in range(12)
            for size in (1, 2, 5)
            if size * 10**power * _MOST_STEPS >= most
        )
        return list(range(0, most + step, step))


def read_cohort(engine: Engine, key: str, days: int) -> Cohort:
    """Query the statistics.

    Parameters
    ----------
    key
        Key of the finding; empty for the first of all.
    days
        Largest age of an analysis.
    """
    findings = read_finding_names(engine)
    key = key or next(iter(findings), "")
    since = time.time() - days * 86400
    scores = _scores(key, since).subquery()
    with database.reading(engine) as connection:
        bin_number = _floor(connection, scores.c.value * BINS)
        week = _floor(connection, (scores.c.created_at - _MONDAY) / _WEEK)
        bins: dict[int, int] = database.as_mapping(
            connection, select(bin_number, func.count()).group_by(bin_number)
        )
        return Cohort(
            finding=key,
            days=days,
            findings=findings,
            states=_states(connection, since),
            normality=database.as_mapping(
                connection,
                _of_routine(select(reading.c.normality, func.count()).select_from(reading))
                .where(reading.c.created_at >= since, reading.c.model != "", reading.c.position == 0)
                .group_by(reading.c.normality),
            ),
            thresholds=_thresholds(connection, scores),
            histogram=[
                bins.get(number, 0) + (bins.get(BINS, 0) if number == BINS - 1 else 0)
                for number in range(BINS)
            ],
            weeks=[Group(_monday(number), *rest) for number, *rest in _groups(connection, scores, week)],
            manufacturers=[
                Group(name or "unknown", *rest)
                for name, *rest in _groups(connection, scores, scores.c.manufacturer)
            ],
            views=_view_sets(_groups(connection, scores, scores.c.views)),
            agreements=_agreements(connection, findings, since),
            turnaround=_turnaround(connection, since),
        )


def _scores(key: str, since: float) -> Select[Any]:
    """Return the query of the values of a finding, each with its analysis and the headers of its study."""
    value = func.coalesce(finding.c.certainty, finding.c.score)
    return _of_routine(
        select(finding, reading.c.created_at, value.label("value"))
        .add_columns(reading.c.study_id, reading.c.revision, reading.c.model, reading.c.model_version)
        .add_columns(catalogue.c.manufacturer, catalogue.c.views)
        .join(reading, finding.c.reading_id == reading.c.id)
        .where(finding.c.key == key, reading.c.created_at >= since, reading.c.position == 0)
    )


def cohort_csv(engine: Engine, key: str, days: int) -> Iterator[str]:
    """Yield the analyses behind the statistics of one finding as lines of CSV, the oldest first.

    Parameters
    ----------
    key, days
        As for :func:`read_cohort`.
    """
    key = key or next(iter(read_finding_names(engine)), "")
    scores = _scores(key, time.time() - days * 86400).subquery()
    query = select(study.c.study_instance_uid, scores).join(scores, scores.c.study_id == study.c.id)
    yield csv_line(_CSV_COLUMNS)
    with database.reading(engine) as connection:
        for row in connection.execute(query.order_by(scores.c.created_at, scores.c.id)):
            yield csv_line(
                (
                    *("research use only", logs.uid_hash(row.study_instance_uid), row.revision),
                    *(iso(row.created_at), row.model, row.model_version, row.key),
                    *(row.certainty, row.score, row.threshold, row.presence),
                    *(row.manufacturer, ", ".join(_views(row.views))),
                )
            )


def _thresholds(connection: Connection, scores: Any) -> dict[str, float]:
    query = (
        select(scores.c.model, scores.c.model_version, func.max(scores.c.threshold))
        .group_by(scores.c.model, scores.c.model_version)
        .order_by(func.max(scores.c.reading_id).desc())
        .limit(_MOST_THRESHOLDS)
    )
    return {f"{model} {version}": value for model, version, value in connection.execute(query)}


def _views(listed: str) -> list[str]:
    """Return the set of views of a study, sorted."""
    return sorted({view for view in (each.strip() for each in listed.split(",")) if view})


def _view_sets(groups: Sequence[Any]) -> list[Group]:
    """Join the groups of the same views in another order."""
    joined: dict[str, list[Any]] = {}
    for listed, *rest in groups:
        joined.setdefault(" + ".join(_views(listed)) or "unknown", []).append(rest)
    found = []
    for name, parts in sorted(joined.items()):
        count = sum(part[0] for part in parts)
        mean, present = (sum(part[0] * part[which] for part in parts) / count for which in (1, 2))
        found.append(Group(name, count, mean, present))
    return found


def _of_routine(query: Select[Any]) -> Select[Any]:
    """Leave out films that were tried on the page, and those that the gate refused."""
    return query.join(catalogue, catalogue.c.study_id == reading.c.study_id).where(
        is_routine(reading.c.study_id)
    )


def _floor(connection: Connection, number: Any) -> Any:
    # SQLite is often built without floor(), but its cast truncates, that of PostgreSQL rounds. No number here
    # is negative, so truncation equals floor.
    return cast(number if connection.dialect.name == "sqlite" else func.floor(number), Integer)


def _groups(connection: Connection, scores: Any, column: Any) -> Sequence[Any]:
    present = func.avg(case((scores.c.presence == "present", 1.0), else_=0.0))
    return connection.execute(
        select(column, func.count(), func.avg(scores.c.value), present).group_by(column).order_by(column)
    ).all()


def _monday(week: int) -> str:
    return datetime.fromtimestamp(week * _WEEK + _MONDAY, UTC).strftime("%Y-%m-%d")


def _states(connection: Connection, since: float) -> dict[StudyState, int]:
    query = (
        select(study.c.state, func.count()).where(study.c.last_received_at >= since).group_by(study.c.state)
    )
    found = database.as_mapping(connection, query)
    return {state: found.get(state, 0) for state in StudyState}


def _agreements(connection: Connection, findings: Mapping[str, str], since: float) -> list[Agreement]:
    counts: dict[str, dict[str, int]] = {}
    for key, verdict, count in connection.execute(
        select(feedback.c.key, feedback.c.verdict, func.count())
        .join(reading, reading.c.id == feedback.c.reading_id)
        .where(
            feedback.c.at >= since,
            feedback.c.verdict.in_(("agree", "disagree")),
            reading.c.role == ModelRole.PRIMARY,
        )
        .group_by(feedback.c.key, feedback.c.verdict)
    ):
        counts.setdefault(key, {})[verdict] = count
    return [
        Agreement(findings.get(key, key), each.get("agree", 0), each.get("disagree", 0))
        for key, each in sorted(counts.items())
    ]


def _turnaround(connection: Connection, since: float) -> dict[str, float]:
    seconds = (
        connection.execute(
            _of_routine(
                select(reading.c.created_at - study.c.last_received_at)
                .select_from(reading)
                .join(study, study.c.id == reading.c.study_id)
            )
            .where(
                reading.c.created_at >= since,
                reading.c.revision == study.c.revision,
                reading.c.position == 0,
            )
            .order_by(reading.c.id.desc())
            .limit(_MOST_TURNAROUNDS)
        )
        .scalars()
        .all()
    )
    if not seconds:
        return {}
    quantiles = np.percentile(seconds, [50, 90, 99])
    return dict(zip(("median", "90 %", "99 %"), map(float, quantiles), strict=True))
