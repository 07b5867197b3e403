"""Query of the worklist: filter, order and position of one page, and the statement that finds its studies."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlencode

from sqlalchemy import ColumnElement, Select, exists, func, or_, select

from dicom_node.store.states import StudyState
from dicom_node.store.tables import (
    case_reading,
    catalogue,
    feedback,
    finding,
    reader_study_case,
    reading,
    study,
    study_tag,
)
from dicom_node.web.media.trial_films import TRIAL_DESCRIPTION


class Sort(enum.StrEnum):
    """Sort order of the worklist."""

    CHANGED = "changed"  # last changed first
    ARRIVED = "arrived"  # last arrived first
    PATIENT = "patient"  # A to Z
    DATE = "date"  # latest study date first


class Read(enum.StrEnum):
    """Condition of who has read a study: has given feedback on it, or has answered it in a reader study."""

    UNREAD = "unread"  # nobody
    UNREAD_BY_ME = "unread-by-me"  # anybody but the reader, or nobody
    MINE = "mine"  # the reader


OPINION_IS_HELD: Final = (feedback.c.verdict != "none") | (feedback.c.comment != "")
"""Condition of an opinion that stands; one that was taken back stays as a row, so that open pages know."""

KEYS: Mapping[Sort, tuple[ColumnElement[Any], bool]] = {
    Sort.CHANGED: (study.c.updated_at, True),
    Sort.ARRIVED: (study.c.id, True),
    Sort.PATIENT: (catalogue.c.patient, False),
    Sort.DATE: (catalogue.c.study_date, True),
}
"""Column of each sort order, and True for descending."""


@dataclass(frozen=True, slots=True)
class WorklistQuery:
    """Filter, order and position of one page of the worklist.

    Attributes
    ----------
    state
        Only studies in this state; all when None.
    text
        Words that a study must contain, all of them, in its searchable text.
    finding
        Key of a finding that must be present; empty for any.
    tag
        Tag that the study must have; empty for any.
    read
        Only studies that somebody has read, or has not; all when None.
    reader
        Name of the reader who asks.
    low, high
        Range of the certainty, or else of the score, of the finding in the latest analysis, whether present
        or not: from `low`, and below `high` unless that is 1. None for any.
    since, until
        Days (YYYY-MM-DD, UTC) of the latest analysis: from `since`, before `until`; empty for any.
    after, before
        Cursor, from `Worklist.next` or `Worklist.previous`; empty for the first page.
    hidden
        Numbers of the studies whose findings, results, notes and tags are left out
        (:mod:`dicom_node.web.blinding`), and which no filter by finding, tag or reader finds.
    """

    state: StudyState | None = None
    text: str = ""
    finding: str = ""
    tag: str = ""
    read: Read | None = None
    reader: str = ""
    low: float | None = None
    high: float | None = None
    since: str = ""
    until: str = ""
    sort: Sort = Sort.CHANGED
    after: str = ""
    before: str = ""
    hidden: frozenset[int] = frozenset()

    def conditions(self) -> dict[str, str]:
        """Return filter and order as parameters of an address; without the words, which no address holds."""
        values = {
            "state": self.state or "",
            "finding": self.finding,
            "tag": self.tag,
            "read": self.read or "",
            "low": "" if self.low is None else f"{self.low:g}",
            "high": "" if self.high is None else f"{self.high:g}",
            "since": self.since,
            "until": self.until,
            "sort": "" if self.sort is Sort.CHANGED else self.sort,
        }
        return {name: str(value) for name, value in values.items() if value}

    @property
    def narrowed(self) -> bool:
        """Whether it has a condition beside the state."""
        return bool(self.text or self.finding or self.tag or self.read or self.analysed)

    @property
    def analysed(self) -> bool:
        """Whether it is a range of analyses, as a chart of the cohort leads to: then trials are left out."""
        return self.low is not None or self.high is not None or bool(self.since or self.until)


def filtered(query: WorklistQuery) -> Select[Any]:
    """Return the statement of all studies of a query, with their headers and sort value, in no order."""
    column, _ = KEYS[query.sort]
    headers = [
        catalogue.c[name]
        for name in ("patient", "description", "study_date", "views", "patient_sex", "patient_age")
    ]
    # The database can use the index of a header column for the order only with an inner join.
    outer = query.sort in (Sort.CHANGED, Sort.ARRIVED) and not query.text
    joined = study.join(catalogue, catalogue.c.study_id == study.c.id, isouter=outer)
    found = select(study, *headers, column.label("sort_value")).select_from(joined)
    if query.state is not None:
        found = found.where(study.c.state == query.state)
    for word in query.text.casefold().split():
        found = found.where(catalogue.c.search.contains(word, autoescape=True))
    if query.finding or query.analysed:
        found = found.where(_analysed(query))
    if query.analysed:
        found = found.where(func.coalesce(catalogue.c.description, "") != TRIAL_DESCRIPTION)
    if query.tag:
        tagged = exists().where(
            study_tag.c.study_id == study.c.id, study_tag.c.tag == query.tag, study_tag.c.held
        )
        found = found.where(tagged.correlate(study))
    if query.read is not None:
        read = _read_by(None if query.read is Read.UNREAD else query.reader)
        found = found.where(read if query.read is Read.MINE else ~read)
    if query.finding or query.tag or query.read or query.analysed:
        found = found.where(study.c.id.not_in(query.hidden))
    return found


def _analysed(query: WorklistQuery) -> ColumnElement[bool]:
    """Return the condition of the latest analysis: a finding that is present or in a range, and its day."""
    conditions: list[ColumnElement[bool]] = []
    if query.finding:
        conditions += [finding.c.reading_id == reading.c.id, finding.c.key == query.finding]
        value = func.coalesce(finding.c.certainty, finding.c.score)
        if query.low is None and query.high is None:
            conditions.append(finding.c.presence == "present")
        if query.low is not None:
            conditions.append(value >= query.low)
        if query.high is not None and query.high < 1:
            conditions.append(value < query.high)
    if query.since:
        conditions.append(reading.c.created_at >= _midnight(query.since))
    if query.until:
        conditions.append(reading.c.created_at < _midnight(query.until))
    # Two index look-ups for each study, until the page is full.
    found = exists().where(
        reading.c.study_id == study.c.id,
        reading.c.revision == study.c.revision,
        reading.c.position == 0,
        *conditions,
    )
    return found.correlate(study)


def _midnight(day: str) -> float:
    return datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()


def _read_by(reader: str | None) -> ColumnElement[bool]:
    """Return the condition that a reader, or with None anybody, has judged an analysis or answered a case."""
    judged = exists().where(
        reading.c.study_id == study.c.id,
        feedback.c.reading_id == reading.c.id,
        OPINION_IS_HELD,
        *(() if reader is None else (feedback.c.reader == reader,)),
    )
    answered = exists().where(
        reader_study_case.c.study_id == study.c.id,
        case_reading.c.case_id == reader_study_case.c.id,
        case_reading.c.answered_at.is_not(None),
        *(() if reader is None else (case_reading.c.reader == reader,)),
    )
    return or_(judged.correlate(study), answered.correlate(study))


def address(query: WorklistQuery, **changes: str) -> str:
    """Return the address of the worklist with some values changed, without the words of a search.

    It leads to the first page of the list unless `changes` names another one.
    """
    words = urlencode({key: value for key, value in {**query.conditions(), **changes}.items() if value})
    return f"/?{words}" if words else "/"
