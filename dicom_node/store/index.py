"""Index of the received studies and instances, until a study is ready for analysis.

Every method is one transaction. A method that changes something returns after the change is durable.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Sequence

from sqlalchemy import ColumnElement, Engine, and_, exists, func, or_, select, update

from dicom_node.errors import StorageFailed, StorageFull
from dicom_node.store import database
from dicom_node.store.group_commit import GroupCommit
from dicom_node.store.received_instances import Admission, ReceivedInstance, add_instances
from dicom_node.store.states import OUTCOMES, FileState, StudyState, study_sources
from dicom_node.store.tables import instance, prior, study

_LOG = logging.getLogger(__name__)

_BATCH = 500
_CONFLICTS = 5
"""Most tries after conflicting inserts, before the last one."""

TRIAL_HOST = "try-it"
"""Peer host of images that were uploaded on the page ``/try``: their results are sent to no destination."""


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
        self._receptions = GroupCommit(self._add_group)

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

        What several threads add at once is one transaction, see :mod:`dicom_node.store.group_commit`.

        Raises
        ------
        StorageFull, StorageFailed
            When the database did not commit: the sender must not be answered Success.
        """
        return self._receptions.commit(received)

    def _add_group(self, group: Sequence[ReceivedInstance]) -> Sequence[Admission | Exception]:
        """Add the instances of a group, in one transaction if possible; return the outcome of each."""
        if len(group) > 1:
            try:
                return self._add(group)
            except (database.KeyConflict, database.ValueRefused, database.Deadlock, StorageFull):
                pass
            except StorageFailed as error:
                # The database is away, busy or damaged: each alone would wait as long, and end alike.
                return [error] * len(group)
            except Exception as error:  # noqa: BLE001 - drivers raise anything for a value that they cannot take
                _LOG.debug("a group of %d instances: %r", len(group), error)
        # One of them cannot be added, or not with the others: it must not keep them out.
        return [self._add_alone(each) for each in group]

    def _add_alone(self, received: ReceivedInstance) -> Admission | Exception:
        # Another process may insert the same study or instance between our select and our insert (PostgreSQL
        # only: the writers of SQLite wait for each other). The next try sees it.
        try:
            for _ in range(_CONFLICTS):
                with contextlib.suppress(database.KeyConflict, database.Deadlock):
                    return self._add([received])[0]
            return self._add([received])[0]
        except Exception as error:  # noqa: BLE001 - it is the outcome of this instance, and of no other
            return error

    def _add(self, group: Sequence[ReceivedInstance]) -> list[Admission]:
        now = self._clock()
        with database.writing(self.engine) as connection:
            return add_instances(connection, group, now)

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

    def retry(
        self,
        study_instance_uids: Sequence[str] = (),
        *,
        states: Sequence[StudyState] = (),
        override_gate: bool = False,
    ) -> int:
        """Have studies analysed again, as a new revision; return their number.

        A study with a film that was purged is left as it is: its report could not be made again.

        Parameters
        ----------
        study_instance_uids
            Studies to retry; all when empty.
        states
            Only studies in one of these outcomes; only FAILED when empty.
        override_gate
            True to read films that the gate refuses too, until the next new revision.
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
                update(study)
                .where(condition)
                .values(
                    _completed(now) | {"revision": study.c.revision + 1, "gate_overridden": override_gate}
                )
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
