"""Pairs of a study and its prior.

There is one row for each revision of a study, written once: every analysis or replay of the revision compares
it with the same films. While there is no row, the study waits
(:meth:`dicom_node.store.index.Index.take_queueable`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from sqlalchemy import exists, select

from dicom_node.store import database
from dicom_node.store.index import TRIAL_HOST
from dicom_node.store.purge_trace import PurgeTrace
from dicom_node.store.received_instances import SetAsideReason
from dicom_node.store.states import FileState, StudyState
from dicom_node.store.tables import instance, prior, prior_request, study

_BATCH = 50


@dataclass(frozen=True, slots=True)
class UnpairedStudy:
    """Complete study whose prior was not looked for yet.

    Attributes
    ----------
    seconds
        Time since it was complete.
    files
        Names in the spool of its instances that were not set aside.
    is_trial
        Whether it was uploaded on the page ``/try``.
    was_requested
        Whether the node itself once requested it, as the prior of another study.
    """

    study_id: int
    study_instance_uid: str
    revision: int
    seconds: float
    files: tuple[str, ...]
    is_trial: bool
    was_requested: bool


@dataclass(frozen=True, slots=True)
class PriorPairing:
    """Prior of a study, or the reason why it has none.

    Attributes
    ----------
    prior_uid
        Study Instance UID of the prior; empty when there is none.
    files
        Names in the spool of the prior's films.
    reason
        Reason why there is no prior, as one clause; empty when there is one.
    patient
        Key of the study's patient, see :attr:`dicom_node.priors.matching.PatientIdentity.key`; empty when not
        known.
    taken
        Date and time of the study itself, see :class:`dicom_node.priors.matching.PatientStudy`; empty when
        not known.
    purged_films
        Traces of the prior's films that were purged since.
    """

    prior_uid: str = ""
    files: tuple[str, ...] = ()
    reason: str = ""
    patient: str = ""
    taken: str = ""
    purged_films: tuple[PurgeTrace, ...] = ()


class PriorPairs(database.Repository):
    """Pairs of a study and its prior."""

    def unpaired(self) -> list[UnpairedStudy]:
        """Return complete studies that wait for the search for their prior, the longest waiting first."""
        paired = exists().where(prior.c.study_id == study.c.id, prior.c.revision == study.c.revision)
        requested = exists().where(prior_request.c.study_instance_uid == study.c.study_instance_uid)
        query = (
            select(
                study.c.id,
                study.c.study_instance_uid,
                study.c.revision,
                study.c.completed_at,
                requested.label("was_requested"),
            )
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
            UnpairedStudy(
                study_id=row.id,
                study_instance_uid=row.study_instance_uid,
                revision=row.revision,
                seconds=self._clock() - row.completed_at,
                files=tuple(name for name, _ in held.get(row.id, ())),
                is_trial=any(host == TRIAL_HOST for _, host in held.get(row.id, ())),
                was_requested=bool(row.was_requested),
            )
            for row in rows
        ]

    def pair(self, study_id: int, revision: int, pairing: PriorPairing) -> PriorPairing:
        """Record the prior of a study; return the pairing of another process that was faster."""
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
        except database.KeyConflict:
            return self.get(study_id, revision) or pairing
        return pairing

    def get(self, study_id: int, revision: int) -> PriorPairing | None:
        """Return the pairing of a revision; None when there is none yet, or no prior was looked for."""
        query = select(prior).where(prior.c.study_id == study_id, prior.c.revision == revision)
        with database.reading(self._engine) as connection:
            row = connection.execute(query).first()
            if row is None:
                return None
            files = tuple(json.loads(row.files))
            gone = (
                select(instance)
                .where(instance.c.file.in_(files), instance.c.file_state != FileState.KEPT)
                .join(study, study.c.id == instance.c.study_id)
                .where(study.c.study_instance_uid == row.prior_uid)
            )
            purged = connection.execute(gone).mappings().all()
        traces = tuple(trace for each in purged if (trace := PurgeTrace.of(each)) is not None)
        return PriorPairing(row.prior_uid, files, row.reason, row.patient, row.taken, traces)

    def studies_of_patient(self, patient: str) -> list[tuple[str, str]]:
        """Return (Study Instance UID, date and time) of the recorded studies of a patient.

        Parameters
        ----------
        patient
            Key of the patient, see :attr:`PriorPairing.patient`.
        """
        query = (
            select(study.c.study_instance_uid, prior.c.taken)
            .join(study, study.c.id == prior.c.study_id)
            .where(prior.c.patient == patient)
            .distinct()
        )
        with database.reading(self._engine) as connection:
            return [(uid, taken) for uid, taken in connection.execute(query)]

    def film_files(self, study_instance_uid: str) -> tuple[str, ...]:
        """Return the names in the spool of the films that a peer sent of a study, else of those fetched.

        Films that were purged are not among them: they can be fetched again.
        """
        query = (
            select(instance.c.file, instance.c.set_aside)
            .join(study, study.c.id == instance.c.study_id)
            .where(
                study.c.study_instance_uid == study_instance_uid,
                instance.c.set_aside.in_(["", SetAsideReason.PRIOR]),
                instance.c.file_state == FileState.KEPT,
            )
            .order_by(instance.c.id)
        )
        with database.reading(self._engine) as connection:
            rows = connection.execute(query).all()
        sent = tuple(row.file for row in rows if not row.set_aside)
        return sent or tuple(row.file for row in rows)
