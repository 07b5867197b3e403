"""Queries over the whole index: counts, the list of studies, and the audit that nothing was lost.

The conservation equation holds at any time::

    received = delivered + kept + waiting + skipped + failed + withdrawn + set aside + prior + purged

Kept is what was reported and has no destination: its results stay on this node. Purged is what had one of the
other fates until a rule of retention removed its file. Each accepted instance is counted in exactly one of
these terms. The audit does not trust the sum alone: it checks that each row has its file, that each received
file has its row, and that each outcome without a delivery, and each purge, has a reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import ColumnElement, Connection, Engine, and_, case, exists, func, select

from dicom_node.store import database, stored_files
from dicom_node.store.delivery_queue import ENDED, STATE_NOW
from dicom_node.store.files import Spool
from dicom_node.store.received_instances import SetAsideReason
from dicom_node.store.states import OUTCOMES, FileState, ResultState, StudyState
from dicom_node.store.tables import delivery, forgotten, instance, result, study

_FATE_ORDER = (
    "delivered",
    "kept",
    "waiting",
    "skipped",
    "failed",
    "withdrawn",
    "set_aside",
    "prior",
    "purged",
)


def _study_is_confirmed() -> ColumnElement[bool]:
    of_study = (result.c.study_id == study.c.id) & (delivery.c.result_id == result.c.id)
    confirmed = delivery.c.state == ResultState.CONFIRMED
    return and_(
        study.c.state.in_(sorted(OUTCOMES)),
        exists().where(of_study, confirmed).correlate(study),
        ~exists().where(of_study, ~confirmed, delivery.c.state != ResultState.WITHDRAWN).correlate(study),
    )


STUDY_IS_CONFIRMED = _study_is_confirmed()
"""Condition on a row of ``study``: it is confirmed.

