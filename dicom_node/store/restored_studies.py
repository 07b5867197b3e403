"""Studies that are entered into an index from the files that are left of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from dicom_node.store import analysis_records, database
from dicom_node.store.analysis_leases import EncodedResult, insert_result, storable_reason
from dicom_node.store.analysis_records import AnalysisRecord
from dicom_node.store.received_instances import INSTANCE_FIELDS, ReceivedInstance
from dicom_node.store.states import ResultState, StudyState
from dicom_node.store.tables import delivery, instance, result, study


@dataclass(frozen=True, slots=True)
class RestoredInstance:
    """Received instance; its time in seconds since the epoch.

    Attributes
    ----------
    set_aside
        Reason why it is not analysed, see :class:`dicom_node.store.index.SetAsideReason`; empty for all
        others.
    """

    received: ReceivedInstance
    received_at: float
    set_aside: str


@dataclass(frozen=True, slots=True)
class RestoredResult:
    """Result of a study; times in seconds since the epoch.

    Attributes
    ----------
    destinations
        Names of the destinations that get it, or get it again.
    withdrawn_at
        Time at which it was withdrawn; None when it is in force.
    """

    result: EncodedResult
    revision: int
    created_at: float
    destinations: tuple[str, ...]
    withdrawn_at: float | None = None


@dataclass(frozen=True, slots=True)
class RestoredStudy:
    """Study with what is left of it; times in seconds since the epoch.

    Attributes
    ----------
    completed_at
        Time at which this revision was complete; None while it is received.
    records
        Records of its analyses, by revision.
    """

    study_instance_uid: str
    state: StudyState
    revision: int
    reason: str
    first_received_at: float
    last_received_at: float
    completed_at: float | None
    instances: Sequence[RestoredInstance]
    results: Sequence[RestoredResult]
    records: Sequence[tuple[int, float, AnalysisRecord]] = ()


class RestoredStudies(database.Repository):
    """Studies that are entered from files."""

    def is_empty(self) -> bool:
        """Return whether the index holds no study."""
        with database.reading(self._engine) as connection:
            return not connection.execute(select(func.count()).select_from(study)).scalar_one()

    def known_files(self) -> tuple[set[str], set[str]]:
        """Return the names of the received files and of the results that have a row."""
        with database.reading(self._engine) as connection:
            return (
                set(connection.execute(select(instance.c.file)).scalars()),
                set(connection.execute(select(result.c.file)).scalars()),
            )

    def enter(self, studies: Iterable[RestoredStudy]) -> None:
        """Enter studies that the index does not hold, all or nothing.

        Raises
        ------
        StorageFull, StorageFailed
            When the database did not commit.
        """
        with database.writing(self._engine) as connection:
            for entry in studies:
                self._enter(connection, entry)

    def _enter(self, connection: Connection, entry: RestoredStudy) -> None:
        now = self._clock()
        created = connection.execute(
            study.insert().values(
                study_instance_uid=entry.study_instance_uid,
                state=entry.state,
                revision=entry.revision,
                reason=storable_reason(entry.reason),
                first_received_at=entry.first_received_at,
                last_received_at=entry.last_received_at,
                completed_at=entry.completed_at,
                updated_at=entry.completed_at or entry.last_received_at,
            )
        ).inserted_primary_key
        study_id = int(created[0])  # type: ignore[index]
        if entry.instances:
            connection.execute(
                instance.insert(),
                [
                    {
                        "study_id": study_id,
                        **{name: getattr(each.received, name) for name in INSTANCE_FIELDS},
                        "received_at": each.received_at,
                        "set_aside": each.set_aside,
                    }
                    for each in entry.instances
                ],
            )
        for each in entry.results:
            key = insert_result(
                connection, study_id, each.revision, each.result, each.destinations, each.created_at
            )
            if each.withdrawn_at is not None:
                connection.execute(
                    result.update().where(result.c.id == key).values(withdrawn_at=each.withdrawn_at)
                )
                connection.execute(
                    delivery.update()
                    .where(delivery.c.result_id == key)
                    .values(state=ResultState.WITHDRAWN, updated_at=now)
                )
        positions: Counter[int] = Counter()
        for revision, at, record in entry.records:
            analysis_records.insert_record(connection, study_id, revision, record, at, positions[revision])
            positions[revision] += 1
