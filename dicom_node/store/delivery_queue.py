"""Queue of deliveries: each result that a destination is to get, and the state of its delivery."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, case, exists, func, or_, select, true, update

from dicom_node.errors import StorageFailed, StorageFull
from dicom_node.runtime.lease_owner import LeaseOwner
from dicom_node.store import database
from dicom_node.store.analysis_leases import lease_expired, storable_reason
from dicom_node.store.states import (
    DELIVERY_TRANSITIONS,
    Confirmation,
    DeliveryEvent,
    FileState,
    ResultState,
    next_delivery_state,
)
from dicom_node.store.tables import delivery, result, study

STATE_NOW = case((result.c.withdrawn_at.is_not(None), ResultState.WITHDRAWN.value), else_=delivery.c.state)
"""State of a delivery to count, where ``delivery`` is joined with ``result``: a result that was withdrawn is
withdrawn, even where a destination has it."""

ENDED = (ResultState.CONFIRMED, ResultState.WITHDRAWN)
"""States in which an error of an earlier try is of no interest any more."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """Delivery of one result to one destination, leased for a try.

    Attributes
    ----------
    state
        ENCODED: the result is to be sent; SENT: it is to be confirmed.
    attempts
        Number of tries to send it so far.
    inquiries
        Number of times that the destination, since it took the result, was asked whether it keeps it.
    """

    id: int
    destination: str
    state: ResultState
    kind: str
    sop_instance_uid: str
    sop_class_uid: str
    file: str
    digest: str
    study_instance_uid: str
    attempts: int
    inquiries: int


@dataclass(frozen=True, slots=True)
class DestinationBacklog:
    """Deliveries to one destination, counted by state.

    Attributes
    ----------
    states
        Number of deliveries in each state.
    oldest
        Time at which the oldest waiting result was made, in seconds since the epoch; None when none waits.
    error
        Error of the last failed try, to send or to confirm, that is still open; empty when there is none.
    """

    destination: str
    states: dict[ResultState, int]
    oldest: float | None
    error: str


def apply_event(
    connection: Connection,
    event: DeliveryEvent,
    selected: ColumnElement[bool],
    now: float,
    *,
    release: bool = True,
    **values: Any,
) -> int:
    """Change the state of deliveries after an event, within the caller's transaction.

    Every change of a delivery's state is made here, by :data:`dicom_node.store.states.DELIVERY_TRANSITIONS`.

    Parameters
    ----------
    selected
        Condition on the deliveries that the event happened to; those in a state in which it does nothing are
        left as they are.
    now
        Time of the event, in seconds since the epoch.
    release
        Whether the lease ends.
    values
        Further columns of ``delivery`` to set.

    Returns
    -------
    int
        Number of deliveries that were changed.
    """
    following, sources = _transition(event)
    lease = {"owner": None, "lease_until": None} if release else {}
    return connection.execute(
        update(delivery)
        .where(selected, sources)
        .values(**{**lease, "state": following, "updated_at": now, **values})
    ).rowcount


@functools.cache
def _transition(event: DeliveryEvent) -> tuple[ColumnElement[str], ColumnElement[bool]]:
    """State after an event, and whether the event does anything in the state before.

    Made once for each event: a sender needs them for every result.
    """
    withdrawn = exists().where(result.c.id == delivery.c.result_id, result.c.withdrawn_at.is_not(None))
    sources = DELIVERY_TRANSITIONS[event]
    following = case(
        *(
            (
                and_(delivery.c.state == state, withdrawn if taken_back else ~withdrawn),
                next_delivery_state(event, state, withdrawn=taken_back).value,
            )
            for state in sources
            for taken_back in (False, True)
        )
    )
    return following, delivery.c.state.in_(sorted(sources))


_WITH_RESULT = (
    select(
        delivery.c.id,
        delivery.c.destination,
        delivery.c.state,
        delivery.c.attempts,
        delivery.c.inquiries,
        delivery.c.owner,
        delivery.c.lease_until,
        result.c.kind,
        result.c.sop_instance_uid,
        result.c.sop_class_uid,
        result.c.file,
        result.c.digest,
        study.c.study_instance_uid,
    )
    .select_from(
        delivery.join(result, delivery.c.result_id == result.c.id).join(
            study, result.c.study_id == study.c.id
        )
    )
    # Of those that wait for the same moment the least tried come first: what a destination could not take
    # at the last try does not keep the others waiting again.
    .order_by(delivery.c.next_try_at, delivery.c.attempts, result.c.id)
)
"""Deliveries with what is sent of their results, in the order in which they are taken."""


class DeliveryQueue(database.Repository):
    """Deliveries of one node: the one that has been due longest comes first."""

    def take(
        self,
        destination: str,
        owner: LeaseOwner,
        lease_seconds: float,
        limit: int = 50,
        *,
        state: ResultState = ResultState.ENCODED,
    ) -> list[Delivery]:
        """Lease the due deliveries of one destination.

        Parameters
        ----------
        lease_seconds
            Time after which another process may take them over.
        limit
            Most deliveries to take.
        state
            ENCODED to send them, SENT to have them confirmed.
        """
        now = self._clock()
        due = and_(
            delivery.c.destination == destination,
            delivery.c.state == state,
            or_(delivery.c.next_try_at <= now, database.in_future(delivery.c.updated_at, now)),
        )
        others: set[str] = set()  # processes whose leases are in force
        with database.reading(self._engine) as connection:
            while True:
                not_held = or_(
                    delivery.c.owner.is_(None),
                    delivery.c.owner.not_in(others),
                    delivery.c.lease_until < now,
                )
                rows = connection.execute(_WITH_RESULT.where(due, not_held).limit(limit)).all()
                free = [row for row in rows if lease_expired(row.owner, row.lease_until, now)]
                if free or len(rows) < limit:
                    break
                # What other processes are sending must not hide what waits behind it.
                others |= {row.owner for row in rows}
        if not free:
            return []
        # As they were read, which nearly always is: held by nobody, so that one statement takes all.
        held: dict[tuple[str | None, float | None], list[int]] = {}
        for row in free:
            held.setdefault((row.owner, row.lease_until), []).append(row.id)
        ours: set[int] = set()
        with database.writing(self._engine) as connection:
            for (holder, until), ids in held.items():
                ours.update(
                    connection.scalars(
                        update(delivery)
                        .where(
                            delivery.c.id.in_(ids),
                            due,
                            delivery.c.owner.is_not_distinct_from(holder),
                            delivery.c.lease_until.is_not_distinct_from(until),
                        )
                        .values(owner=str(owner), lease_until=now + lease_seconds)
                        .returning(delivery.c.id)
                    )
                )
        taken = [row for row in free if row.id in ours]
        return [
            Delivery(**{name: getattr(row, name) for name in Delivery.__dataclass_fields__}) for row in taken
        ]

    @contextlib.contextmanager
    def renewed(self, entries: Sequence[Delivery], owner: LeaseOwner, lease_seconds: float) -> Iterator[None]:
        """Renew the leases of deliveries until the end of the block, as far as they have not ended."""
        done = threading.Event()

        def renew() -> None:
            while not done.wait(lease_seconds / 3):
                with contextlib.suppress(StorageFailed, StorageFull):
                    self.renew(entries, owner, lease_seconds)

        thread = threading.Thread(target=renew, name="delivery leases", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def renew(self, entries: Sequence[Delivery], owner: LeaseOwner, lease_seconds: float) -> int:
        """Extend the leases that the owner still has; return their number."""
        held = and_(delivery.c.id.in_([entry.id for entry in entries]), delivery.c.owner == str(owner))
        with database.writing(self._engine) as connection:
            return connection.execute(
                update(delivery).where(held).values(lease_until=self._clock() + lease_seconds)
            ).rowcount

    def give_back(self, entries: Sequence[Delivery], owner: LeaseOwner) -> None:
        """End the leases of deliveries that were not tried."""
        held = and_(delivery.c.id.in_([entry.id for entry in entries]), delivery.c.owner == str(owner))
        with database.writing(self._engine) as connection:
            connection.execute(update(delivery).where(held).values(owner=None, lease_until=None))

    def mark_sent(self, entry: Delivery, seconds: float = 0) -> None:
        """Record that the destination answered Success, and when to ask first whether it keeps the result.

        Parameters
        ----------
        seconds
            Shortest time until then. Results that were sent within so many seconds are due at the same
            moment, so that one question asks for all of them.
        """
        now = self._clock()
        self._apply(
            entry,
            DeliveryEvent.TAKEN,
            error="",
            attempts=entry.attempts + 1,
            inquiries=0,
            sent_at=now,
            next_try_at=(now // seconds + 2) * seconds if seconds else now,
        )

    def mark_rejected(self, entry: Delivery, error: str) -> None:
        """Record that the destination will never take the result."""
        self._apply(entry, DeliveryEvent.REJECTED, error=error, attempts=entry.attempts + 1)

    def mark_confirmed(self, entry: Delivery, by: Confirmation) -> None:
        """Record that the destination keeps the result."""
        self._apply(entry, DeliveryEvent.CONFIRMED, error="", confirmed_by=by)

    def mark_unconfirmed(self, entry: Delivery, error: str, seconds: float) -> None:
        """Record that the destination did not say whether it keeps the result; ask again after `seconds`."""
        self._apply(
            entry,
            DeliveryEvent.UNCONFIRMED,
            error=error,
            inquiries=entry.inquiries + 1,
            next_try_at=self._clock() + seconds,
        )

    def mark_lost(self, entry: Delivery, error: str, seconds: float) -> None:
        """Record that the destination took the result but has it no more; send it again after `seconds`.

        A result that was withdrawn is not sent again.
        """
        self._apply(entry, DeliveryEvent.LOST, error=error, next_try_at=self._clock() + seconds)

    def postpone(self, entry: Delivery, error: str, seconds: float) -> None:
        """Record a failed try to send one result; the next one is due after `seconds`."""
        self._apply(
            entry,
            DeliveryEvent.POSTPONED,
            error=error,
            attempts=entry.attempts + 1,
            next_try_at=self._clock() + seconds,
        )

    def pause(self, destination: str, owner: LeaseOwner, error: str, seconds: float) -> int:
        """Record that a destination takes nothing at present: no result is due before `seconds` are over.

        Results that another sender holds are left alone. Results that are made later are due at once.

        Returns
        -------
        int
            Number of results that wait.
        """
        now = self._clock()
        waiting = and_(
            delivery.c.destination == destination,
            delivery.c.state == ResultState.ENCODED,
            or_(delivery.c.owner.is_(None), delivery.c.owner == str(owner), delivery.c.lease_until < now),
            or_(delivery.c.next_try_at < now + seconds, database.in_future(delivery.c.updated_at, now)),
        )
        with database.writing(self._engine) as connection:
            return apply_event(
                connection,
                DeliveryEvent.POSTPONED,
                waiting,
                now,
                error=storable_reason(error),
                next_try_at=now + seconds,
            )

    def _apply(self, entry: Delivery, event: DeliveryEvent, *, error: str, **values: Any) -> None:
        next_delivery_state(event, entry.state, withdrawn=False)  # raises when there is no such transition
        with database.writing(self._engine) as connection:
            apply_event(
                connection,
                event,
                delivery.c.id == entry.id,
                self._clock(),
                error=storable_reason(error),
                **values,
            )

    def retry(self, destinations: Sequence[str] = ()) -> int:
        """Make rejected deliveries, and those that wait for their next try, due now; return their number.

        Results that a destination took are not sent again; it is asked at once whether it keeps them. A
        rejected result that was purged stays rejected.

        Parameters
        ----------
        destinations
            Names; all destinations when empty.
        """
        chosen = delivery.c.destination.in_(destinations) if destinations else true()
        now = self._clock()
        kept = select(result.c.id).where(result.c.file_state == FileState.KEPT)
        rejected = and_(delivery.c.state == ResultState.REJECTED, delivery.c.result_id.in_(kept))
        waits = or_(rejected, delivery.c.next_try_at > now)
        with database.writing(self._engine) as connection:
            connection.execute(
                update(delivery).where(chosen, delivery.c.state == ResultState.SENT).values(next_try_at=now)
            )
            return apply_event(
                connection, DeliveryEvent.RETRIED, chosen & waits, now, release=False, next_try_at=now
            )

    def resume(self, destination: str) -> int:
        """Make the results that wait for a destination's next try due now; return their number.

        A sender that starts does so: what it failed of before may have been mended meanwhile, such as the
        address. Results that another sender holds, and those that were rejected, are left alone.
        """
        now = self._clock()
        waiting = and_(
            delivery.c.destination == destination,
            delivery.c.state == ResultState.ENCODED,
            or_(delivery.c.owner.is_(None), delivery.c.lease_until < now),
            delivery.c.next_try_at > now,
        )
        with database.writing(self._engine) as connection:
            return int(connection.execute(update(delivery).where(waiting).values(next_try_at=now)).rowcount)

    def backlogs(self) -> list[DestinationBacklog]:
        """Return the backlog of every destination that ever had a delivery, by name."""
        waiting = delivery.c.state == ResultState.ENCODED
        with database.reading(self._engine) as connection:
            counts = connection.execute(
                select(delivery.c.destination, STATE_NOW, func.count())
                .join(result, delivery.c.result_id == result.c.id)
                .group_by(delivery.c.destination, STATE_NOW)
                .order_by(delivery.c.destination)
            ).all()
            oldest = database.as_mapping(
                connection,
                select(delivery.c.destination, func.min(result.c.created_at))
                .join(result, delivery.c.result_id == result.c.id)
                .where(waiting)
                .group_by(delivery.c.destination),
            )
            # Of several rows of a destination the last one wins: the latest try.
            errors = database.as_mapping(
                connection,
                select(delivery.c.destination, delivery.c.error)
                .join(result, delivery.c.result_id == result.c.id)
                .where(delivery.c.error != "", STATE_NOW.not_in(ENDED))
                .order_by(delivery.c.updated_at),
            )
        states: dict[str, dict[ResultState, int]] = {}
        for name, state, count in counts:
            states.setdefault(name, {})[ResultState(state)] = count
        return [
            DestinationBacklog(
                destination=name, states=by_state, oldest=oldest.get(name), error=errors.get(name, "")
            )
            for name, by_state in states.items()
        ]
