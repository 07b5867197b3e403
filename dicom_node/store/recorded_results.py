"""Results that were recorded: what a new report takes the place of, and what is withdrawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Select, or_, select, update

from dicom_node.store import database
from dicom_node.store.analysis_leases import EncodedResult, enter_result
from dicom_node.store.states import DELIVERED, ResultState, StudyState
from dicom_node.store.tables import delivery, instance, result, study

REJECTION = "rejection"
"""Kind of the note that withdraws others."""


@dataclass(frozen=True, slots=True)
class RecordedResult:
    """A result as it was written.

    Attributes
    ----------
    file
        Its name in the spool of results.
    """

    id: int
    revision: int
    kind: str
    sop_instance_uid: str
    sop_class_uid: str
    digest: str
    file: str


@dataclass(frozen=True, slots=True)
class RecordedStudy:
    """A study and its results that are in force, in order.

    Attributes
    ----------
    films
        Names in the spool of the received instances that were not set aside, in order of their arrival.
    """

    id: int
    state: StudyState
    revision: int
    completed_at: float | None
    results: tuple[RecordedResult, ...]
    films: tuple[str, ...]


class Results(database.Records):
    """Recorded results."""

    def of_study(self, study_instance_uid: str) -> RecordedStudy | None:
        """Return a study with all its results that were not withdrawn; None when it is unknown."""
        with database.reading(self._engine) as connection:
            row = (
                connection.execute(select(study).where(study.c.study_instance_uid == study_instance_uid))
                .mappings()
                .first()
            )
            if row is None:
                return None
            results = connection.execute(_in_force(row["id"])).mappings().all()
            films = (
                connection.execute(
                    select(instance.c.file)
                    .where(instance.c.study_id == row["id"], instance.c.set_aside == "")
                    .order_by(instance.c.id)
                )
                .scalars()
                .all()
            )
        return RecordedStudy(
            id=row["id"],
            state=StudyState(row["state"]),
            revision=row["revision"],
            completed_at=row["completed_at"],
            results=tuple(RecordedResult(**entry) for entry in results),
            films=tuple(films),
        )

    def before(self, study_id: int, revision: int) -> dict[str, RecordedResult]:
        """Return the last result of each kind that an earlier revision left and nobody withdrew."""
        with database.reading(self._engine) as connection:
            rows = connection.execute(_in_force(study_id).where(result.c.revision < revision)).mappings()
            return {row["kind"]: RecordedResult(**row) for row in rows}

    def withdraw(
        self, recorded: RecordedStudy, note: EncodedResult, among: Sequence[str]
    ) -> tuple[int, list[str]]:
        """Withdraw a study's results and enter the note that says so, all or nothing.

        What waits to be sent is not sent any more. The note goes to the destinations that hold a result, or
        may hold one because they were tried.

        Parameters
        ----------
        note
            Refers to all of `recorded.results`.
        among
            Names of the destinations that there are.

        Returns
        -------
        int
            How many deliveries were stopped.
        list of str
            Where the note goes.
        """
        now = self._clock()
        ids = [entry.id for entry in recorded.results]
        touched = or_(
            delivery.c.state.in_(sorted(DELIVERED)), delivery.c.attempts > 0, delivery.c.owner.is_not(None)
        )
        with database.writing(self._engine) as connection:
            connection.execute(
                update(result)
                .where(result.c.id.in_(ids), result.c.withdrawn_at.is_(None))
                .values(withdrawn_at=now)
            )
            holders = set(
                connection.execute(
                    select(delivery.c.destination).where(delivery.c.result_id.in_(ids), touched).distinct()
                ).scalars()
            )
            stopped = connection.execute(
                update(delivery)
                .where(
                    delivery.c.result_id.in_(ids),
                    delivery.c.state.in_([ResultState.ENCODED, ResultState.REJECTED]),
                )
                .values(state=ResultState.WITHDRAWN, updated_at=now)
            ).rowcount
            told = [name for name in among if name in holders]
            enter_result(connection, recorded.id, recorded.revision, note, told, now)
        return stopped, told


def _in_force(study_id: int) -> Select[tuple[object, ...]]:
    columns = [result.c[name] for name in RecordedResult.__dataclass_fields__]
    return (
        select(*columns)
        .where(result.c.study_id == study_id, result.c.withdrawn_at.is_(None), result.c.kind != REJECTION)
        .order_by(result.c.id)
    )
