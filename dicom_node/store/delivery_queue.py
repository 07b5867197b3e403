"""Results on their way to the destinations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, and_, case, exists, func, or_, select, update

from dicom_node.runtime.lease_owner import Owner
from dicom_node.store import database
from dicom_node.store.analysis_leases import REASON_LENGTH, lapsed
from dicom_node.store.index import ahead
from dicom_node.store.states import Confirmation, ResultState, result_sources
from dicom_node.store.tables import delivery, result, study


@dataclass(frozen=True, slots=True)
class Delivery:
    """One result that one destination is to get.

    Attributes
    ----------
    state
        ENCODED: it is to be sent; SENT: it is to be confirmed.
    attempts
        Tries to send it so far.
    inquiries
        How often the destination was asked, since it took the result, whether it keeps it.
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
class Backlog:
    """What one destination still has to get.

    Attributes
    ----------
    states
        Deliveries by state.
    oldest
        Seconds since the epoch at which the longest waiting result was made; None when none waits.
    error
        Of the last failed try that is still open, be it to send or to have it confirmed; empty when there is
        none.
    """

    destination: str
    states: dict[ResultState, int]
    oldest: float | None
    error: str


class Outbox(database.Records):
    """Deliveries, oldest result first."""

    def take(
        self,
        destination: str,
        owner: Owner,
        lease_seconds: float,
        limit: int = 50,
        *,
        state: ResultState = ResultState.ENCODED,
    ) -> list[Delivery]:
        """Lease the deliveries of one destination that are in a state and due."""
        now = self._clock()
        due = and_(
            delivery.c.destination == destination,
            delivery.c.state == state,
            or_(delivery.c.next_try_at <= now, ahead(delivery.c.updated_at, now)),
        )
        joined = delivery.join(result, delivery.c.result_id == result.c.id).join(
            study, result.c.study_id == study.c.id
        )
        with database.reading(self._engine) as connection:
            rows = connection.execute(
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
                .select_from(joined)
                .where(due)
                .order_by(result.c.id)
                .limit(limit)
            ).all()
        free = [row for row in rows if lapsed(row.owner, row.lease_until, now)]
        if not free:
            return []
        taken = []
        with database.writing(self._engine) as connection:
            for row in free:
                changed = connection.execute(
                    update(delivery)
                    .where(
                        delivery.c.id == row.id,
                        due,
                        delivery.c.owner.is_not_distinct_from(row.owner),
                        delivery.c.lease_until.is_not_distinct_from(row.lease_until),
                    )
                    .values(owner=str(owner), lease_until=now + lease_seconds)
                ).rowcount
                if changed:
                    taken.append(row)
        return [
            Delivery(**{name: getattr(row, name) for name in Delivery.__dataclass_fields__}) for row in taken
        ]

    def sent(self, entry: Delivery, seconds: float = 0) -> None:
        """Record that the destination answered Success, and when to ask first whether it keeps it.

        Parameters
        ----------
        seconds
            At least so long from now. What was sent within so many seconds is due at the same moment, so that
            one question asks for all of it.
        """
        now = self._clock()
        self._move(
            entry,
            ResultState.SENT,
            error="",
            attempts=entry.attempts + 1,
            inquiries=0,
            sent_at=now,
            next_try_at=(now // seconds + 2) * seconds if seconds else now,
        )

    def rejected(self, entry: Delivery, error: str) -> None:
        """Record that the destination will never take it."""
        self._move(entry, ResultState.REJECTED, error=error[:REASON_LENGTH], attempts=entry.attempts + 1)

    def confirmed(self, entry: Delivery, by: Confirmation) -> None:
        """Record that the destination keeps it."""
        self._move(entry, ResultState.CONFIRMED, error="", confirmed_by=by)

    def unconfirmed(self, entry: Delivery, error: str, seconds: float) -> None:
        """Record that the destination did not say whether it keeps it, and when to ask again."""
        self._move(
            entry,
            ResultState.SENT,
            error=error[:REASON_LENGTH],
            inquiries=entry.inquiries + 1,
            next_try_at=self._clock() + seconds,
        )

    def postponed(self, entry: Delivery, error: str, seconds: float, *, counted: bool = True) -> None:
        """Record a failed try, or that the destination lost what it took, and when the next is due.

        Parameters
        ----------
        counted
            False when this very delivery was not tried: the destination was lost before its turn.
        """
        self._move(
            entry,
            ResultState.ENCODED,
            error=error[:REASON_LENGTH],
            attempts=entry.attempts + counted,
            next_try_at=self._clock() + seconds,
        )

    def _move(self, entry: Delivery, state: ResultState, **values: object) -> None:
        if entry.state not in result_sources(state):
            raise ValueError(f"no transition: {entry.state} to {state}")
        # What was withdrawn while it was on its way has arrived all the same.
        held = [entry.state, ResultState.WITHDRAWN] if state is ResultState.SENT else [entry.state]
        # What was withdrawn and is to be sent again is not.
        withdrawn = exists().where(result.c.id == delivery.c.result_id, result.c.withdrawn_at.is_not(None))
        becomes = (
            case((withdrawn, ResultState.WITHDRAWN), else_=state) if state is ResultState.ENCODED else state
        )
        with database.writing(self._engine) as connection:
            connection.execute(
                update(delivery)
                .where(delivery.c.id == entry.id, delivery.c.state.in_(held))
                .values(state=becomes, owner=None, lease_until=None, updated_at=self._clock(), **values)
            )

    def retry(self, destinations: Sequence[str] = ()) -> int:
        """Make rejected deliveries, and those that wait for their next try, due now; return how many.

        Those that a destination took are not sent again; it is asked at once whether it keeps them.
        """
        condition: ColumnElement[bool] = delivery.c.state.in_([ResultState.REJECTED, ResultState.ENCODED])
        if destinations:
            condition = and_(condition, delivery.c.destination.in_(destinations))
        now = self._clock()
        with database.writing(self._engine) as connection:
            connection.execute(
                update(delivery).where(delivery.c.state == ResultState.SENT).values(next_try_at=now)
            )
            return connection.execute(
                update(delivery)
                .where(
                    condition,
                    or_(delivery.c.state == ResultState.REJECTED, delivery.c.next_try_at > now),
                )
                .values(state=ResultState.ENCODED, next_try_at=now, updated_at=now)
            ).rowcount

    def backlogs(self) -> list[Backlog]:
        """Return the state of every destination that ever had a delivery, by name."""
        waiting = delivery.c.state == ResultState.ENCODED
        with database.reading(self._engine) as connection:
            counts = connection.execute(
                select(delivery.c.destination, delivery.c.state, func.count())
                .group_by(delivery.c.destination, delivery.c.state)
                .order_by(delivery.c.destination)
            ).all()
            oldest = database.pairs(
                connection,
                select(delivery.c.destination, func.min(result.c.created_at))
                .join(result, delivery.c.result_id == result.c.id)
                .where(waiting)
                .group_by(delivery.c.destination),
            )
            # The last one wins: that of the latest try.
            errors = database.pairs(
                connection,
                select(delivery.c.destination, delivery.c.error)
                .where(delivery.c.error != "", delivery.c.state != ResultState.CONFIRMED)
                .order_by(delivery.c.updated_at),
            )
        states: dict[str, dict[ResultState, int]] = {}
        for name, state, count in counts:
            states.setdefault(name, {})[ResultState(state)] = count
        return [
            Backlog(destination=name, states=by_state, oldest=oldest.get(name), error=errors.get(name, ""))
            for name, by_state in states.items()
        ]
