"""Index of the received studies and instances, until a study is ready for analysis.

Every method is one transaction. A method that changes something returns after the change is durable.
"""

from __future__ import annotations

import contextlib
import enum
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, Row, and_, exists, func, or_, select, update

from dicom_node.store import database, stored_damage
from dicom_node.store.prior_requests import is_prior
from dicom_node.store.states import OUTCOMES, FileState, StudyState, study_sources
from dicom_node.store.tables import instance, prior, result, study

_BATCH = 500
_CONFLICTS = 5
"""Most tries after conflicting inserts, before the last one."""


TRIAL_HOST = "try-it"
"""Peer host of images that were uploaded on the page ``/try``: their results are sent to no destination."""


class Admission(enum.Enum):
    """Outcome of adding an instance to the index."""

    NEW = "new"
    REPEATED = "repeated"  # same UID, same bytes
    REPAIRED = "repeated, and repaired"  # the same, whose stored file was damaged or missing
    RESTORED = "stored again"  # as repeated, but its file had been purged
    SET_ASIDE = "set aside"  # kept apart, see SetAsideReason
    PRIOR = "a prior"  # set aside because the node asked for it


class SetAsideReason(enum.StrEnum):
    """Reason why an instance is kept but not analysed, and opens no revision of its study."""

    CONFLICT = "conflict"  # same UID as an earlier instance, different bytes
    OWN_RESULT = "own result"  # written by a dicom-node: to analyse it would be an endless loop
    PRIOR = "prior"  # fetched by the node for the comparison with another study


@dataclass(frozen=True, slots=True)
class ReceivedInstance:
    """Received instance whose file is already durable.

    Attributes
    ----------
    digest
        SHA-256 of its encoded data set, see :class:`dicom_node.store.files.StoredFile`.
    size
        Size of the file, in bytes.
    file
        Name in the spool.
    calling_ae, peer_host
        AE title and host of the sender.
    own_result
        Whether its header says that a dicom-node wrote it.
    moved_for
        AE title of the node that asked the sender to send it by C-MOVE (Move Originator, PS3.7 9.1.1.1);
        empty when the sender names none.
    move_message_id
        Message ID of that C-MOVE (Move Originator Message ID); 0 when the sender names none.
    from_source
        Whether it came from an address of the source of priors.
    placed_at
        Time at which its file was placed; 0 when it was there already, see
        :class:`dicom_node.store.files.StoredFile`.
    """

    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    study_instance_uid: str
    series_instance_uid: str
    digest: str
    size: int
    file: str
    calling_ae: str
    peer_host: str
    own_result: bool = False
    moved_for: str = ""
    move_message_id: int = 0
    from_source: bool = False
    placed_at: float = 0.0