Its analysis has ended, a destination has confirmed a result, and all its deliveries are confirmed, apart from
those that were withdrawn.
"""


@dataclass(frozen=True, slots=True)
class StudyDeliveries:
    """Deliveries of one study's results to one destination.

    Attributes
    ----------
    states
        Number of deliveries in each state.
    error
        Error of the last failed try that is still open; empty when there is none.
    next_try_at
        Time of the next try to send or to confirm, in seconds since the epoch; None when none is due.
    """

    states: Mapping[ResultState, int]
    error: str
    next_try_at: float | None


@dataclass(frozen=True, slots=True)
class StudyRow:
    """Row of the list of studies; times in seconds since the epoch.

    Attributes
    ----------
    instances
        Number of its instances, with those that were set aside.
    results
        Number of its results, of every revision.
    queued_at
        Time when the sweep queued it; None when it did not, or the study changed since.
    owner
        Worker that analyses it now; empty when none does.
    confirmed
        Whether :data:`STUDY_IS_CONFIRMED` holds.
    set_aside
        Number of its instances that were set aside, by reason.
    deliveries
        Deliveries by destination.
    """

    id: int
    study_instance_uid: str
    state: StudyState
    revision: int
    reason: str
    first_received_at: float
    last_received_at: float
    updated_at: float
    instances: int
    results: int
    queued_at: float | None
    attempts: int
    owner: str
    confirmed: bool
    set_aside: Mapping[SetAsideReason, int]
    deliveries: Mapping[str, StudyDeliveries]


@dataclass(frozen=True, slots=True)
class Audit:
    """Result of an audit: the conservation equation and its violations.

    Attributes
    ----------
    received
        Number of accepted instances.
    fates
        Number of instances by fate: delivered, kept, waiting, skipped, failed, withdrawn, set_aside, prior,
        purged.
    set_aside
        Number of instances that were set aside, by reason.
    violations
        One sentence for each; empty when nothing was lost.
    repaired
        Number of instances whose damaged or missing file was replaced when they were sent again.
    unused_results
        Number of result files without a row: those of analyses that were given up.
    """

    received: int
    fates: dict[str, int]
    violations: tuple[str, ...]
    set_aside: Mapping[SetAsideReason, int] = field(default_factory=dict)
    repaired: int = 0
    unused_results: int = 0

    @property
    def conserved(self) -> bool:
        """True when there is no violation: nothing was lost."""
        return not self.violations


class IndexQueries:
    """Read-only queries over the whole index.

    Parameters
    ----------
    engine
        Engine of the index.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def received(self) -> int:
        """Count the instances that were accepted."""
        with database.reading(self._engine) as connection:
            rows = connection.execute(select(func.count()).select_from(instance)).scalar_one()
            return int(rows) + _forgotten(connection)

    def study_counts(self) -> dict[StudyState, int]:
        """Return the number of studies in each state, zeros included."""
        with database.reading(self._engine) as connection:
            rows = connection.execute(select(study.c.state, func.count()).group_by(study.c.state)).all()
        found = {StudyState(state): count for state, count in rows}
        return {state: found.get(state, 0) for state in StudyState}

    def result_counts(self) -> dict[ResultState, int]:
        """Return the number of deliveries in each state, zeros included; see :data:`STATE_NOW`."""
        query = select(STATE_NOW, func.count()).join(result, delivery.c.result_id == result.c.id)
        with database.reading(self._engine) as connection:
            rows = connection.execute(query.group_by(STATE_NOW)).all()
        found = {ResultState(state): count for state, count in rows}
        return {state: found.get(state, 0) for state in ResultState}

    def kept_results(self) -> int:
        """Count the results in force that have no destination: they stay on this node."""
        sent = exists().where(delivery.c.result_id == result.c.id)
        query = select(func.count()).select_from(result).where(~sent, result.c.withdrawn_at.is_(None))
        with database.reading(self._engine) as connection:
            return int(connection.execute(query).scalar_one())

    def confirmed_studies(self) -> int:
        """Count the studies whose results are all confirmed, see :data:`STUDY_IS_CONFIRMED`."""
        query = select(func.count()).select_from(study).where(STUDY_IS_CONFIRMED)
        with database.reading(self._engine) as connection:
            return int(connection.execute(query).scalar_one())

    def studies(self, *, offset: int = 0, limit: int = 50, state: StudyState | None = None) -> list[StudyRow]:
        """Return one page of the studies, the last changed first.

        Parameters
        ----------
        state
            Only studies in this state; all when None.
        """
        query = select(study, STUDY_IS_CONFIRMED.label("confirmed")).order_by(
            study.c.updated_at.desc(), study.c.id.desc()
        )
        if state is not None:
            query = query.where(study.c.state == state)
        with database.reading(self._engine) as connection:
            rows = connection.execute(query.offset(offset).limit(limit)).mappings().all()
            ids = [row["id"] for row in rows]
            instances: dict[int, int] = {}
            set_aside: dict[int, dict[SetAsideReason, int]] = {}
            for study_id, reason, count in connection.execute(
                select(instance.c.study_id, instance.c.set_aside, func.count())
                .where(instance.c.study_id.in_(ids))
                .group_by(instance.c.study_id, instance.c.set_aside)
            ):
                instances[study_id] = instances.get(study_id, 0) + count
                if reason:
                    set_aside.setdefault(study_id, {})[SetAsideReason(reason)] = count
            results: dict[int, int] = database.as_mapping(
                connection,
                select(result.c.study_id, func.count())
                .where(result.c.study_id.in_(ids))
                .group_by(result.c.study_id),
            )
            deliveries = _deliveries(connection, ids)
        return [
            StudyRow(
                id=row["id"],
                study_instance_uid=row["study_instance_uid"],
                state=StudyState(row["state"]),
                revision=row["revision"],
                reason=row["reason"],
                first_received_at=row["first_received_at"],
                last_received_at=row["last_received_at"],
                updated_at=row["updated_at"],
                instances=instances.get(row["id"], 0),
                results=results.get(row["id"], 0),
                queued_at=row["queued_at"],
                attempts=row["attempts"],
                owner=row["owner"] or "",
                confirmed=bool(row["confirmed"]),
                set_aside=set_aside.get(row["id"], {}),
                deliveries=deliveries.get(row["id"], {}),
            )
            for row in rows
        ]

    def audit(self, spool: Spool, results: Spool, *, read_files: bool = False) -> Audit:
        """Check the conservation equation, and the files and reasons behind it.

        Parameters
        ----------
        spool, results
            Spools of the received files and of the results.
        read_files
            Whether to read each file and compare its digest too; this takes as long as to read the whole
            disk.
        """

        def has_delivery(state: ResultState) -> ColumnElement[bool]:
            return exists().where(
                result.c.study_id == study.c.id,
                delivery.c.result_id == result.c.id,
                delivery.c.state == state,
            )

        withdrawn = exists().where(
            result.c.study_id == study.c.id,
            result.c.revision == study.c.revision,
            result.c.withdrawn_at.is_not(None),
        )
        sent = exists().where(
            result.c.study_id == study.c.id,
            result.c.revision == study.c.revision,
            delivery.c.result_id == result.c.id,
        )
        outcome = case(
            (instance.c.file_state != FileState.KEPT, "purged"),
            (instance.c.set_aside == SetAsideReason.PRIOR, "prior"),
            (instance.c.set_aside != "", "set_aside"),
            (study.c.state.in_([StudyState.RECEIVING, StudyState.COMPLETE, StudyState.ANALYSING]), "waiting"),
            (has_delivery(ResultState.ENCODED), "waiting"),
            (withdrawn, "withdrawn"),
            (has_delivery(ResultState.REJECTED), "failed"),
            (and_(study.c.state == StudyState.REPORTED, sent), "delivered"),
            (study.c.state == StudyState.REPORTED, "kept"),
            (study.c.state == StudyState.SKIPPED, "skipped"),
            (study.c.state == StudyState.FAILED, "failed"),
            else_="unknown",
        )
        with database.reading(self._engine) as connection:
            without_row = _forgotten(connection)
            rows = connection.execute(select(func.count()).select_from(instance)).scalar_one()
            found: dict[str, int] = database.as_mapping(
                connection,
                select(outcome, func.count())
                .join(study, instance.c.study_id == study.c.id)
                .group_by(outcome),
            )
            aside = database.as_mapping(
                connection,
                select(instance.c.set_aside, func.count())
                .where(
                    instance.c.set_aside.not_in(["", SetAsideReason.PRIOR]),
                    instance.c.file_state == FileState.KEPT,
                )
                .group_by(instance.c.set_aside),
            )
            violations = list(_unexplained(connection))
            repaired = connection.execute(
                select(func.count()).select_from(instance).where(instance.c.repaired_at.is_not(None))
            ).scalar_one()
            kept, encoded = (
                connection.execute(
                    select(table.c.file, table.c.size, table.c.digest).where(
                        table.c.file_state == FileState.KEPT
                    )
                ).all()
                for table in (instance, result)
            )
            named = [set(connection.execute(select(table.c.file)).scalars()) for table in (instance, result)]
        fates = {name: found.pop(name, 0) for name in _FATE_ORDER}
        fates["purged"] += without_row
        received = rows + without_row
        if found or sum(fates.values()) != received:
            violations.append(
                f"{received} instances were received, {sum(fates.values())} have a known fate; "
                f"unknown: {found}"
            )
        for table, where, rows_of, noun in (
            (instance, spool, kept, "received instance"),
            (result, results, encoded, "result"),
        ):
            lost = dict(stored_files.missing(where, rows_of, noun, read_files=read_files))
            # A purge goes on beside the audit, which takes longer than it.
            violations += [lost[name] for name in stored_files.still_kept(self._engine, table, [*lost])]
        violations += stored_files.without_row(spool, named[0])
        reasons = {SetAsideReason(reason): count for reason, count in aside.items()}
        return Audit(
            received=received,
            fates=fates,
            violations=tuple(violations),
            set_aside=reasons,
            repaired=repaired,
            unused_results=len(set(results.names()) - named[1]),
        )


