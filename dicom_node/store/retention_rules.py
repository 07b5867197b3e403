"""Rules of retention: which files may go, and after how long, as conditions on the tables of the index.

A rule is named by its setting (:mod:`dicom_node.config.retention`). Each file falls under at most one of the
rules by age, so counts of several rules can be added. The table for persons is in docs/operations.md.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, Table, and_, exists, or_, select

from dicom_node.store.audit import STUDY_IS_CONFIRMED
from dicom_node.store.index import TRIAL_HOST
from dicom_node.store.prior_requests import ARRIVAL_SECONDS
from dicom_node.store.received_instances import SetAsideReason
from dicom_node.store.states import OPEN, OUTCOMES, FileState, ResultState
from dicom_node.store.tables import delivery, instance, prior, prior_request, reading, result, study

DAY: Final = 86_400.0
"""Seconds of a day."""


class Holding(enum.Enum):
    """Kind of file that a row stands for."""

    FILM = "films"
    RESULT = "results"
    MAPS = "maps"


@dataclass(frozen=True, slots=True)
class HoldingColumns:
    """Columns of a kind of file.

    Attributes
    ----------
    file
        Name of the file.
    since
        Time from which its age counts, in seconds since the epoch.
    """

    table: Table
    file: ColumnElement[str]
    since: ColumnElement[float]


COLUMNS: Final[Mapping[Holding, HoldingColumns]] = MappingProxyType(
    {
        Holding.FILM: HoldingColumns(instance, instance.c.file, instance.c.received_at),
        Holding.RESULT: HoldingColumns(result, result.c.file, result.c.created_at),
        Holding.MAPS: HoldingColumns(reading, reading.c.maps, reading.c.created_at),
    }
)
"""Table and columns of each kind of file."""


@dataclass(frozen=True, slots=True)
class FileRule:
    """Rule by which files go when they are old enough.

    Attributes
    ----------
    setting
        Name of the setting with the age in days.
    holding
        Kind of file.
    condition
        Condition on a row of `holding`, joined with ``study``.
    """

    setting: str
    holding: Holding
    condition: ColumnElement[bool]


def _delivery_in(*states: ResultState) -> ColumnElement[bool]:
    of_study = (result.c.study_id == study.c.id) & (delivery.c.result_id == result.c.id)
    return exists().where(of_study, delivery.c.state.in_(sorted(states))).correlate(study)


_sent_instance = instance.alias()
_is_trial = (
    exists()
    .where(_sent_instance.c.study_id == study.c.id, _sent_instance.c.peer_host == TRIAL_HOST)
    .correlate(study)
)
_waits = _delivery_in(ResultState.ENCODED, ResultState.SENT)
# Nothing confirms it, and nothing is going to: kept here, refused, skipped, failed, withdrawn.
_ended_unconfirmed = and_(study.c.state.in_(sorted(OUTCOMES)), ~_waits, ~STUDY_IS_CONFIRMED, ~_is_trial)
_confirmed = and_(STUDY_IS_CONFIRMED, ~_waits)
_tried = and_(study.c.state.in_(sorted(OUTCOMES)), ~_waits, _is_trial)
_sent = instance.c.set_aside == ""
_mapped = reading.c.maps != ""
_fetched = instance.c.set_aside == SetAsideReason.PRIOR

FILE_RULES: Final = (
    FileRule("films_days", Holding.FILM, and_(_sent, _confirmed)),
    FileRule("results_days", Holding.RESULT, _confirmed),
    FileRule("maps_days", Holding.MAPS, and_(_mapped, _confirmed)),
    FileRule("unconfirmed_days", Holding.FILM, and_(_sent, _ended_unconfirmed)),
    FileRule("unconfirmed_days", Holding.RESULT, _ended_unconfirmed),
    FileRule("unconfirmed_days", Holding.MAPS, and_(_mapped, _ended_unconfirmed)),
    FileRule("trials_days", Holding.FILM, and_(_sent, _tried)),
    FileRule("trials_days", Holding.RESULT, _tried),
    FileRule("trials_days", Holding.MAPS, and_(_mapped, _tried)),
    FileRule("priors_days", Holding.FILM, _fetched),
    FileRule("set_aside_days", Holding.FILM, and_(~_sent, ~_fetched)),
)
"""Rules by age. No two hold for the same row."""

SPACE_SETTING: Final = "free_bytes_below"
"""Setting by which files go when the disk has too little free space."""

SPACE_RULES: Final = (
    FileRule(SPACE_SETTING, Holding.FILM, or_(and_(_sent, _confirmed), _fetched)),
    FileRule(SPACE_SETTING, Holding.RESULT, _confirmed),
    FileRule(SPACE_SETTING, Holding.MAPS, and_(_mapped, _confirmed)),
)
"""Rules by free space: what a destination has confirmed, and priors, which can be fetched again."""


def may_go(now: float) -> ColumnElement[bool]:
    """Return the condition on a row of ``study`` that its files may go, whatever the rule.

    It is not pinned and not being received or analysed, and no study that is compares itself with it: as its
    prior, or as one that was asked for and that the search has not yet chosen.
    """
    later = study.alias()
    in_use = (
        select(prior.c.prior_uid)
        .join(later, and_(later.c.id == prior.c.study_id, later.c.revision == prior.c.revision))
        .where(later.c.state.in_(sorted(OPEN)))
    )
    asked_for = select(prior_request.c.study_instance_uid).where(
        prior_request.c.asked_at > now - ARRIVAL_SECONDS
    )
    return and_(
        study.c.pinned_at.is_(None),
        study.c.state.not_in(sorted(OPEN)),
        study.c.study_instance_uid.not_in(in_use),
        study.c.study_instance_uid.not_in(asked_for),
    )


def candidates(rule: FileRule, now: float, days: float, *columns: ColumnElement[Any]) -> Select[Any]:
    """Return the query of the rows whose files a rule lets go, at least `days` old."""
    of = COLUMNS[rule.holding]
    return (
        select(*columns)
        .select_from(of.table.join(study, study.c.id == of.table.c.study_id))
        .where(
            of.table.c.file_state == FileState.KEPT,
            of.since <= now - days * DAY,
            rule.condition,
            may_go(now),
        )
    )
