"""The list of studies: filtered, searched, sorted, one page at a time by the key of its last row.

A page costs the same wherever it lies, and the first one of 100,000 studies is there at once: nothing is
counted but the states.
"""

from __future__ import annotations

import base64
import binascii
import enum
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Engine, Select, and_, exists, func, literal, or_, select

from dicom_node.config.sections import AnyDestination
from dicom_node.runtime import logs
from dicom_node.store import database
from dicom_node.store.analysis_records import KeptFinding, Readings
from dicom_node.store.audit import Overview
from dicom_node.store.delivery_queue import Backlog, Outbox
from dicom_node.store.states import DELIVERED, ResultState, StudyState
from dicom_node.store.tables import catalogue, delivery, finding, instance, reading, result, study

PAGE_LENGTH: Final = 50
"""Studies on one page."""
THUMBNAILS: Final = 2
TOP_FINDINGS: Final = 3


class Sort(enum.StrEnum):
    """What the list is sorted by."""

    CHANGED = "changed"  # last changed first
    ARRIVED = "arrived"  # last arrived first
    PATIENT = "patient"  # A to Z
    DATE = "date"  # latest study date first


_KEYS: Mapping[Sort, tuple[ColumnElement[Any], bool]] = {
    Sort.CHANGED: (study.c.updated_at, True),
    Sort.ARRIVED: (study.c.id, True),
    Sort.PATIENT: (catalogue.c.patient, False),
    Sort.DATE: (catalogue.c.study_date, True),
}
"""The column, and whether the greatest comes first."""


class WrongPlace(ValueError):
    """A place in the list that no page handed out."""


