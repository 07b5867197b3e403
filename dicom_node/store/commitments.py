"""Transactions of storage commitment (PS3.4 annex J): asked by the sender, answered to an SCP process.

Only the table joins the two, by the Transaction UID. A repeated answer changes nothing; an answer that
comes late, after the destination was asked anew or has got the result again, can still confirm, but can
no longer say that anything is lost.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select, update

from dicom_node.store import database
from dicom_node.store.analysis_leases import REASON_LENGTH
from dicom_node.store.delivery_queue import Delivery
from dicom_node.store.states import Confirmation, ResultState
from dicom_node.store.tables import commitment, commitment_item, delivery, result


class Verdict(enum.Enum):
    """What a destination says of one result that it took."""

    KEPT = "kept"
    LOST = "lost"  # it does not have it: to be sent again
    UNDECIDED = "undecided"  # not just now: to be asked again
    REFUSED = "refused"  # it will never promise to keep it


@dataclass(frozen=True, slots=True)
class Statement:
    """A verdict, with the sentence that a person reads when it is not KEPT."""

    verdict: Verdict
    text: str = ""


class Commitments(database.Records):
    """Requests for storage commitment and their answers."""

    def ask(self, transaction_uid: str, entries: Sequence[Delivery], seconds: float) -> None:
        """Record a transaction, before the destination hears of it: the answer may come at once.

        Parameters
        ----------
        transaction_uid
            New in every try.
        entries
            Deliveries to one destination, at least one, taken in the state SENT.
        seconds
            After which those that are not answered for are due again.
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
            connection.execute(
                update(delivery)
                .where(
                    delivery.c.id.in_([entry.id for entry in entries]),
                    delivery.c.state == ResultState.SENT,
                )
                .values(
                    inquiries=delivery.c.inquiries + 1,
                    next_try_at=now + seconds,
                    owner=None,
                    lease_until=None,
                    updated_at=now,
                )
            )

    def answer(self, transaction_uid: str, statements: Mapping[str, Statement]) -> int | None:
        """Record what a destination answered.

        Parameters
        ----------
        transaction_uid
            That it names.
        statements
            By SOP Instance UID; those that the transaction did not ask about are ignored.

        Returns
        -------
        int or None
            How many deliveries changed their state; None when the transaction is unknown.
        """
        now = self._clock()
        with database.writing(self._engine) as connection:
            asked = connection.execute(
                select(commitment).where(commitment.c.transaction_uid == transaction_uid).with_for_update()
            ).first()
            if asked is None:
                return None
            connection.execute(
                update(commitment)
                .where(commitment.c.id == asked.id, commitment.c.answered_at.is_(None))
                .values(answered_at=now)
            )
            changed = 0
            for row in _open_items(connection, asked.id):
                statement = statements.get(row.sop_instance_uid)
                if statement is None:
                    continue
                stale = (
                    asked.answered_at is not None
                    or row.newest != asked.id
                    or (row.sent_at or 0) > asked.asked_at
                )
                if stale and statement.verdict is not Verdict.KEPT:
                    continue
                connection.execute(
                    update(delivery)
                    .where(delivery.c.id == row.id)
                    .values(
                        **_CONSEQUENCES[statement.verdict],
                        error=statement.text[:REASON_LENGTH],
                        updated_at=now,
                    )
                )
                changed += statement.verdict is not Verdict.UNDECIDED
            return changed


# What is lost or undecided stays due when it was: a destination that always says so is not flooded.
_CONSEQUENCES: Mapping[Verdict, Mapping[str, object]] = {
    Verdict.KEPT: {
        "state": ResultState.CONFIRMED,
        "confirmed_by": Confirmation.COMMITMENT,
        "owner": None,
        "lease_until": None,
    },
    Verdict.LOST: {"state": ResultState.ENCODED, "owner": None, "lease_until": None},
    Verdict.UNDECIDED: {},
    Verdict.REFUSED: {"state": ResultState.REJECTED, "owner": None, "lease_until": None},
}


def _open_items(connection: Connection, commitment_id: int) -> Sequence[Any]:
    """Return the unconfirmed deliveries of a transaction, each with the newest transaction about it."""
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