class Index:
    """Index of studies and instances.

    Parameters
    ----------
    engine
        Engine from :func:`dicom_node.store.database.connect`; its schema is current.
    clock
        Function that returns the time in seconds since the epoch; tests pass another one.
    """

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.time) -> None:
        self.engine = engine
        self._clock = clock

    @classmethod
    def open(cls, address: str, *, create: bool = True) -> Index:
        """Connect to a database and bring its schema up to date.

        Parameters
        ----------
        create
            False for a part of a running node: that the file of SQLite is not there is then an error.

        Raises
        ------
        StorageFailed
            When the database does not answer; IndexDamaged when it is damaged or not there.
        """
        engine = database.connect(address, create=create)
        database.migrate(engine)
        return cls(engine)

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()

    # -- receiving ---------------------------------------------------------------------------------

    def add_instance(self, received: ReceivedInstance) -> Admission:
        """Add a received instance; a late one opens a new revision of its study.

        Raises
        ------
        StorageFull, StorageFailed
            When the database did not commit: the sender must not be answered Success.
        """
        # Another process may insert the same study or instance between our select and our insert (PostgreSQL
        # only: the writers of SQLite wait for each other). The next try sees it.
        for _ in range(_CONFLICTS):
            with contextlib.suppress(database.KeyConflict):
                return self._add_instance(received)
        return self._add_instance(received)

    def _add_instance(self, received: ReceivedInstance) -> Admission:
        now = self._clock()
        with database.writing(self.engine) as connection:
            known = connection.execute(
                select(
                    instance.c.id,
                    instance.c.digest,
                    instance.c.set_aside,
                    instance.c.received_at,
                    instance.c.file_state,
                ).where(instance.c.sop_instance_uid == received.sop_instance_uid)
            ).all()
            asked_for = is_prior(connection, received, now)
            aside: SetAsideReason | None = None
            if received.own_result or _is_result(connection, received.sop_instance_uid):
                aside = SetAsideReason.OWN_RESULT
            elif asked_for:
                aside = SetAsideReason.PRIOR
            elif any(
                row.digest != received.digest and row.set_aside != SetAsideReason.PRIOR for row in known
            ):
                aside = SetAsideReason.CONFLICT
            admission = Admission.SET_ASIDE if aside else Admission.NEW
            if aside is SetAsideReason.PRIOR:
                admission = Admission.PRIOR
            for row in known:
                if row.digest == received.digest:
                    # An instance that came as a prior and is now sent by a peer counts as new.
                    if row.set_aside == SetAsideReason.PRIOR and not asked_for:
                        _receive_again(connection, row, received, now, set_aside=aside or "")
                        _enter_study(connection, received.study_instance_uid, now, revises=aside is None)
                        return admission
                    return _receive_again(connection, row, received, now, set_aside=row.set_aside)
            study_id = _enter_study(
                connection, received.study_instance_uid, now, revises=aside is None, asked_for=asked_for
            )
            connection.execute(
                instance.insert().values(
                    study_id=study_id,
                    **{name: getattr(received, name) for name in INSTANCE_FIELDS},
                    received_at=now,
                    set_aside=aside or "",
                )
            )
        return admission

    # -- completion and queueing ---------------------------------------------------------------------

    def complete_due(self, quiet_seconds: float, forced_seconds: float) -> int:
        """Complete every study that is due; return their number.

        Parameters
        ----------
        quiet_seconds
            A study is complete when no instance came for so long.
        forced_seconds
            A study is complete at the latest so long after its first instance.
        """
        now = self._clock()
        with database.reading(self.engine) as connection:
            due = and_(
                study.c.state == StudyState.RECEIVING,
                or_(
                    database.elapsed(study.c.last_received_at, now, quiet_seconds),
                    database.elapsed(study.c.first_received_at, now, forced_seconds),
                ),
            )
            ids = connection.execute(select(study.c.id).where(due).limit(_BATCH)).scalars().all()
        if not ids:
            return 0
        with database.writing(self.engine) as connection:
            return connection.execute(
                update(study).where(study.c.id.in_(ids), due).values(_completed(now))
            ).rowcount

    def take_queueable(
        self, requeue_seconds: float, prior_seconds: float | None = None, *, messages_wait: bool = False
    ) -> list[tuple[str, int]]:
        """Return (Study Instance UID, revision) of complete studies to queue, and mark them as queued.

        A study that was queued but that no worker has leased is returned again after `requeue_seconds` when
        its message is lost: a lost queue costs time, but no study.

        Parameters
        ----------
        prior_seconds
            Longest time that a study waits for the search for its prior; None when no priors are looked for.
        messages_wait
            Whether messages wait in the queue. A message comes out in the order in which it went in, so a
            study's own may be among them until a worker has begun a study that was queued later.
        """
        now = self._clock()
        lost = database.elapsed(study.c.queued_at, now, requeue_seconds)
        if messages_wait:
            begun = study.alias()
            last = select(func.max(begun.c.queued_at)).where(begun.c.state == StudyState.ANALYSING)
            overtaken = study.c.queued_at < last.scalar_subquery()
            lost = and_(lost, or_(overtaken, database.in_future(study.c.queued_at, now)))
        wanted = and_(study.c.state == StudyState.COMPLETE, or_(study.c.queued_at.is_(None), lost))
        if prior_seconds is not None:
            known = exists().where(prior.c.study_id == study.c.id, prior.c.revision == study.c.revision)
            wanted = and_(wanted, or_(known, database.elapsed(study.c.completed_at, now, prior_seconds)))
        columns = (study.c.study_instance_uid, study.c.revision)
        with database.reading(self.engine) as connection:
            if connection.execute(select(study.c.id).where(wanted).limit(1)).first() is None:
                return []
        with database.writing(self.engine) as connection:
            rows = connection.execute(
                select(study.c.id, *columns).where(wanted).order_by(study.c.completed_at).limit(_BATCH)
            ).all()
            connection.execute(
                update(study).where(study.c.id.in_([row.id for row in rows])).values(queued_at=now)
            )
        return [(row.study_instance_uid, row.revision) for row in rows]

    def study_id(self, study_instance_uid: str) -> int | None:
        """Return the number of a study, by which messages name it; None when there is none."""
        query = select(study.c.id).where(study.c.study_instance_uid == study_instance_uid)
        with database.reading(self.engine) as connection:
            return connection.execute(query).scalar_one_or_none()

    def study_uid(self, study_id: int) -> str | None:
        """Return the Study Instance UID of a number; None when there is no such study."""
        query = select(study.c.study_instance_uid).where(study.c.id == study_id)
        with database.reading(self.engine) as connection:
            return connection.execute(query).scalar_one_or_none()

    def unqueue(self, study_instance_uid: str, revision: int) -> None:
        """Undo the mark of :meth:`take_queueable`: the queue did not accept the study."""
        with database.writing(self.engine) as connection:
            connection.execute(
                update(study)
                .where(study.c.study_instance_uid == study_instance_uid, study.c.revision == revision)
                .values(queued_at=None)
            )

    def complete(self, study_instance_uid: str) -> bool:
        """Complete a study now, because nothing more will come; False when it is not being received."""
        now = self._clock()
        with database.writing(self.engine) as connection:
            return bool(
                connection.execute(
                    update(study)
                    .where(
                        study.c.study_instance_uid == study_instance_uid,
                        study.c.state == StudyState.RECEIVING,
                    )
                    .values(_completed(now))
                ).rowcount
            )

    # -- retry ---------------------------------------------------------------------------------------

    def retry(self, study_instance_uids: Sequence[str] = (), *, states: Sequence[StudyState] = ()) -> int:
        """Have studies analysed again, as a new revision; return their number.

        A study with a film that was purged is left as it is: its report could not be made again.

        Parameters
        ----------
        study_instance_uids
            Studies to retry; all when empty.
        states
            Only studies in one of these outcomes; only FAILED when empty.
        """
        wanted = set(states or (StudyState.FAILED,)) & set(study_sources(StudyState.COMPLETE)) & OUTCOMES
        now = self._clock()
        purged = exists().where(
            instance.c.study_id == study.c.id,
            instance.c.set_aside == "",
            instance.c.file_state != FileState.KEPT,
        )
        condition: ColumnElement[bool] = and_(study.c.state.in_(sorted(wanted)), ~purged)
        if study_instance_uids:
            condition = and_(condition, study.c.study_instance_uid.in_(study_instance_uids))
        with database.writing(self.engine) as connection:
            return connection.execute(
                update(study).where(condition).values(_completed(now) | {"revision": study.c.revision + 1})
            ).rowcount


