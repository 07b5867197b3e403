"""Requests for storage commitment (PS3.4 annex J) and their answers.

The sender makes a request; the answer may come to another process, an SCP. Only the database joins them, by
the Transaction UID. An answer that is repeated changes nothing. An answer that comes late, after the
destination was asked again or was sent the result again, can still confirm a result, but cannot declare it
lost.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select, update

from dicom_node.store import database
from dicom_node.store.analysis_leases import storable_reason
from dicom_node.store.delivery_queue import Delivery, apply_event
from dicom_node.store.states import Confirmation, DeliveryEvent, ResultState
from dicom_node.store.tables import commitment, commitment_item, delivery, result


class CommitmentOutcome(enum.Enum):
    """Outcome of a request for commitment, for one result."""

    KEPT = "kept"  # the destination keeps it
    LOST = "lost"  # the destination does not have it: it is sent again
    UNDECIDED = "undecided"  # the destination cannot say at present: it is asked again
    REFUSED = "refused"  # the destination will never promise to keep it


_EVENTS: Mapping[CommitmentOutcome, DeliveryEvent] = {
    CommitmentOutcome.KEPT: DeliveryEvent.CONFIRMED,
    CommitmentOutcome.LOST: DeliveryEvent.LOST,
    CommitmentOutcome.UNDECIDED: DeliveryEvent.UNCONFIRMED,
    CommitmentOutcome.REFUSED: DeliveryEvent.CONFIRMATION_REFUSED,
}


@dataclass(frozen=True, slots=True)
class CommitmentAnswer:
    """Answer of a destination about one result.

    Attributes
    ----------
    text
        Reason, as one sentence; empty when the outcome is KEPT.
    """

    outcome: CommitmentOutcome
    text: str = ""


class StorageCommitments(database.Repository):
    """Requests for storage commitment and their answers."""

    def record_request(self, transaction_uid: str, entries: Sequence[Delivery], seconds: float) -> None:
        """Record a request, before it is sent: the answer may come at once.

        Parameters
        ----------
        transaction_uid
            New for every request.
        entries
            Deliveries to one destination, at least one, leased in the state SENT.
        seconds
            Time after which results without an answer are due again.
        """
        now = self._clock()
        with database.writing(self._engine) as connection:
            key = connection.execute(
                commitment.insert().values(
                    transaction_uid=transaction_uid, destination=entries[0].destination, asked_at=now
                )
            ).inserted_primary_key
            connection.execute(
                commitment_item.insert(),
                [{"commitment_id": key[0], "delivery_id": entry.id} for entry in entries],  # type: ignore[index]
            )
            apply_event(
                connection,
                DeliveryEvent.UNCONFIRMED,
                delivery.c.id.in_([entry.id for entry in entries]),
                now,
                inquiries=delivery.c.inquiries + 1,
                next_try_at=now + seconds,
            )

    def record_answers(self, transaction_uid: str, answers: Mapping[str, CommitmentAnswer]) -> int | None:
        """Record the answer to a request.

        Parameters
        ----------
        transaction_uid
            The one of the request.
        answers
            Answers by SOP Instance UID; those to results that were not in the request are ignored.

        Returns
        -------
        int or None
            Number of deliveries that changed their state; None when the transaction is unknown.
        """
        now = self._clock()
        with database.writing(self._engine) as connection:
            request = connection.execute(
                select(commitment).where(commitment.c.transaction_uid == transaction_uid).with_for_update()
            ).first()
            if request is None:
                return None
            connection.execute(
                update(commitment)
                .where(commitment.c.id == request.id, commitment.c.answered_at.is_(None))
                .values(answered_at=now)
            )
            count = 0
            for row in _open_items(connection, request.id):
                answer = answers.get(row.sop_instance_uid)
                if answer is None:
                    continue
                stale = (
                    request.answered_at is not None
                    or row.newest != request.id
                    or (row.sent_at or 0) > request.asked_at
                )
                if stale and answer.outcome is not CommitmentOutcome.KEPT:
                    continue
                kept = answer.outcome is CommitmentOutcome.KEPT
                undecided = answer.outcome is CommitmentOutcome.UNDECIDED
                # The time of the next try stays: a destination that always answers LOST is not sent the
                # result again and again without a pause.
                changed = apply_event(
                    connection,
                    _EVENTS[answer.outcome],
                    delivery.c.id == row.id,
                    now,
                    release=not undecided,
                    error=storable_reason(answer.text),
                    **({"confirmed_by": Confirmation.COMMITMENT} if kept else {}),
                )
                count += 0 if undecided else changed
            return count


def _open_items(connection: Connection, commitment_id: int) -> Sequence[Any]:
    """Return the unconfirmed deliveries of a request, each with the newest request about it."""
    item = commitment_item.alias()
    newest = (
        select(func.max(item.c.commitment_id)).where(item.c.delivery_id == delivery.c.id).scalar_subquery()
    )
    return connection.execute(
        select(
            delivery.c.id,
            delivery.c.sent_at,
            result.c.sop_instance_uid,
            newest.label("newest"),
        )
        .join(commitment_item, commitment_item.c.delivery_id == delivery.c.id)
        .join(result, delivery.c.result_id == result.c.id)
        .where(commitment_item.c.commitment_id == commitment_id, delivery.c.state == ResultState.SENT)
    ).all()
