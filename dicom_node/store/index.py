"""What was received: studies and their instances, up to the point where a study is ready for analysis.

Every method is one transaction. A method that changes something returns after the change is durable.
"""

from __future__ import annotations

import contextlib
import enum
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, Engine, and_, exists, or_, select, update

from dicom_node.store import database
from dicom_node.store.states import OUTCOMES, StudyState, sources
from dicom_node.store.tables import instance, prior, prior_request, result, study

_BATCH = 500
_CLASHES = 5
_CLOCK_SLACK = 60.0
_PRIOR_ARRIVES = 3600.0
"""So long after it was asked for, a study that comes is still a prior, seconds."""


TRIED = "try-it"
"""Peer host of what came by the reading room to be tried out: its results go nowhere."""


class Admission(enum.Enum):
    """What the index made of an instance."""

    NEW = "new"
    REPEATED = "repeated"  # same UID, same bytes
    SET_ASIDE = "set aside"  # kept apart, see SetAside
    PRIOR = "a prior"  # set aside because the node asked for it


class SetAside(enum.StrEnum):
    """Why an instance is kept but never analysed, and opens no revision of its study."""

    CONFLICT = "conflict"  # same UID as an earlier instance, other bytes
    OWN_RESULT = "own result"  # written by this node or another one: analysing it would never end
    PRIOR = "prior"  # came because the node asked for it, to compare another study with it


