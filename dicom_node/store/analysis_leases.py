"""The right to analyse a study, and what comes of it.

A claim is a compare-and-set on the study's row with a lease: a second worker that is handed the same
study gets nothing, a worker that dies loses it, and a late image takes it away. Only the holder of a
claim can record an outcome, so whatever is repeated, each revision has one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, RowMapping, select, update

from dicom_node.runtime.lease_owner import Owner
from dicom_node.store import analysis_records, database
from dicom_node.store.files import StoredFile
from dicom_node.store.index import INSTANCE_FIELDS, ReceivedInstance
from dicom_node.store.states import OUTCOMES, ResultState, StudyState
from dicom_node.store.tables import delivery, instance, result, study

REASON_LENGTH = 1024


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to analyse one revision of one study until the lease lapses.

    Attributes
    ----------
    created
        When the study was complete: the time that its results carry, the same in every try.
    attempts
        Counts this one.
    instances
        Those to read, in order of their arrival; those set aside are left out.
    """

    study_id: int
    study_instance_uid: str
    revision: int
    owner: str
    created: datetime
    attempts: int
    instances: tuple[ReceivedInstance, ...]


@dataclass(frozen=True, slots=True)
class EncodedResult:
    """A result object whose file is already durable.

    Attributes
    ----------
    withheld
        Destinations that do not get it, whatever they get otherwise.
    """

    kind: str
    sop_instance_uid: str
    sop_class_uid: str
    file: StoredFile
    withheld: frozenset[str] = frozenset()


class Claims(database.Records):
    """Claims on complete studies."""

    def claim(
        self, study_instance_uid: str, revision: int, owner: Owner, lease_seconds: float
    ) -> Claim | None:
        """Take a complete study for analysis; None when it is stale, taken or done."""
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
        return Claim(
            study_id=row["id"],
            study_instance_uid=study_instance_uid,
            revision=revision,
            owner=str(owner),
            created=datetime.fromtimestamp(row["completed_at"], UTC),
            attempts=row["attempts"],
            instances=tuple(_received(entry, study_instance_uid) for entry in rows),
        )

    def renew(self, claim: Claim, lease_seconds: float) -> bool:
        """Lengthen a claim's lease; False when it was lost meanwhile."""
        with database.writing(self._engine) as connection:
            return self._held(connection, claim, {"lease_until": self._clock() + lease_seconds})

    def finish(
        self,
        claim: Claim,
        state: StudyState,
        reason: str,
        results: Sequence[EncodedResult],
        destinations: Sequence[str],
        reading: analysis_records.KeptReading | None = None,
    ) -> bool:
        """Record the outcome of an analysis, its results and their deliveries, all or nothing.

        Parameters
        ----------
        state
            REPORTED, SKIPPED or FAILED.
        reason
            One sentence; required unless REPORTED.
        destinations
            Names; each gets every result that is not withheld from it.
        reading
            What the page shows of it; None when nothing was said.

        Returns
        -------
        bool
            False when the claim was lost (a late image, a lapsed lease): nothing was recorded.
        """
        if state not in OUTCOMES or (state is not StudyState.REPORTED and not reason):
            raise ValueError(f"no outcome: {state} with reason {reason!r}")
        now = self._clock()
        with database.writing(self._engine) as connection:
            ended = {"state": state, "reason": reason[:REASON_LENGTH], "owner": None, "lease_until": None}
            if not self._held(connection, claim, {**ended, "updated_at": now}):
                return False
            for entry in results:
                enter_result(connection, claim.study_id, claim.revision, entry, destinations, now)
            if reading is not None:
                analysis_records.record(connection, claim.study_id, claim.revision, reading, now)
        return True

    def release(self, claim: Claim, reason: str) -> None:
        """Give a claim back after a fault that may pass; the try does not count."""
        now = self._clock()
        values = {
            "state": StudyState.COMPLETE,
            "owner": None,
            "lease_until": None,
            "attempts": study.c.attempts - 1,
            "queued_at": now,
            "reason": reason[:REASON_LENGTH],
            "updated_at": now,
        }
        with database.writing(self._engine) as connection:
            self._held(connection, claim, values)

    def release_lapsed(self) -> int:
        """Make studies available again whose worker died or fell silent; return how many."""
        now = self._clock()
        with database.reading(self._engine) as connection:
            rows = connection.execute(
                select(study.c.id, study.c.owner, study.c.lease_until).where(
                    study.c.state == StudyState.ANALYSING
                )
            ).all()
        free = [row for row in rows if lapsed(row.owner, row.lease_until, now)]
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
                        updated_at=now,
                    )
                ).rowcount
        return count

    def _held(self, connection: Connection, claim: Claim, values: Mapping[str, object]) -> bool:
        changed = connection.execute(
            update(study)
            .where(
                study.c.id == claim.study_id,
                study.c.state == StudyState.ANALYSING,
                study.c.revision == claim.revision,
                study.c.owner == claim.owner,
            )
            .values(**values)
        ).rowcount
        return bool(changed)


def enter_result(
    connection: Connection,
    study_id: int,
    revision: int,
    entry: EncodedResult,
    destinations: Iterable[str],
    now: float,
) -> None:
    """Insert a result and its deliveries, within a transaction of the caller's."""
    key = connection.execute(
        result.insert().values(
            study_id=study_id,
            revision=revision,
            kind=entry.kind,
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


def _received(row: RowMapping, study_instance_uid: str) -> ReceivedInstance:
    return ReceivedInstance(
        study_instance_uid=study_instance_uid, **{name: row[name] for name in INSTANCE_FIELDS}
    )


def lapsed(owner: str | None, lease_until: float | None, now: float) -> bool:
    """Whether nobody holds a lease any more: it ran out, or its process ended."""
    return owner is None or lease_until is None or lease_until < now or Owner.parse(owner).dead
