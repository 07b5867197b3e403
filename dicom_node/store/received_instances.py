"""Received instances, and what their reception changes in the index."""

from __future__ import annotations

import enum
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import BindParameter, Connection, Row, bindparam, select, update

from dicom_node.store import database, stored_damage
from dicom_node.store.prior_requests import find_requests, is_prior
from dicom_node.store.states import FileState, StudyState
from dicom_node.store.tables import instance, result, study

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
"""Fields of a received instance that are columns of ``instance``."""


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


_UIDS: Final[BindParameter[Any]] = bindparam("uids", expanding=True)
# Made once: to make a statement costs more than to run it.
_STUDIES: Final = (
    select(study.c.id, study.c.state, study.c.study_instance_uid)
    .where(study.c.study_instance_uid.in_(_UIDS))
    .order_by(study.c.study_instance_uid)
    .with_for_update()
)
_INSTANCES: Final = select(
    instance.c.id,
    instance.c.sop_instance_uid,
    instance.c.digest,
    instance.c.set_aside,
    instance.c.received_at,
    instance.c.file_state,
).where(instance.c.sop_instance_uid.in_(_UIDS))
_RESULTS: Final = select(result.c.sop_instance_uid).where(result.c.sop_instance_uid.in_(_UIDS))
_INSERTION: Final = instance.insert()


def add_instances(
    connection: Connection, received: Sequence[ReceivedInstance], now: float
) -> list[Admission]:
    """Add received instances within the caller's transaction; return the admission of each, in order.

    Parameters
    ----------
    now
        Time of the reception, in seconds since the epoch.
    """
    # In the order of their keys, so that two transactions lock the same rows in the same order (PostgreSQL).
    # Of the same instance the one that came first is first.
    waiting = sorted(
        enumerate(received), key=lambda each: (each[1].study_instance_uid, each[1].sop_instance_uid)
    )
    admissions: dict[int, Admission] = {}
    while waiting:
        # One of each SOP Instance UID at a time: the next of them finds the row of the one before.
        first = {each.sop_instance_uid: place for place, each in reversed(waiting)}
        chosen = [entry for entry in waiting if first[entry[1].sop_instance_uid] == entry[0]]
        additions = _Additions(connection, [each for _, each in chosen], now)
        admissions |= {place: additions.add(each) for place, each in chosen}
        additions.insert()
        waiting = [entry for entry in waiting if entry[0] not in admissions]
    return [admissions[place] for place in range(len(received))]


@dataclass(slots=True)
class _Study:
    """Row of a study as this transaction leaves it."""

    id: int
    state: str
    received_now: bool = False