@dataclass(frozen=True, slots=True)
class ReceivedInstance:
    """An instance whose file is already durable.

    Attributes
    ----------
    own_result
        Whether its header says that a dicom-node wrote it.
    moved_for
        AE title of whoever asked its sender to send it (Move Originator, PS3.7 9.1.1.1); empty for nobody.
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


class Index:
    """The tables of studies and instances.

    Parameters
    ----------
    engine
        From :func:`dicom_node.store.database.connect`; its schema is current.
    clock
        Returns seconds since the epoch; another one in tests.
    """

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.time) -> None:
        self.engine = engine
        self._clock = clock

    @classmethod
    def open(cls, address: str) -> Index:
        """Connect to a database and bring its schema up to date."""
        engine = database.connect(address)
        database.migrate(engine)
        return cls(engine)

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()

    # -- receiving ---------------------------------------------------------------------------------

    def add_instance(self, received: ReceivedInstance) -> Admission:
        """Enter a received instance; a late one opens a new revision of its study.

        Raises
        ------
        StorageFull, StorageFailed
            When the database did not take it: the sender must not be told Success.
        """
        # Another process may enter the same study or instance between our look and our insert (PostgreSQL
        # only: SQLite's writers wait for each other). The next time, it is there to be seen.
        for _ in range(_CLASHES):
            with contextlib.suppress(database.Clashed):
                return self._add_instance(received)
        return self._add_instance(received)

    def _add_instance(self, received: ReceivedInstance) -> Admission:
        now = self._clock()
        with database.writing(self.engine) as connection:
            known = connection.execute(
                select(instance.c.id, instance.c.digest, instance.c.set_aside).where(
                    instance.c.sop_instance_uid == received.sop_instance_uid
                )
            ).all()
            asked_for = _is_prior(connection, received, now)
            aside: SetAside | None = None
            if received.own_result or _is_result(connection, received.sop_instance_uid):
                aside = SetAside.OWN_RESULT
            elif asked_for:
                aside = SetAside.PRIOR
            elif any(row.digest != received.digest and row.set_aside != SetAside.PRIOR for row in known):
                aside = SetAside.CONFLICT
            admission = Admission.SET_ASIDE if aside else Admission.NEW
            if aside is SetAside.PRIOR:
                admission = Admission.PRIOR
            for row in known:
                if row.digest == received.digest:
                    # What came as a prior and is now sent by somebody is as new.
                    sent = row.set_aside == SetAside.PRIOR and not asked_for
                    connection.execute(
                        update(instance)
                        .where(instance.c.id == row.id)
                        .values(
                            receptions=instance.c.receptions + 1,
                            set_aside=(aside or "") if sent else row.set_aside,
                        )
                    )
                    if sent:
                        _enter_study(connection, received.study_instance_uid, now, revises=aside is None)
                    return admission if sent else Admission.REPEATED
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
        """Close every study that has been quiet, or open, for long enough; return how many."""
        now = self._clock()
        with database.reading(self.engine) as connection:
            due = and_(
                study.c.state == StudyState.RECEIVING,
                or_(
                    older(study.c.last_received_at, now, quiet_seconds),
                    older(study.c.first_received_at, now, forced_seconds),
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
        self, requeue_seconds: float, prior_seconds: float | None = None
    ) -> list[tuple[str, int]]:
        """Return (Study Instance UID, revision) of complete studies to queue, and note that they were.

        A study that was queued and not claimed is returned again after `requeue_seconds`, so a lost
        queue costs time and no study.

        Parameters
        ----------
        prior_seconds
            How long a study waits until it is known whether it has a prior; None when none is looked for.
        """
        now = self._clock()
        wanted = and_(
            study.c.state == StudyState.COMPLETE,
            or_(study.c.queued_at.is_(None), older(study.c.queued_at, now, requeue_seconds)),
        )
        if prior_seconds is not None:
            known = exists().where(prior.c.study_id == study.c.id, prior.c.revision == study.c.revision)
            wanted = and_(wanted, or_(known, older(study.c.completed_at, now, prior_seconds)))
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

    def unqueue(self, study_instance_uid: str, revision: int) -> None:
        """Take back the note of :meth:`take_queueable`: the queue did not accept the study."""
        with database.writing(self.engine) as connection:
            connection.execute(
                update(study)
                .where(study.c.study_instance_uid == study_instance_uid, study.c.revision == revision)
                .values(queued_at=None)
            )

    def complete(self, study_instance_uid: str) -> bool:
        """Close a study of which nothing more will come; False when it is not open."""
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

    # -- by hand -------------------------------------------------------------------------------------

    def retry(self, study_instance_uids: Sequence[str] = (), *, states: Sequence[StudyState] = ()) -> int:
        """Analyse studies again, as a new revision; return how many were taken.

        Parameters
        ----------
        study_instance_uids
            Which; all when empty.
        states
            Only studies in one of these outcomes; FAILED alone when empty.
        """
        wanted = set(states or (StudyState.FAILED,)) & set(sources(StudyState.COMPLETE)) & OUTCOMES
        now = self._clock()
        condition: ColumnElement[bool] = study.c.state.in_(sorted(wanted))
        if study_instance_uids:
            condition = and_(condition, study.c.study_instance_uid.in_(study_instance_uids))
        with database.writing(self.engine) as connection:
            return connection.execute(
                update(study).where(condition).values(_completed(now) | {"revision": study.c.revision + 1})
            ).rowcount


def _completed(now: float) -> dict[str, object]:
    """What a study that waits for its first claim has in its row."""
    return {
        "state": StudyState.COMPLETE,
        "completed_at": now,
        "queued_at": None,
        "attempts": 0,
        "reason": "",
        "updated_at": now,
    }


def _is_result(connection: Connection, sop_instance_uid: str) -> bool:
    query = select(result.c.id).where(result.c.sop_instance_uid == sop_instance_uid)
    return connection.execute(query).first() is not None


def _is_prior(connection: Connection, received: ReceivedInstance, now: float) -> bool:
    """Whether an instance comes because the node asked for its study to compare another one with it.

    The sender says for whom it sends; one that does not say so is believed to be the one that was asked.
    """
    asked = connection.execute(
        select(prior_request).where(prior_request.c.study_instance_uid == received.study_instance_uid)
    ).first()
    if asked is None or asked.asked_at < now - _PRIOR_ARRIVES:
        return False
    if received.moved_for:
        return bool(received.moved_for == asked.move_destination)
    return bool(received.calling_ae == asked.source_ae)


def _enter_study(
    connection: Connection, uid: str, now: float, *, revises: bool, asked_for: bool = False
) -> int:
    row = connection.execute(
        select(study.c.id, study.c.state).where(study.c.study_instance_uid == uid).with_for_update()
    ).first()
    if row is None:
        created = connection.execute(
            study.insert().values(
                study_instance_uid=uid,
                state=StudyState.PRIOR if asked_for else StudyState.RECEIVING,
                revision=0 if asked_for else 1,  # sent by somebody, it begins with 1 as any other
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


def older(column: ColumnElement[float], now: float, seconds: float) -> ColumnElement[bool]:
    """Return the condition that a time lies at least so many seconds back."""
    return or_(column <= now - seconds, ahead(column, now))


def ahead(column: ColumnElement[float], now: float) -> ColumnElement[bool]:
    """Return the condition that something happened in the future.

    It means that the clock was set back: to wait for that moment could take days.
    """
    return column > now + _CLOCK_SLACK
