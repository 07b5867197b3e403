"""Worklist: studies with filter, search and sort order, one page at a time (keyset pagination).

Every page costs the same, also with 100,000 studies: a page starts after the last row of the page before it,
and nothing is counted but the states.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Engine, and_, exists, func, literal, or_, select

from dicom_node.runtime import logs
from dicom_node.store import database
from dicom_node.store.analysis_records import AnalysisRecords, FindingRecord
from dicom_node.store.audit import STUDY_IS_CONFIRMED, IndexQueries
from dicom_node.store.states import FileState, ResultState, StudyState
from dicom_node.store.tables import (
    catalogue,
    delivery,
    finding,
    instance,
    reading,
    result,
    study,
    study_note,
    study_tag,
)
from dicom_node.web.read_models.worklist_query import KEYS, Sort, WorklistQuery, filtered

PAGE_LENGTH: Final = 50
"""Number of studies on one page."""
MAX_THUMBNAILS: Final = 2
TOP_FINDINGS: Final = 3


class InvalidCursor(ValueError):
    """Error of a cursor that comes from no page of the list."""


@dataclass(frozen=True, slots=True)
class WorklistRow:
    """One study of the worklist; times in seconds since the epoch.

    Attributes
    ----------
    digest
        Hash of the Study Instance UID, which names the study in the log.
    images
        Numbers of the first images, at most `MAX_THUMBNAILS`.
    findings
        Findings above their threshold, at most `TOP_FINDINGS`: that of the query first, then by certainty.
    sex, age
        Patient's Sex, and age as AS value; empty unless patients are shown by name.
    tags
        Its tags, by name.
    notes
        Number of notes on it.
    blinded
        True when findings, deliveries, notes and tags are left out, because the reader reads it in a reader
        study.
    deliveries
        Number of its deliveries by state.
    """

    id: int
    digest: str
    patient: str
    description: str
    study_date: str
    views: str
    state: StudyState
    reason: str
    revision: int
    first_received_at: float
    last_received_at: float
    updated_at: float
    instances: int
    images: tuple[int, ...]
    normality: str
    findings: tuple[FindingRecord, ...]
    confirmed: bool
    sex: str = ""
    age: str = ""
    tags: tuple[str, ...] = ()
    notes: int = 0
    blinded: bool = False
    deliveries: Mapping[ResultState, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Worklist:
    """One page of the worklist.

    Attributes
    ----------
    states
        Number of studies by state, over all that the other conditions of the query leave.
    next, previous
        Cursors of the neighbouring pages; empty at the ends.
    """

    query: WorklistQuery
    states: Mapping[StudyState, int]
    rows: Sequence[WorklistRow]
    next: str
    previous: str

    @property
    def total(self) -> int:
        """Number of studies in any state."""
        return sum(self.states.values())


def read_worklist(engine: Engine, query: WorklistQuery) -> Worklist:
    """Query one page.

    Raises
    ------
    StorageFailed
        When the database does not answer.
    InvalidCursor
        When `after` or `before` is not a cursor of this list.
    """
    column, descending = KEYS[query.sort]
    backward = bool(query.before)
    statement = filtered(query)
    order = (column, study.c.id)
    falling = descending is not backward
    statement = statement.order_by(*(key.desc() if falling else key.asc() for key in order))
    with database.reading(engine) as connection:
        if query.after or query.before:
            position = _position(connection, query)
            statement = statement.where(_beyond(column, position, descending=falling))
        rows = list(connection.execute(statement.limit(PAGE_LENGTH + 1)).mappings())
        more = len(rows) > PAGE_LENGTH
        rows = rows[:PAGE_LENGTH]
        if backward:
            rows.reverse()
        ids = [row["id"] for row in rows]
        images = _images(connection, ids)
        deliveries = _deliveries(connection, ids)
        normality = _normality(connection, ids)
        is_confirmed = study.c.id.in_(ids) & STUDY_IS_CONFIRMED
        confirmed = set(connection.execute(select(study.c.id).where(is_confirmed)).scalars())
        tags = _tags(connection, ids)
        notes = _notes(connection, ids)
        states = _states(connection, query) if query.narrowed else None
    blinded = query.hidden.intersection(ids)
    present = AnalysisRecords(engine).present_findings([each for each in ids if each not in blinded])
    shown = [
        WorklistRow(
            **{name: row[name] for name in _COLUMNS},
            digest=logs.uid_hash(row["study_instance_uid"]),
            state=StudyState(row["state"]),
            patient=row["patient"] or "",
            description=row["description"] or "",
            study_date=row["study_date"] or "",
            views=row["views"] or "",
            instances=len(images.get(row["id"], ())),
            images=tuple(key for key, kept in images.get(row["id"], ()) if kept)[:MAX_THUMBNAILS],
            normality="" if row["id"] in blinded else normality.get(row["id"], ""),
            findings=tuple(
                sorted(present.get(row["id"], ()), key=lambda each: each.key != query.finding)[:TOP_FINDINGS]
            ),
            confirmed=row["id"] in confirmed,
            sex=row["patient_sex"] or "",
            age=row["patient_age"] or "",
            tags=() if row["id"] in blinded else tuple(tags.get(row["id"], ())),
            notes=0 if row["id"] in blinded else notes.get(row["id"], 0),
            blinded=row["id"] in blinded,
            deliveries={} if row["id"] in blinded else deliveries.get(row["id"], {}),
        )
        for row in rows
    ]
    moving = query.sort is Sort.CHANGED
    cursors = [_encode_cursor(row["sort_value"] if moving else None, row["id"]) for row in rows]
    further, nearer = (bool(query.before), more) if backward else (more, bool(query.after))
    return Worklist(
        query=query,
        states=IndexQueries(engine).study_counts() if states is None else states,
        rows=shown,
        next=cursors[-1] if further and cursors else "",
        previous=cursors[0] if nearer and cursors else "",
    )


_COLUMNS = ("id", "reason", "revision", "first_received_at", "last_received_at", "updated_at")


def read_study_uids(engine: Engine, query: WorklistQuery, limit: int) -> list[str]:
    """Return the Study Instance UIDs of all studies of a query that have films, in its order."""
    column, descending = KEYS[query.sort]
    films = exists().where(
        instance.c.study_id == study.c.id, instance.c.set_aside == "", instance.c.file_state == FileState.KEPT
    )
    statement = (
        filtered(query)
        .where(films.correlate(study))
        .order_by(*(key.desc() if descending else key.asc() for key in (column, study.c.id)))
    )
    with database.reading(engine) as connection:
        return [row.study_instance_uid for row in connection.execute(statement.limit(limit))]


def _states(connection: Connection, query: WorklistQuery) -> dict[StudyState, int]:
    """Return the number of studies by state that match a query apart from its state."""
    matching = filtered(replace(query, state=None, sort=Sort.CHANGED)).subquery()
    counts = select(matching.c.state, func.count()).group_by(matching.c.state)
    found = database.as_mapping(connection, counts)
    return {state: found.get(state, 0) for state in StudyState}


def _beyond(
    column: ColumnElement[Any], position: tuple[Any, int], *, descending: bool
) -> ColumnElement[bool]:
    value, key = literal(position[0], column.type), position[1]
    if descending:
        return or_(column < value, and_(column == value, study.c.id < key))
    return or_(column > value, and_(column == value, study.c.id > key))


def _position(connection: Connection, query: WorklistQuery) -> tuple[Any, int]:
    """Return the sort value and the study number that the page starts after.

    A cursor stands in an address, so it contains no name or date of a patient: only the study number and,
    when the list is sorted by change, the time of the change, which may be later by now. Other values are
    looked up.
    """
    value, key = _decode_cursor(query.after or query.before)
    if (value is not None) is not (query.sort is Sort.CHANGED):
        raise InvalidCursor
    if value is None:
        column, _ = KEYS[query.sort]
        joined = study.join(catalogue, catalogue.c.study_id == study.c.id, isouter=True)
        statement = select(column).select_from(joined).where(study.c.id == key)
        value = connection.execute(statement).scalar_one_or_none()
        if value is None:
            raise InvalidCursor
    return value, key


def _encode_cursor(value: float | None, key: int) -> str:
    return base64.urlsafe_b64encode(json.dumps([value, key]).encode()).decode().rstrip("=")


def _decode_cursor(cursor: str) -> tuple[float | None, int]:
    try:
        value, key = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (binascii.Error, ValueError, TypeError):
        raise InvalidCursor from None
    if type(key) is not int or not 0 < key < 2**31 or not isinstance(value, float | None):
        raise InvalidCursor
    if value is not None and not math.isfinite(value):
        raise InvalidCursor
    return value, key


def _images(connection: Connection, ids: Sequence[int]) -> dict[int, list[tuple[int, bool]]]:
    """Return by study the numbers of its images, and whether their files are kept."""
    found: dict[int, list[tuple[int, bool]]] = {}
    rows = connection.execute(
        select(instance.c.study_id, instance.c.id, instance.c.file_state)
        .where(instance.c.study_id.in_(ids), instance.c.set_aside == "")
        .order_by(instance.c.id)
    )
    for study_id, key, state in rows:
        found.setdefault(study_id, []).append((key, state == FileState.KEPT))
    return found


def _deliveries(connection: Connection, ids: Sequence[int]) -> dict[int, dict[ResultState, int]]:
    found: dict[int, dict[ResultState, int]] = {}
    rows = connection.execute(
        select(result.c.study_id, delivery.c.state, func.count())
        .join(delivery, delivery.c.result_id == result.c.id)
        .where(result.c.study_id.in_(ids))
        .group_by(result.c.study_id, delivery.c.state)
    )
    for study_id, state, count in rows:
        found.setdefault(study_id, {})[ResultState(state)] = count
    return found


def _tags(connection: Connection, ids: Sequence[int]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    query = select(study_tag.c.study_id, study_tag.c.tag).where(
        study_tag.c.study_id.in_(ids), study_tag.c.held
    )
    for study_id, tag in connection.execute(query.order_by(study_tag.c.tag)):
        found.setdefault(study_id, []).append(tag)
    return found


def _notes(connection: Connection, ids: Sequence[int]) -> dict[int, int]:
    found: dict[int, int] = database.as_mapping(
        connection,
        select(study_note.c.study_id, func.count())
        .where(study_note.c.study_id.in_(ids), study_note.c.text != "")
        .group_by(study_note.c.study_id),
    )
    return found


def _normality(connection: Connection, ids: Sequence[int]) -> dict[int, str]:
    newest: dict[int, str] = database.as_mapping(
        connection,
        select(reading.c.study_id, reading.c.normality)
        .where(reading.c.study_id.in_(ids), reading.c.model != "", reading.c.position == 0)
        .order_by(reading.c.revision),
    )
    return newest


def read_finding_names(engine: Engine) -> dict[str, str]:
    """Return the names of all findings of the newest analysis, by key, sorted by name."""
    newest = (
        select(func.max(reading.c.id)).where(reading.c.model != "", reading.c.position == 0).scalar_subquery()
    )
    with database.reading(engine) as connection:
        return database.as_mapping(
            connection,
            select(finding.c.key, finding.c.name)
            .where(finding.c.reading_id == newest)
            .order_by(finding.c.name),
        )