class _Additions:
    """Additions of different instances to the index, which needs one query a table for all of them.

    Parameters
    ----------
    connection
        Connection within a transaction.
    received
        Instances that will be added; each SOP Instance UID is there once.
    now
        Time of the reception, in seconds since the epoch.
    """

    def __init__(self, connection: Connection, received: Sequence[ReceivedInstance], now: float) -> None:
        self._connection = connection
        self._now = now
        uids = sorted({each.sop_instance_uid for each in received})
        study_uids = sorted({each.study_instance_uid for each in received})
        # The studies come first: what is held of them is held until the end.
        self._studies = {
            row.study_instance_uid: _Study(row.id, row.state)
            for row in connection.execute(_STUDIES, {"uids": study_uids})
        }
        self._known: defaultdict[str, list[Row[*tuple[Any, ...]]]] = defaultdict(list)
        for row in connection.execute(_INSTANCES, {"uids": uids}):
            self._known[row.sop_instance_uid].append(row)
        self._results = set(connection.execute(_RESULTS, {"uids": uids}).scalars())
        self._requests = find_requests(connection, study_uids)
        self._new: list[dict[str, object]] = []

    def add(self, received: ReceivedInstance) -> Admission:
        """Add an instance; its row, when it is new, comes with :meth:`insert`."""
        known = self._known[received.sop_instance_uid]
        asked_for = is_prior(self._requests.get(received.study_instance_uid), received, self._now)
        aside: SetAsideReason | None = None
        if received.own_result or received.sop_instance_uid in self._results:
            aside = SetAsideReason.OWN_RESULT
        elif asked_for:
            aside = SetAsideReason.PRIOR
        elif any(row.digest != received.digest and row.set_aside != SetAsideReason.PRIOR for row in known):
            aside = SetAsideReason.CONFLICT
        admission = Admission.SET_ASIDE if aside else Admission.NEW
        if aside is SetAsideReason.PRIOR:
            admission = Admission.PRIOR
        for row in known:
            if row.digest == received.digest:
                # An instance that came as a prior and is now sent by a peer counts as new.
                if row.set_aside == SetAsideReason.PRIOR and not asked_for:
                    self._receive_again(row, received, set_aside=aside or "")
                    self._enter_study(received.study_instance_uid, revises=aside is None)
                    return admission
                return self._receive_again(row, received, set_aside=row.set_aside)
        study_id = self._enter_study(received.study_instance_uid, revises=aside is None, asked_for=asked_for)
        self._new.append(
            {name: getattr(received, name) for name in INSTANCE_FIELDS}
            | {"study_id": study_id, "received_at": self._now, "set_aside": aside or ""}
        )
        return admission

    def insert(self) -> None:
        """Insert the rows of the new instances."""
        if self._new:
            self._connection.execute(_INSERTION, self._new)

    def _receive_again(
        self, known: Row[*tuple[Any, ...]], received: ReceivedInstance, *, set_aside: str
    ) -> Admission:
        """Record a further reception, with what it means for the file that was stored first."""
        purged = known.file_state != FileState.KEPT
        # The row is older than the file: that of the first reception was damaged or missing.
        ahead = known.received_at > self._now + database.CLOCK_SLACK  # by a clock that was set back
        repaired = not purged and received.placed_at > (0 if ahead else known.received_at)
        self._update(known.id, receptions=instance.c.receptions + 1, set_aside=set_aside)
        uid = received.study_instance_uid
        if purged:
            # Back to KEPT, as old as its new reception; another sender's file meta has another length.
            self._update(
                known.id, file_state=FileState.KEPT, purged_at=None, purged_by="", received_at=self._now,
                size=received.size, transfer_syntax_uid=received.transfer_syntax_uid,
            )  # fmt: skip
            stored_damage.mark_mended(self._connection, received.file, self._now)
            # The study is analysed again, unless its report stands: the film says nothing new.
            if not known.set_aside and self._state(uid) != StudyState.REPORTED:
                self._enter_study(uid, revises=True)
            return Admission.RESTORED
        if repaired:
            self._update(
                known.id,
                size=received.size,
                transfer_syntax_uid=received.transfer_syntax_uid,
                repaired_at=self._now,
            )
            stored_damage.mark_mended(self._connection, received.file, self._now)
            # For a study that ended without a reading, the damaged file may be the reason.
            if not known.set_aside and self._state(uid) in {StudyState.FAILED, StudyState.SKIPPED}:
                self._enter_study(uid, revises=True)
            return Admission.REPAIRED
        return Admission.REPEATED

    def _update(self, instance_id: int, **values: object) -> None:
        self._connection.execute(update(instance).where(instance.c.id == instance_id).values(**values))

    def _state(self, uid: str) -> str:
        return self._studies[uid].state

    def _enter_study(self, uid: str, *, revises: bool, asked_for: bool = False) -> int:
        """Insert the study of an instance, or update it; return its number.

        Parameters
        ----------
        revises
            Whether the instance is to be analysed: a study that was complete then gets a new revision.
        asked_for
            Whether the node requested the study as a prior.
        """
        now = self._now
        entered = self._studies.get(uid)
        if entered is None:
            state = StudyState.PRIOR if asked_for else StudyState.RECEIVING
            created = self._connection.execute(
                study.insert().values(
                    study_instance_uid=uid,
                    state=state,
                    revision=0 if asked_for else 1,  # when a peer sends it later, it begins with 1 as usual
                    first_received_at=now,
                    last_received_at=now,
                    updated_at=now,
                )
            ).inserted_primary_key
            entered = self._studies[uid] = _Study(int(created[0]), state, received_now=not asked_for)  # type: ignore[index]
        elif revises and not entered.received_now:
            values: dict[str, object] = {"last_received_at": now, "updated_at": now}
            if entered.state != StudyState.RECEIVING:
                values |= {
                    "state": StudyState.RECEIVING,
                    "revision": study.c.revision + 1,
                    "first_received_at": now,
                    "owner": None,
                    "lease_until": None,
                    "reason": "",
                    "gate_overridden": False,  # nobody has asked for it knowing the new film
                }
            self._connection.execute(update(study).where(study.c.id == entered.id).values(**values))
            entered.state, entered.received_now = StudyState.RECEIVING, True
        return entered.id
