"""Which study is compared with which earlier one, and what was asked for to that end.

One row for each revision of a study, written once: whoever reads or replays the revision later compares it
with the same films. While there is no row the study waits
(:meth:`dicom_node.store.index.Index.take_queueable`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from sqlalchemy import delete, exists, select

from dicom_node.store import database
from dicom_node.store.index import TRIED, SetAside
from dicom_node.store.states import StudyState
from dicom_node.store.tables import instance, prior, prior_request, study

_BATCH = 50


@dataclass(frozen=True, slots=True)
class Unpaired:
    """A complete study of which nobody knows yet whether it has a prior.

    Attributes
    ----------
    seconds
        That it has waited.
    files
        Names in the spool of its instances that were not set aside.
    tried
        Whether somebody only tries the node out with it.
    """

    study_id: int
    study_instance_uid: str
    revision: int
    seconds: float
    files: tuple[str, ...]
    tried: bool


@dataclass(frozen=True, slots=True)
class Pairing:
    """What a study is compared with.

    Attributes
    ----------
    prior_uid
        Study Instance UID of the prior; empty when there is none.
    files
        Names in the spool of the prior's films.
    reason
        Why there is none, as one clause; empty when there is one.
    patient, taken
        Of the study itself, as in :class:`dicom_node.priors.matching.Examination`; empty when not known.
    """

    prior_uid: str = ""
    files: tuple[str, ...] = ()
    reason: str = ""
    patient: str = ""
    taken: str = ""


class Priors(database.Records):
    """Pairs of studies."""

    def unpaired(self) -> list[Unpaired]:
        """Return complete studies that wait, those that have waited longest first."""
        paired = exists().where(prior.c.study_id == study.c.id, prior.c.revision == study.c.revision)
        query = (
            select(study.c.id, study.c.study_instance_uid, study.c.revision, study.c.completed_at)
            .where(study.c.state == StudyState.COMPLETE, study.c.queued_at.is_(None), ~paired)
            .order_by(study.c.completed_at)
            .limit(_BATCH)
        )
        with database.reading(self._engine) as connection:
            rows = connection.execute(query).all()
            held: dict[int, list[tuple[str, str]]] = {}
            for study_id, name, host in connection.execute(
                select(instance.c.study_id, instance.c.file, instance.c.peer_host)
                .where(instance.c.study_id.in_([row.id for row in rows]), instance.c.set_aside == "")
                .order_by(instance.c.id)
            ):
                held.setdefault(study_id, []).append((name, host))
        return [
            Unpaired(
                study_id=row.id,
                study_instance_uid=row.study_instance_uid,
                revision=row.revision,
                seconds=self._clock() - row.completed_at,
                files=tuple(name for name, _ in held.get(row.id, ())),
                tried=any(host == TRIED for _, host in held.get(row.id, ())),
            )
            for row in rows
        ]

    def pair(self, study_id: int, revision: int, pairing: Pairing) -> Pairing:
        """Enter what a study is compared with; return what is entered, if somebody was quicker."""
        try:
            with database.writing(self._engine) as connection:
                connection.execute(
                    prior.insert().values(
                        study_id=study_id,
                        revision=revision,
                        patient=pairing.patient,
                        taken=pairing.taken,
                        prior_uid=pairing.prior_uid,
                        files=json.dumps(pairing.files),
                        reason=pairing.reason,
                    )
                )
        except database.Clashed:
            return self.of(study_id, revision) or pairing
        return pairing

    def of(self, study_id: int, revision: int) -> Pairing | None:
        """Return what a revision is compared with; None when that is not known, or was never asked."""
        query = select(prior).where(prior.c.study_id == study_id, prior.c.revision == revision)
        with database.reading(self._engine) as connection:
            row = connection.execute(query).first()
        if row is None:
            return None
        return Pairing(row.prior_uid, tuple(json.loads(row.files)), row.reason, row.patient, row.taken)

    def of_patient(self, patient: str) -> list[tuple[str, str]]:
        """Return (Study Instance UID, time taken) of the studies that were entered for a patient."""
        query = (
            select(study.c.study_instance_uid, prior.c.taken)
            .join(study, study.c.id == prior.c.study_id)
            .where(prior.c.patient == patient)
            .distinct()
        )
        with database.reading(self._engine) as connection:
            return [(uid, taken) for uid, taken in connection.execute(query)]

    def held(self, study_instance_uid: str) -> tuple[str, ...]:
        """Return the names in the spool of a study's films: as it was sent, else as it came as a prior."""
        query = (
            select(instance.c.file, instance.c.set_aside)
            .join(study, study.c.id == instance.c.study_id)
            .where(
                study.c.study_instance_uid == study_instance_uid,
                instance.c.set_aside.in_(["", SetAside.PRIOR]),
            )
            .order_by(instance.c.id)
        )
        with database.reading(self._engine) as connection:
            rows = connection.execute(query).all()
        sent = tuple(row.file for row in rows if not row.set_aside)
        return sent or tuple(row.file for row in rows)

    def request(self, study_instance_uid: str, *, source_ae: str, move_destination: str) -> None:
        """Note that a study is asked for as a prior, before it is: its images come as such from now on."""
        with database.writing(self._engine) as connection:
            connection.execute(
                delete(prior_request).where(prior_request.c.study_instance_uid == study_instance_uid)
            )
            connection.execute(
                prior_request.insert().values(
                    study_instance_uid=study_instance_uid,
                    source_ae=source_ae,
                    move_destination=move_destination,
                    asked_at=self._clock(),
                )
            )