def _completed(now: float) -> dict[str, object]:
    """Return the columns of a study that waits for its analysis."""
    return {
        "state": StudyState.COMPLETE,
        "completed_at": now,
        "queued_at": None,
        "attempts": 0,
        "reason": "",
        "updated_at": now,
    }


def _receive_again(
    connection: Connection,
    known: Row[*tuple[Any, ...]],
    received: ReceivedInstance,
    now: float,
    *,
    set_aside: str,
) -> Admission:
    """Record a further reception of an instance, with what it means for the file that was stored first."""
    purged = known.file_state != FileState.KEPT
    # The row is older than the file: that of the first reception was damaged or missing.
    repaired = not purged and received.placed_at > known.received_at
    connection.execute(
        update(instance)
        .where(instance.c.id == known.id)
        .values(receptions=instance.c.receptions + 1, set_aside=set_aside)
    )
    uid = received.study_instance_uid
    if purged:
        _restore(connection, known.id, now)
        if not known.set_aside:
            _reenter_study(connection, uid, now)
        return Admission.RESTORED
    if repaired:
        _record_repair(connection, known.id, received, now)
        if not known.set_aside and _gave_up(connection, received):
            _enter_study(connection, uid, now, revises=True)
        return Admission.REPAIRED
    return Admission.REPEATED


