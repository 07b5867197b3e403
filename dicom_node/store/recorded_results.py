"""Results that were recorded: which ones a new report replaces, and their withdrawal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import Select, or_, select, update

from dicom_node.errors import NodeError
from dicom_node.store import database
from dicom_node.store.analysis_leases import EncodedResult, insert_result
from dicom_node.store.delivery_queue import apply_event
from dicom_node.store.purge_trace import PurgeTrace
from dicom_node.store.states import DELIVERED, DeliveryEvent, FileState, StudyState
from dicom_node.store.tables import delivery, instance, result, study

REJECTION_NOTE = "rejection"
"""Kind of the rejection note, the result that withdraws other results."""


class AlreadyWithdrawn(NodeError):
    """Error of the second of two withdrawals at once."""


@dataclass(frozen=True, slots=True)
class RecordedResult:
    """Result as it was written.

    Attributes
    ----------
    file
        Name of its file in the spool of results.
    model
        Name of the model that it is the result of; empty for a refusal, and for results of earlier versions.
    file_state, purged_at, purged_by
        Whether its file is there, and if not, when and by which setting it was purged.
    """

    id: int
    revision: int
    kind: str
    sop_instance_uid: str
    sop_class_uid: str
    digest: str
    file: str
    model: str = ""
    file_state: FileState = FileState.KEPT
    purged_at: float | None = None
    purged_by: str = ""

    @property
    def purged(self) -> PurgeTrace | None:
        """Trace of the purge of its file; None when it is kept."""
        return PurgeTrace.of(asdict(self))


@dataclass(frozen=True, slots=True)
class RecordedStudy:
    """Study and its results that are in force, oldest first.

    Attributes
    ----------
    completed_at
        Time at which this revision was complete, in seconds since the epoch; None before.
    films
        Names in the spool of the received instances that were not set aside, in order of arrival.
    purged_films
        Traces of those of them that were purged.
    gate_overridden
        True when films that the gate refuses were read too.
    """

    id: int
    state: StudyState
    revision: int
    completed_at: float | None
    results: tuple[RecordedResult, ...]
    films: tuple[str, ...]
    purged_films: tuple[PurgeTrace, ...] = ()
    gate_overridden: bool = False


class RecordedResults(database.Repository):
    """Results that were recorded."""

    def for_study(self, study_instance_uid: str) -> RecordedStudy | None:
        """Return a study with its results that were not withdrawn; None when the study is unknown."""
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
                    select(instance)
                    .where(instance.c.study_id == row["id"], instance.c.set_aside == "")
                    .order_by(instance.c.id)
                )
                .mappings()
                .all()
            )
        return RecordedStudy(
            id=row["id"],
            state=StudyState(row["state"]),
            revision=row["revision"],
            completed_at=row["completed_at"],
            results=tuple(RecordedResult(**entry) for entry in results),
            films=tuple(film["file"] for film in films),
            purged_films=tuple(trace for film in films if (trace := PurgeTrace.of(film)) is not None),
            gate_overridden=row["gate_overridden"],
        )

    def before_revision(self, study_id: int, revision: int) -> dict[tuple[str, str], RecordedResult]:
        """Return by kind and model the last result of the earlier revisions that was not withdrawn."""
        with database.reading(self._engine) as connection:
            rows = connection.execute(_in_force(study_id).where(result.c.revision < revision)).mappings()
            return {(row["kind"], row["model"]): RecordedResult(**row) for row in rows}

    def withdraw(
        self, recorded: RecordedStudy, note: EncodedResult, destinations: Sequence[str]
    ) -> tuple[int, list[str]]:
        """Withdraw a study's results and insert the rejection note, all or nothing.

        Results that wait to be sent are not sent any more. The note goes to the destinations that hold a
        result, and to those that may hold one because a try was made.

        Parameters
        ----------
        note
            Rejection note that refers to all of `recorded.results`.
        destinations
            Names of the configured destinations.

        Returns
        -------
        int
            Number of deliveries that were stopped.
        list of str
            Names of the destinations that get the note.

        Raises
        ------
        AlreadyWithdrawn
            When somebody else has withdrawn one of the results meanwhile; then nothing is changed.
        """
        now = self._clock()
        ids = [entry.id for entry in recorded.results]
        touched = or_(
            delivery.c.state.in_(sorted(DELIVERED)), delivery.c.attempts > 0, delivery.c.owner.is_not(None)
        )
        with database.writing(self._engine) as connection:
            withdrawn = connection.execute(
                update(result)
                .where(result.c.id.in_(ids), result.c.withdrawn_at.is_(None))
                .values(withdrawn_at=now)
            ).rowcount
            if withdrawn != len(ids):
                raise AlreadyWithdrawn("its results are withdrawn by somebody else; see `dicom-node status`")
            holders = set(
                connection.execute(
                    select(delivery.c.destination).where(delivery.c.result_id.in_(ids), touched).distinct()
                ).scalars()
            )
            stopped = apply_event(
                connection, DeliveryEvent.WITHDRAWN, delivery.c.result_id.in_(ids), now, release=False
            )
            told = [name for name in destinations if name in holders]
            insert_result(connection, recorded.id, recorded.revision, note, told, now)
        return stopped, told


def _in_force(study_id: int) -> Select[tuple[object, ...]]:
    columns = [result.c[name] for name in RecordedResult.__dataclass_fields__]
    return (
        select(*columns)
        .where(
            result.c.study_id == study_id, result.c.withdrawn_at.is_(None), result.c.kind != REJECTION_NOTE
        )
        .order_by(result.c.id)
    )