@dataclass(frozen=True, slots=True)
class Query:
    """What is wanted of the list.

    Attributes
    ----------
    state
        Only studies in this state; all when None.
    text
        Words that all have to stand in what a study may be found by.
    finding
        Key of a finding that has to be present; empty for any.
    after, before
        Place in the list, from :attr:`Worklist.next` or :attr:`Worklist.previous`; empty for its start.
    """

    state: StudyState | None = None
    text: str = ""
    finding: str = ""
    sort: Sort = Sort.CHANGED
    after: str = ""
    before: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """One study of the list; times in seconds since the epoch.

    Attributes
    ----------
    digest
        What the study is called in the log.
    images
        Numbers of the first images.
    findings
        The most certain present ones.
    deliveries
        Of all its results, by state.
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
    findings: tuple[KeptFinding, ...]
    deliveries: Mapping[ResultState, int] = field(default_factory=dict)

    @property
    def confirmed(self) -> bool:
        """Whether every destination confirmed every result."""
        return set(self.deliveries) == {ResultState.CONFIRMED}


@dataclass(frozen=True, slots=True)
class Worklist:
    """One page of studies.

    Attributes
    ----------
    states
        All studies by state, whatever is shown of them.
    next, previous
        Places of the neighbouring pages; empty at the ends.
    """

    query: Query
    states: Mapping[StudyState, int]
    lines: Sequence[Line]
    next: str
    previous: str

    @property
    def total(self) -> int:
        """All studies, whatever is shown of them."""
        return sum(self.states.values())


def read_worklist(engine: Engine, query: Query) -> Worklist:
    """Ask the index for one page.

    Raises
    ------
    StorageFailed
        When the database does not answer.
    WrongPlace
        When `after` or `before` is no place in a list.
    """
    column, falling = _KEYS[query.sort]
    backward = bool(query.before)
    wanted = _filtered(query)
    order = (column, study.c.id)
    wanted = wanted.order_by(*(key.desc() if falling is not backward else key.asc() for key in order))
    with database.reading(engine) as connection:
        if query.after or query.before:
            place = _place(connection, query)
            wanted = wanted.where(_beyond(column, place, falling=falling is not backward))
        rows = list(connection.execute(wanted.limit(PAGE_LENGTH + 1)).mappings())
        more = len(rows) > PAGE_LENGTH
        rows = rows[:PAGE_LENGTH]
        if backward:
            rows.reverse()
        ids = [row["id"] for row in rows]
        images = _images(connection, ids)
        deliveries = _deliveries(connection, ids)
        normality = _normality(connection, ids)
    present = Readings(engine).present(ids)
    lines = [
        Line(
            **{name: row[name] for name in _COLUMNS},
            digest=logs.short(row["study_instance_uid"]),
            state=StudyState(row["state"]),
            patient=row["patient"] or "",
            description=row["description"] or "",
            study_date=row["study_date"] or "",
            views=row["views"] or "",
            instances=len(images.get(row["id"], ())),
            images=tuple(images.get(row["id"], ())[:THUMBNAILS]),
            normality=normality.get(row["id"], ""),
            findings=tuple(present.get(row["id"], ())[:TOP_FINDINGS]),
            deliveries=deliveries.get(row["id"], {}),
        )
        for row in rows
    ]
    moving = query.sort is Sort.CHANGED
    places = [_encoded(row["place"] if moving else None, row["id"]) for row in rows]
    further, nearer = (bool(query.before), more) if backward else (more, bool(query.after))
    return Worklist(
        query=query,
        states=Overview(engine).study_counts(),
        lines=lines,
        next=places[-1] if further and places else "",
        previous=places[0] if nearer and places else "",
    )


_COLUMNS = ("id", "reason", "revision", "first_received_at", "last_received_at", "updated_at")


def _filtered(query: Query) -> Select[Any]:
    column, _ = _KEYS[query.sort]
    headers = (catalogue.c.patient, catalogue.c.description, catalogue.c.study_date, catalogue.c.views)
    # Where the list is sorted by a header, an index gives the order only if every row has one.
    outer = query.sort in (Sort.CHANGED, Sort.ARRIVED) and not query.text
    joined = study.join(catalogue, catalogue.c.study_id == study.c.id, isouter=outer)
    found = select(study, *headers, column.label("place")).select_from(joined)
    if query.state is not None:
        found = found.where(study.c.state == query.state)
    for word in query.text.casefold().split():
        found = found.where(catalogue.c.search.contains(word, autoescape=True))
    if query.finding:
        # Two looks into an index for each study, until the page is full.
        present = (
            exists()
            .where(
                reading.c.study_id == study.c.id,
                reading.c.revision == study.c.revision,
                finding.c.reading_id == reading.c.id,
                finding.c.key == query.finding,
                finding.c.presence == "present",
            )
            .correlate(study)
        )
        found = found.where(present)
    return found


def _beyond(column: ColumnElement[Any], place: tuple[Any, int], *, falling: bool) -> ColumnElement[bool]:
    value, key = literal(place[0], column.type), place[1]
    if falling:
        return or_(column < value, and_(column == value, study.c.id < key))
    return or_(column > value, and_(column == value, study.c.id > key))


def _place(connection: Connection, query: Query) -> tuple[Any, int]:
    """Return the value and the number that the list goes on from.

    A place names its study, and of its values only the time of a change, which moves on meanwhile: names and
    dates of patients have no place in an address.
    """
    value, key = _decoded(query.after or query.before)
    if (value is not None) is not (query.sort is Sort.CHANGED):
        raise WrongPlace
    if value is None:
        column, _ = _KEYS[query.sort]
        joined = study.join(catalogue, catalogue.c.study_id == study.c.id, isouter=True)
        looked_up = select(column).select_from(joined).where(study.c.id == key)
        value = connection.execute(looked_up).scalar_one_or_none()
        if value is None:
            raise WrongPlace
    return value, key


def _encoded(value: float | None, key: int) -> str:
    return base64.urlsafe_b64encode(json.dumps([value, key]).encode()).decode().rstrip("=")


def _decoded(place: str) -> tuple[float | None, int]:
    try:
        value, key = json.loads(base64.urlsafe_b64decode(place + "=" * (-len(place) % 4)))
    except (binascii.Error, ValueError, TypeError):
        raise WrongPlace from None
    if type(key) is not int or not isinstance(value, float | None):
        raise WrongPlace
    return value, key


def _images(connection: Connection, ids: Sequence[int]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    rows = connection.execute(
        select(instance.c.study_id, instance.c.id)
        .where(instance.c.study_id.in_(ids), instance.c.set_aside == "")
        .order_by(instance.c.id)
    )
    for study_id, key in rows:
        found.setdefault(study_id, []).append(key)
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


def _normality(connection: Connection, ids: Sequence[int]) -> dict[int, str]:
    newest: dict[int, str] = database.pairs(
        connection,
        select(reading.c.study_id, reading.c.normality)
        .where(reading.c.study_id.in_(ids), reading.c.model != "")
        .order_by(reading.c.revision),
    )
    return newest


# -- the destinations, and what they still have to get


@dataclass(frozen=True, slots=True)
class DestinationLine:
    """One destination, configured now or in the past.

    Attributes
    ----------
    address
        ``AE@host:port`` or URL; empty when it is not configured any more.
    states
        Deliveries by state.
    oldest
        Seconds since the epoch at which the longest waiting result was made; None when none waits.
    error
        Of the last failed try that is still open.
    """

    name: str
    address: str
    states: Mapping[ResultState, int]
    oldest: float | None
    error: str

    @property
    def waiting(self) -> int:
        """Results that it is still to get."""
        return self.states.get(ResultState.ENCODED, 0)

    @property
    def rejected(self) -> int:
        """Results that it will never take."""
        return self.states.get(ResultState.REJECTED, 0)

    @property
    def delivered(self) -> int:
        """Results that it holds."""
        return sum(count for state, count in self.states.items() if state in DELIVERED)


@dataclass(frozen=True, slots=True)
class Overall:
    """What concerns all studies.

    Attributes
    ----------
    studies
        By state.
    results
        All deliveries by state.
    """

    studies: Mapping[StudyState, int]
    results: Mapping[ResultState, int]
    destinations: Sequence[DestinationLine]


def read_overall(engine: Engine, configured: Sequence[AnyDestination]) -> Overall:
    """Ask the index for what concerns all studies: too slow for the first page of many."""
    overview = Overview(engine)
    return Overall(
        studies=overview.study_counts(),
        results=overview.result_counts(),
        destinations=_destinations(configured, Outbox(engine).backlogs()),
    )


def read_findings(engine: Engine) -> dict[str, str]:
    """Return the name of every finding that the newest reading answers, by key, in order of the names."""
    newest = select(func.max(reading.c.id)).where(reading.c.model != "").scalar_subquery()
    with database.reading(engine) as connection:
        return database.pairs(
            connection,
            select(finding.c.key, finding.c.name)
            .where(finding.c.reading_id == newest)
            .order_by(finding.c.name),
        )


def _destinations(configured: Sequence[AnyDestination], backlogs: Sequence[Backlog]) -> list[DestinationLine]:
    """Join what is configured with what the index knows, configured ones first."""
    addresses = {each.name: each.address for each in configured}
    known = {each.destination: each for each in backlogs}
    lines = []
    for name in [*addresses, *(name for name in known if name not in addresses)]:
        backlog = known.get(name) or Backlog(destination=name, states={}, oldest=None, error="")
        lines.append(
            DestinationLine(name, addresses.get(name, ""), backlog.states, backlog.oldest, backlog.error)
        )
    return lines