def _record_repair(connection: Connection, key: int, received: ReceivedInstance, now: float) -> None:
    connection.execute(
        update(instance)
        .where(instance.c.id == key)
        .values(size=received.size, transfer_syntax_uid=received.transfer_syntax_uid, repaired_at=now)
    )
    stored_damage.mark_mended(connection, received.file, now)


def _gave_up(connection: Connection, received: ReceivedInstance) -> bool:
    """Return whether the study ended without a reading, for which the damaged file may be the reason."""
    ended = study.c.state.in_([StudyState.FAILED, StudyState.SKIPPED])
    query = select(study.c.id).where(study.c.study_instance_uid == received.study_instance_uid, ended)
    return connection.execute(query).first() is not None


def _restore(connection: Connection, instance_id: int, now: float) -> None:
    """Take a purged instance back to KEPT, as old as its new reception."""
    connection.execute(
        update(instance)
        .where(instance.c.id == instance_id, instance.c.file_state != FileState.KEPT)
        .values(file_state=FileState.KEPT, purged_at=None, purged_by="", received_at=now)
    )


def _reenter_study(connection: Connection, uid: str, now: float) -> None:
    """Have the study of a restored film analysed, unless its report stands: the film says nothing new."""
    query = select(study.c.state).where(study.c.study_instance_uid == uid).with_for_update()
    if connection.execute(query).scalar_one() != StudyState.REPORTED:
        _enter_study(connection, uid, now, revises=True)


def _is_result(connection: Connection, sop_instance_uid: str) -> bool:
    query = select(result.c.id).where(result.c.sop_instance_uid == sop_instance_uid)
    return connection.execute(query).first() is not None


def _enter_study(
    connection: Connection, uid: str, now: float, *, revises: bool, asked_for: bool = False
) -> int:
    """Insert the study of an instance, or update it; return its number.

    Parameters
    ----------
    revises
        Whether the instance is to be analysed: a study that was complete then gets a new revision.
    asked_for
        Whether the node requested the study as a prior.
    """
    row = connection.execute(
        select(study.c.id, study.c.state).where(study.c.study_instance_uid == uid).with_for_update()
    ).first()
    if row is None:
        created = connection.execute(
            study.insert().values(
                study_instance_uid=uid,
                state=StudyState.PRIOR if asked_for else StudyState.RECEIVING,
                revision=0 if asked_for else 1,  # when a peer sends it later, it begins with 1 as usual
                first_received_at=now,
                last_received_at=now,
                updated_at=now,
            )
        ).inserted_primary_key
        return int(created[0])  # type: ignore[index]
    if not revises:
        return int(row.id)
    values: dict[str, object] = {"last_received_at": now, "updated_at": now}
    if row.state != StudyState.RECEIVING:
        values |= {
            "state": StudyState.RECEIVING,
            "revision": study.c.revision + 1,
            "first_received_at": now,
            "owner": None,
            "lease_until": None,
            "reason": "",
        }
    connection.execute(update(study).where(study.c.id == row.id).values(**values))
    return int(row.id)


# Fields of a received instance that are columns of ``instance``.
INSTANCE_FIELDS = (
    "sop_instance_uid",
    "sop_class_uid",
    "transfer_syntax_uid",
    "series_instance_uid",
    "digest",
    "size",
    "file",
    "calling_ae",
    "peer_host",
)