def _forgotten(connection: Connection) -> int:
    """Count the purged instances whose rows were deleted."""
    return int(connection.execute(select(func.coalesce(func.sum(forgotten.c.instances), 0))).scalar_one())


def _deliveries(connection: Connection, studies: Sequence[int]) -> dict[int, dict[str, StudyDeliveries]]:
    """Return the deliveries of studies, by study and destination."""
    of_studies = (
        select(result.c.study_id, delivery.c.destination)
        .join(delivery, delivery.c.result_id == result.c.id)
        .where(result.c.study_id.in_(studies))
    )
    states: dict[tuple[int, str], dict[ResultState, int]] = {}
    due: dict[tuple[int, str], float] = {}
    for study_id, name, state, count, next_try_at in connection.execute(
        of_studies.add_columns(STATE_NOW, func.count(), func.min(delivery.c.next_try_at))
        .group_by(result.c.study_id, delivery.c.destination, STATE_NOW)
        .order_by(delivery.c.destination)
    ):
        states.setdefault((study_id, name), {})[ResultState(state)] = count
        if state in (ResultState.ENCODED, ResultState.SENT):
            due[study_id, name] = min(next_try_at, due.get((study_id, name), next_try_at))
    # Of several rows of a destination the last one wins: the latest try.
    errors = {
        (study_id, name): error
        for study_id, name, error in connection.execute(
            of_studies.add_columns(delivery.c.error)
            .where(delivery.c.error != "", STATE_NOW.not_in(ENDED))
            .order_by(delivery.c.updated_at)
        )
    }
    found: dict[int, dict[str, StudyDeliveries]] = {}
    for key, by_state in states.items():
        entry = StudyDeliveries(states=by_state, error=errors.get(key, ""), next_try_at=due.get(key))
        found.setdefault(key[0], {})[key[1]] = entry
    return found


def _unexplained(connection: Connection) -> Iterator[str]:
    """Yield a sentence for each outcome without a reason, report without a result, and unproved delivery."""
    silent = study.c.state.in_([StudyState.SKIPPED, StudyState.FAILED]) & (study.c.reason == "")
    for uid in connection.execute(select(study.c.study_instance_uid).where(silent)).scalars():
        yield f"study {uid} was skipped or failed without a reason"
    has_result = exists().where(result.c.study_id == study.c.id, result.c.revision == study.c.revision)
    empty = (study.c.state == StudyState.REPORTED) & ~has_result
    for uid in connection.execute(select(study.c.study_instance_uid).where(empty)).scalars():
        yield f"study {uid} is reported without a result"
    rejected = (delivery.c.state == ResultState.REJECTED) & (delivery.c.error == "")
    for key in connection.execute(select(delivery.c.id).where(rejected)).scalars():
        yield f"delivery {key} was rejected without a reason"
    silently = (instance.c.file_state != FileState.KEPT) & (
        (instance.c.purged_by == "") | instance.c.purged_at.is_(None)
    )
    for key in connection.execute(select(instance.c.id).where(silently)).scalars():
        yield f"instance {key} was purged, but it is not recorded when and by which rule"
    unwitnessed = (delivery.c.state == ResultState.CONFIRMED) & (delivery.c.confirmed_by == "")
    for key in connection.execute(select(delivery.c.id).where(unwitnessed)).scalars():
        yield f"delivery {key} is confirmed, but it is not recorded how"
