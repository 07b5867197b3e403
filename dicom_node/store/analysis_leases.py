"""Leases for the analysis of studies, and the outcomes of the analyses.

A worker takes a lease by a compare-and-set on the study's row. A second worker that is handed the same study
gets no lease, a worker that dies loses its lease, and a late image takes it away. Only the holder of a lease
can record an outcome, so each revision has one outcome, whatever is repeated.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, RowMapping, select, update

from dicom_node.runtime.lease_owner import LeaseOwner
from dicom_node.store import analysis_records, database
from dicom_node.store.files import StoredFile
from dicom_node.store.purge_trace import PurgeTrace
from dicom_node.store.received_instances import INSTANCE_FIELDS, ReceivedInstance
from dicom_node.store.states import OUTCOMES, FileState, ResultState, StudyState
from dicom_node.store.tables import delivery, instance, result, study

REASON_LENGTH = 1024
"""Width of the columns for reasons and errors, in characters."""
_WORKER_LOST = "the worker ended or did not answer any more"


@dataclass(frozen=True, slots=True)
class AnalysisLease:
    """Right of one worker to analyse one revision of one study until the lease expires.

    Attributes
    ----------
    owner
        Process that holds the lease, see :class:`dicom_node.runtime.lease_owner.LeaseOwner`.
    created
        Time at which the study was complete, UTC. The results carry it, so it is the same in every try.
    attempts
        Number of tries, this one included.
    last_error
        What came of the try before, as one sentence; empty when it said nothing, or there was none.
    instances
        Instances to analyse, in order of arrival, without those set aside and those purged.
    purged
        Traces of the instances of the study that were purged.
    gate_overridden
        True when films that the gate refuses are read too, because an admin asked for it.
    """

    study_id: int
    study_instance_uid: str
    revision: int
    owner: str
    created: datetime
    attempts: int
    last_error: str
    instances: tuple[ReceivedInstance, ...]
    purged: tuple[PurgeTrace, ...] = ()
    gate_overridden: bool = False


@dataclass(frozen=True, slots=True)
class EncodedResult:
    """Result object whose file is already durable.

    Attributes
    ----------
    withheld
        Names of the destinations that do not get this result.
    model
        Name of the model that it is the result of; empty for the report of a refusal.
    """

    kind: str
    sop_instance_uid: str
    sop_class_uid: str
    file: StoredFile
    withheld: frozenset[str] = frozenset()
    model: str = ""


class AnalysisLeases(database.Repository):
    """Leases on complete studies."""

    def acquire(
        self, study_instance_uid: str, revision: int, owner: LeaseOwner, lease_seconds: float
    ) -> AnalysisLease | None:
        """Take a complete study for analysis; None when the revision is stale, leased or done."""
        now = self._clock()
        with database.writing(self._engine) as connection:
            taken = connection.execute(
                update(study)
                .where(
                    study.c.study_instance_uid == study_instance_uid,
                    study.c.revision == revision,
                    study.c.state == StudyState.COMPLETE,
                )
                .values(
                    state=StudyState.ANALYSING,
                    owner=str(owner),
                    lease_until=now + lease_seconds,
                    attempts=study.c.attempts + 1,
                    updated_at=now,
                )
            ).rowcount
            if not taken:
                return None
            row = (
                connection.execute(select(study).where(study.c.study_instance_uid == study_instance_uid))
                .mappings()
                .one()
            )
            rows = (
                connection.execute(
                    select(instance)
                    .where(instance.c.study_id == row["id"], instance.c.set_aside == "")
                    .order_by(instance.c.id)
                )
                .mappings()
                .all()
            )
        return AnalysisLease(
            study_id=row["id"],
            study_instance_uid=study_instance_uid,
            revision=revision,
            owner=str(owner),
            created=datetime.fromtimestamp(row["completed_at"], UTC),
            attempts=row["attempts"],
            last_error=row["reason"],
            instances=tuple(
                _received(entry, study_instance_uid)
                for entry in rows
                if entry["file_state"] == FileState.KEPT
            ),
            purged=tuple(trace for entry in rows if (trace := PurgeTrace.of(entry)) is not None),
            gate_overridden=row["gate_overridden"],
        )

    def renew(self, lease: AnalysisLease, lease_seconds: float) -> bool:
        """Extend a lease; False when it was lost."""
        with database.writing(self._engine) as connection:
            return self._update_held(connection, lease, {"lease_until": self._clock() + lease_seconds})

    def finish(
        self,
        lease: AnalysisLease,
        state: StudyState,
        reason: str,
        results: Sequence[EncodedResult],
        destinations: Sequence[str],
        records: Sequence[analysis_records.AnalysisRecord] = (),
    ) -> bool:
        """Record the outcome of an analysis, its results and their deliveries, all or nothing.

        Parameters
        ----------
        state
            REPORTED, SKIPPED or FAILED.
        reason
            Reason of the outcome, as one sentence; required unless `state` is REPORTED.
        destinations
            Names of the destinations; each gets every result that is not withheld from it.
        records
            Contents of the analyses for the web pages, one a model; the pages show the first at first.

        Returns
        -------
        bool
            False when the lease was lost (a late image came, or it expired); then nothing was recorded.

        Raises
        ------
        ValueError
            When `state` is no outcome, or `reason` is missing.
        """
        if state not in OUTCOMES or (state is not StudyState.REPORTED and not reason):
            raise ValueError(f"no outcome: {state} with reason {reason!r}")
        now = self._clock()
        with database.writing(self._engine) as connection:
            ended = {"state": state, "reason": storable_reason(reason), "owner": None, "lease_until": None}
            if not self._update_held(connection, lease, {**ended, "updated_at": now}):
                return False
            for entry in results:
                insert_result(connection, lease.study_id, lease.revision, entry, destinations, now)
            for position, record in enumerate(records):
                analysis_records.insert_record(
                    connection, lease.study_id, lease.revision, record, now, position
                )
        return True

    def release(self, lease: AnalysisLease, reason: str, *, counts: bool) -> None:
        """Give a lease back after an error; the study is queued again later.

        Parameters
        ----------
        reason
            Error, as one sentence.
        counts
            Whether the try counts: False after an error of the node, such as a full disk.
        """
        now = self._clock()
        values = {
            "state": StudyState.COMPLETE,
            "owner": None,
            "lease_until": None,
            "attempts": study.c.attempts - (0 if counts else 1),
            "queued_at": now,
            "reason": storable_reason(reason),
            "updated_at": now,
        }
        with database.writing(self._engine) as connection:
            self._update_held(connection, lease, values)

    def release_expired(self) -> int:
        """Release the leases of workers that died or stopped renewing them; return the number of studies."""
        now = self._clock()
        with database.reading(self._engine) as connection:
            rows = connection.execute(
                select(study.c.id, study.c.owner, study.c.lease_until).where(
                    study.c.state == StudyState.ANALYSING
                )
            ).all()
        free = [row for row in rows if lease_expired(row.owner, row.lease_until, now)]
        if not free:
            return 0
        count = 0
        with database.writing(self._engine) as connection:
            for row in free:
                count += connection.execute(
                    update(study)
                    .where(
                        study.c.id == row.id,
                        study.c.state == StudyState.ANALYSING,
                        study.c.owner == row.owner,
                        study.c.lease_until == row.lease_until,
                    )
                    .values(
                        state=StudyState.COMPLETE,
                        owner=None,
                        lease_until=None,
                        queued_at=None,
                        reason=_WORKER_LOST,
                        updated_at=now,
                    )
                ).rowcount
        return count

    def _update_held(
        self, connection: Connection, lease: AnalysisLease, values: Mapping[str, object]
    ) -> bool:
        """Update the study of a lease; False when the lease is no longer held."""
        changed = connection.execute(
            update(study)
            .where(
                study.c.id == lease.study_id,
                study.c.state == StudyState.ANALYSING,
                study.c.revision == lease.revision,
                study.c.owner == lease.owner,
            )
            .values(**values)
        ).rowcount
        return bool(changed)


def storable_reason(reason: str) -> str:
    """Return a reason or an error as every database takes it: cut, without NUL and lone surrogates."""
    return reason.replace("\0", "").encode("utf-8", "replace").decode("utf-8")[:REASON_LENGTH]


def insert_result(
    connection: Connection,
    study_id: int,
    revision: int,
    entry: EncodedResult,
    destinations: Iterable[str],
    now: float,
) -> int:
    """Insert a result and its deliveries, within the caller's transaction; return the result's number."""
    key = connection.execute(
        result.insert().values(
            study_id=study_id,
            revision=revision,
            kind=entry.kind,
            model=entry.model,
            sop_instance_uid=entry.sop_instance_uid,
            sop_class_uid=entry.sop_class_uid,
            digest=entry.file.digest,
            size=entry.file.size,
            file=entry.file.name,
            created_at=now,
        )
    ).inserted_primary_key
    rows = [
        {
            "result_id": key[0],  # type: ignore[index]
            "destination": name,
            "state": ResultState.ENCODED,
            "next_try_at": now,
            "updated_at": now,
        }
        for name in destinations
        if name not in entry.withheld
    ]
    if rows:
        connection.execute(delivery.insert(), rows)
    return int(key[0])  # type: ignore[index]


def _received(row: RowMapping, study_instance_uid: str) -> ReceivedInstance:
    return ReceivedInstance(
        study_instance_uid=study_instance_uid, **{name: row[name] for name in INSTANCE_FIELDS}
    )


def lease_expired(owner: str | None, lease_until: float | None, now: float) -> bool:
    """Return whether nobody holds a lease: there is none, its time is over, or its process has ended."""
    return owner is None or lease_until is None or lease_until < now or LeaseOwner.parse(owner).dead
