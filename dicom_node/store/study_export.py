"""Export of the studies of a period: what the database holds of their analyses, deliveries and feedback."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Engine, Row, func, select

from dicom_node.store import database
from dicom_node.store.analysis_records import FindingRecord
from dicom_node.store.tables import delivery, feedback, finding, instance, reading, result, study

_BATCH: Final = 200
"""Studies that are held in memory at the same time."""
_NO_VERDICT: Final = "none"


@dataclass(frozen=True, slots=True)
class ExportedOpinion:
    """Opinion of a reader on a finding; `at` in seconds since the epoch."""

    key: str
    reader: str
    verdict: str
    comment: str
    at: float


@dataclass(frozen=True, slots=True)
class ExportedAnalysis:
    """Analysis of one revision of a study; `created_at` in seconds since the epoch."""

    revision: int
    created_at: float
    place: int
    role: str
    model: str
    model_version: str
    normality: str
    findings: tuple[FindingRecord, ...]
    opinions: tuple[ExportedOpinion, ...]


@dataclass(frozen=True, slots=True)
class ExportedStudy:
    """Study with its analyses, oldest first; times in seconds since the epoch.

    Attributes
    ----------
    first_received_at, last_received_at, completed_at
        Times of the present revision.
    films
        Number of films that were received and not set aside.
    file
        Name of the spool's file of the first film that is kept; empty when there is none.
    first_sent_at, last_sent_at
        Times at which destinations answered Success for results of the present revision, the first and the
        last; None when none did.
    """

    study_instance_uid: str
    state: str
    reason: str
    revision: int
    first_received_at: float
    last_received_at: float
    completed_at: float | None
    films: int
    file: str
    first_sent_at: float | None
    last_sent_at: float | None
    analyses: tuple[ExportedAnalysis, ...]


def export_studies(engine: Engine, since: float, until: float) -> Iterator[ExportedStudy]:
    """Yield the studies whose present revision began in a period, by the order of their receipt.

    All are of one snapshot of the database.

    Parameters
    ----------
    engine
        Engine of the index.
    since, until
        Begin and end of the period in seconds since the epoch; the end is not in it.

    Raises
    ------
    StorageFailed
        If the database does not answer.
    """
    chosen = (study.c.first_received_at >= since, study.c.first_received_at < until)
    with database.reading(engine) as connection:
        number = -1
        while rows := connection.execute(
            select(study).where(*chosen, study.c.id > number).order_by(study.c.id).limit(_BATCH)
        ).all():
            yield from _batch(connection, rows)
            number = rows[-1].id


def _batch(connection: Connection, rows: Sequence[Row[Any]]) -> Iterator[ExportedStudy]:
    numbers = [row.id for row in rows]
    films: dict[int, tuple[int, str]] = {}
    for study_id, file, file_state in connection.execute(
        select(instance.c.study_id, instance.c.file, instance.c.file_state)
        .where(instance.c.study_id.in_(numbers), instance.c.set_aside == "")
        .order_by(instance.c.id)
    ):
        count, first = films.get(study_id, (0, ""))
        films[study_id] = count + 1, first or (file if file_state == "KEPT" else "")
    sent = {
        (study_id, revision): (first, last)
        for study_id, revision, first, last in connection.execute(
            select(
                result.c.study_id,
                result.c.revision,
                func.min(delivery.c.sent_at),
                func.max(delivery.c.sent_at),
            )
            .join(delivery, delivery.c.result_id == result.c.id)
            .where(result.c.study_id.in_(numbers))
            .group_by(result.c.study_id, result.c.revision)
        )
    }
    analyses = _analyses(connection, numbers)
    for row in rows:
        count, file = films.get(row.id, (0, ""))
        first_sent, last_sent = sent.get((row.id, row.revision), (None, None))
        yield ExportedStudy(
            study_instance_uid=row.study_instance_uid,
            state=row.state,
            reason=row.reason,
            revision=row.revision,
            first_received_at=row.first_received_at,
            last_received_at=row.last_received_at,
            completed_at=row.completed_at,
            films=count,
            file=file,
            first_sent_at=first_sent,
            last_sent_at=last_sent,
            analyses=tuple(analyses.get(row.id, ())),
        )


def _analyses(connection: Connection, studies: Sequence[int]) -> dict[int, list[ExportedAnalysis]]:
    rows = connection.execute(
        select(reading)
        .where(reading.c.study_id.in_(studies))
        .order_by(reading.c.revision, reading.c.position)
    ).all()
    numbers = [row.id for row in rows]
    findings: dict[int, list[FindingRecord]] = {}
    for number, *entry in connection.execute(
        select(finding.c.reading_id, *(finding.c[name] for name in FindingRecord.__slots__))
        .where(finding.c.reading_id.in_(numbers))
        .order_by(finding.c.reading_id, finding.c.position)
    ):
        findings.setdefault(number, []).append(FindingRecord(*entry))
    opinions: dict[int, list[ExportedOpinion]] = {}
    # An opinion that was taken back stays as a row, which says nothing any more.
    held = (feedback.c.verdict != _NO_VERDICT) | (feedback.c.comment != "")
    for number, *entry in connection.execute(
        select(feedback.c.reading_id, *(feedback.c[name] for name in ExportedOpinion.__slots__))
        .where(feedback.c.reading_id.in_(numbers), held)
        .order_by(feedback.c.id)
    ):
        opinions.setdefault(number, []).append(ExportedOpinion(*entry))
    found: dict[int, list[ExportedAnalysis]] = {}
    for row in rows:
        found.setdefault(row.study_id, []).append(
            ExportedAnalysis(
                revision=row.revision,
                created_at=row.created_at,
                place=row.position,
                role=row.role,
                model=row.model,
                model_version=row.model_version,
                normality=row.normality,
                findings=tuple(findings.get(row.id, ())),
                opinions=tuple(opinions.get(row.id, ())),
            )
        )
    return found
