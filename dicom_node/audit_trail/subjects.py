"""Subjects of audit messages: studies and patients, as they may be named in the trail."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydicom.dataset import Dataset
from sqlalchemy import ColumnElement, Engine, select

from dicom_node.audit_trail import codes
from dicom_node.audit_trail.codes import LifeCycle, ObjectRole, ObjectType
from dicom_node.audit_trail.message import ParticipantObject
from dicom_node.errors import NodeError
from dicom_node.imaging import attributes
from dicom_node.imaging.pixels import read_header
from dicom_node.store import database
from dicom_node.store.files import Spool
from dicom_node.store.secret_key import person_key, pseudonym, read_secret_key
from dicom_node.store.tables import instance, study


@dataclass(frozen=True, slots=True)
class StudySubject:
    """Study and patient that an event was about.

    Attributes
    ----------
    patient
        Pseudonym or Patient ID; empty when the header cannot be read.
    sop_classes
        Numbers of instances by SOP Class UID.
    """

    study_instance_uid: str
    patient: str = ""
    sop_classes: Mapping[str, int] = field(default_factory=dict)

    def objects(self, life_cycle: LifeCycle | None = None) -> list[ParticipantObject]:
        """Return study and patient as objects of a message (PS3.15 A.5.3)."""
        return [
            ParticipantObject(
                self.study_instance_uid,
                codes.STUDY_INSTANCE_UID,
                ObjectType.SYSTEM_OBJECT,
                ObjectRole.REPORT,
                name="study",
                sop_classes=self.sop_classes,
                life_cycle=life_cycle,
            ),
            ParticipantObject(
                self.patient or "unknown",
                codes.PATIENT_NUMBER,
                ObjectType.PERSON,
                ObjectRole.PATIENT,
                name="patient",
            ),
        ]


class Subjects:
    """Reader of the subjects of a node's studies.

    Parameters
    ----------
    engine
        Database of the index.
    spool
        Received files.
    secret_key
        File of the node's secret.
    patient
        Whether patients are named by pseudonym or by Patient ID.
    """

    def __init__(
        self, engine: Engine, spool: Spool, secret_key: Path, patient: Literal["pseudonym", "id"]
    ) -> None:
        self._engine = engine
        self._spool = spool
        self._secret_key = secret_key
        self._patient = patient

    def of_file(
        self, path: Path, study_instance_uid: str, sop_classes: Mapping[str, int] | None = None
    ) -> StudySubject:
        """Return the subject of a DICOM file of a study; without a patient when the file cannot be read."""
        try:
            header = read_header(path)
        except NodeError:  # purged, say: a pseudonym of nothing would be that of another person
            return StudySubject(study_instance_uid, "", {**(sop_classes or {})})
        return StudySubject(
            study_instance_uid, self._named(header, study_instance_uid), {**(sop_classes or {})}
        )

    def of_study(self, study_id: int) -> StudySubject | None:
        """Return the subject of a study of the index; None when there is no such study."""
        return self._find(study.c.id == study_id)

    def of_uid(self, study_instance_uid: str) -> StudySubject:
        """Return the subject of a study; one without a patient when the index does not know it."""
        found = self._find(study.c.study_instance_uid == study_instance_uid)
        return found or StudySubject(study_instance_uid)

    def _find(self, condition: ColumnElement[bool]) -> StudySubject | None:
        query = (
            select(study.c.study_instance_uid, instance.c.file)
            .join(instance, instance.c.study_id == study.c.id, isouter=True)
            .where(condition)
            .order_by(instance.c.id)
            .limit(1)
        )
        with database.reading(self._engine) as connection:
            row = connection.execute(query).first()
        if row is None:
            return None
        uid, file = row
        return StudySubject(uid) if file is None else self.of_file(self._spool.path(file), uid)

    def _named(self, header: Dataset, study_instance_uid: str) -> str:
        patient_id = attributes.whole_text(header, "PatientID")
        if self._patient == "id":
            return patient_id
        try:
            key = read_secret_key(self._secret_key)
        except NodeError:
            return ""
        issuer = attributes.whole_text(header, "IssuerOfPatientID")
        return pseudonym(person_key(key, patient_id, issuer, study_instance_uid))
