"""Study headers: a table with the searchable DICOM headers of each study, filled from the files in the spool.

It can be rebuilt from the spool at any time; of a study whose films were purged the row stays. A patient is
shown by a pseudonym, derived from the Patient ID with the node's key, unless the settings ask for names.
Then, and only then, patient name, Patient ID and Accession Number are stored.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from pydicom.dataset import Dataset
from sqlalchemy import Engine, delete, or_, select

from dicom_node.errors import NodeError, NotAnalysable, StorageFailed
from dicom_node.imaging import attributes, value_representations
from dicom_node.imaging.pixels import read_header
from dicom_node.runtime import logs
from dicom_node.store import database
from dicom_node.store.files import Spool
from dicom_node.store.secret_key import person_key, pseudonym
from dicom_node.store.states import FileState
from dicom_node.store.tables import catalogue, instance, study

_LOG = logging.getLogger(__name__)
_BATCH = 100
_TO_BE_READ_AGAIN: Final = 0.0
"""Time of reception of a row whose films could not be read for a reason that may pass: it stays outdated."""
_HEADERS: Final = 8
"""Headers read of one study; the views of further images are not listed."""


@dataclass(frozen=True, slots=True)
class HeaderEntry:
    """Row of the table: headers of one study.

    Attributes
    ----------
    person
        Keyed hash of the Patient ID, equal for all studies of one patient.
    patient
        Name or pseudonym of the patient.
    study_date
        Study Date as eight digits, or empty.
    views
        View Positions, such as ``PA, LL``.
    search
        Searchable text, case folded.
    patient_name, patient_id, accession_number, referring_physician, study_time, study_identifier, patient_sex
        Values of the header; empty unless patients are shown by name. Names have all their component groups.
    patient_age
        Patient's Age, or the years from Patient's Birth Date to the study, as AS value (PS3.5 6.2); empty
        unless patients are shown by name.
    modalities
        Modalities of the films, each between spaces, such as `` CR DX ``.
    """

    person: str
    patient: str
    description: str
    study_date: str
    manufacturer: str
    views: str
    search: str
    patient_name: str = ""
    patient_id: str = ""
    accession_number: str = ""
    referring_physician: str = ""
    study_time: str = ""
    study_identifier: str = ""
    patient_sex: str = ""
    patient_age: str = ""
    modalities: str = ""


_IDENTITY: Mapping[str, tuple[str, int]] = {
    "patient_name": ("PatientName", 256),
    "patient_id": ("PatientID", 64),
    "accession_number": ("AccessionNumber", 64),
    "referring_physician": ("ReferringPhysicianName", 256),
    "study_time": ("StudyTime", 16),
    "study_identifier": ("StudyID", 64),
    "patient_sex": ("PatientSex", 16),
    "patient_age": ("PatientAge", 4),
}
"""Attribute and greatest length of each field that identifies a patient."""


class StudyHeaders:
    """Repository of the study headers.

    Parameters
    ----------
    engine
        Database of the index.
    spool
        Folder of the received files.
    key
        Secret of the node, 32 bytes.
    named
        True to show patients by name, False by pseudonym.
    """

    def __init__(self, engine: Engine, spool: Spool, key: bytes, *, named: bool) -> None:
        self._engine = engine
        self._spool = spool
        self._key = key
        self._named = named

    def outdated(self, below: int | None) -> list[int]:
        """Return the numbers of studies whose row is missing or outdated, the newest first, at most 100.

        Parameters
        ----------
        below
            Upper limit: only studies with lower numbers; None for all.
        """
        query = (
            select(study.c.id)
            .outerjoin(catalogue, catalogue.c.study_id == study.c.id)
            .where(
                or_(
                    catalogue.c.study_id.is_(None),
                    catalogue.c.named != self._named,
                    catalogue.c.received_at != study.c.last_received_at,
                )
            )
            .order_by(study.c.id.desc())
            .limit(_BATCH)
        )
        if below is not None:
            query = query.where(study.c.id < below)
        with database.reading(self._engine) as connection:
            return list(connection.execute(query).scalars())

    def update(self, study_ids: Sequence[int]) -> None:
        """Read the headers of studies and write their rows; rows that are up to date are not touched."""
        with database.reading(self._engine) as connection:
            studies = connection.execute(
                select(study.c.id, study.c.study_instance_uid, study.c.last_received_at)
                .outerjoin(catalogue, catalogue.c.study_id == study.c.id)
                .where(
                    study.c.id.in_(study_ids),
                    or_(
                        catalogue.c.study_id.is_(None),
                        catalogue.c.named != self._named,
                        catalogue.c.received_at != study.c.last_received_at,
                    ),
                )
            ).all()
            ids = [row.id for row in studies]
            before = {
                row["study_id"]: HeaderEntry(**{name: row[name] for name in HeaderEntry.__slots__})
                for row in connection.execute(
                    select(catalogue).where(catalogue.c.study_id.in_(ids))
                ).mappings()
            }
            files: dict[int, list[str]] = {}
            for key, name in connection.execute(
                select(instance.c.study_id, instance.c.file)
                .where(instance.c.study_id.in_(ids), instance.c.file_state == FileState.KEPT)
                .order_by(instance.c.set_aside, instance.c.id)
            ):
                files.setdefault(key, []).append(name)
        if not studies:
            return
        rows = []
        for row in studies:
            received_at = row.last_received_at
            if row.id in before and row.id not in files:  # all its films were purged
                entry = self._without_films(row.study_instance_uid, before[row.id])
            else:
                headers, whole = self._read(row.study_instance_uid, files.get(row.id, [])[:_HEADERS])
                if not whole:
                    received_at = _TO_BE_READ_AGAIN
                if not whole and row.id in before:
                    entry = self._without_films(row.study_instance_uid, before[row.id])
                else:
                    entry = self._entry(row.study_instance_uid, headers)
            fields = {name: getattr(entry, name) for name in HeaderEntry.__slots__}
            rows.append({"study_id": row.id, "received_at": received_at, "named": self._named, **fields})
        with database.writing(self._engine) as connection:
            # Two writers of one row would both delete nothing and then both insert it.
            connection.execute(
                select(study.c.id).where(study.c.id.in_(ids)).order_by(study.c.id).with_for_update()
            )
            connection.execute(delete(catalogue).where(catalogue.c.study_id.in_(ids)))
            connection.execute(catalogue.insert(), rows)

    def _without_films(self, study_instance_uid: str, before: HeaderEntry) -> HeaderEntry:
        """Return the row of a study whose films are gone: the old one, if need be without names."""
        if self._named:
            return before
        patient = f"P-{before.person[:10]}"
        words = (logs.uid_hash(study_instance_uid), patient, before.description, before.study_date)
        return replace(
            before,
            patient=patient,
            search=_clean(" ".join((*words, before.manufacturer))).casefold()[:512],
            **dict.fromkeys(_IDENTITY, ""),
        )

    def _read(self, study_instance_uid: str, files: Sequence[str]) -> tuple[list[Dataset], bool]:
        """Return the headers that can be read, and whether no file failed that may be readable later."""
        headers, whole = [], True
        for name in files:
            try:
                headers.append(read_header(self._spool.path(name)))
            except (NotAnalysable, NodeError) as error:
                _LOG.warning("a header of study %s: %s", logs.uid_hash(study_instance_uid), error)
                whole = whole and not isinstance(error, StorageFailed)
        return headers, whole

    def _entry(self, study_instance_uid: str, headers: Sequence[Dataset]) -> HeaderEntry:
        first = headers[0] if headers else Dataset()
        patient_id = attributes.whole_text(first, "PatientID")
        issuer = attributes.whole_text(first, "IssuerOfPatientID")
        person = person_key(self._key, patient_id, issuer, study_instance_uid)
        patient = pseudonym(person)
        found_by = [logs.uid_hash(study_instance_uid), patient]
        if self._named:
            name = attributes.whole_text(first, "PatientName")
            patient = _clean(value_representations.readable_name(name)) or "–"
            found_by += [name, patient, patient_id, attributes.whole_text(first, "AccessionNumber")]
        description = _clean(attributes.text(first, "StudyDescription"))
        study_date = value_representations.date(attributes.text(first, "StudyDate"))
        manufacturer = _clean(attributes.text(first, "Manufacturer"))
        modalities = [found for each in headers if (found := _clean(attributes.text(each, "Modality")))]
        views = [view for each in headers if (view := _clean(attributes.text(each, "ViewPosition")))]
        found_by += [description, study_date, manufacturer]
        return HeaderEntry(
            person=person,
            patient=patient[:128],
            description=description[:128],
            study_date=study_date,
            manufacturer=manufacturer[:64],
            views=", ".join(dict.fromkeys(views))[:64],
            search=_clean(" ".join(found_by)).casefold()[:512],
            modalities=f" {' '.join(dict.fromkeys(modalities))} "[:64],
            **(self._identity(first) if self._named else {}),
        )

    @staticmethod
    def _identity(header: Dataset) -> dict[str, str]:
        found = {
            name: _clean(_searched(key, attributes.whole_text(header, key)))[:most]
            for name, (key, most) in _IDENTITY.items()
        }
        return found | {"patient_age": found["patient_age"] or _age_from_dates(header)}


def _age_from_dates(header: Dataset) -> str:
    """Years from birth to the study as AS value; empty where a date is missing or they contradict."""
    born, taken = (
        value_representations.date(attributes.text(header, keyword))
        for keyword in ("PatientBirthDate", "StudyDate")
    )
    if not born or not taken:
        return ""
    years = int(taken[:4]) - int(born[:4]) - (taken[4:] < born[4:])
    return f"{years:03}Y" if 0 <= years < 130 else ""


def _searched(keyword: str, text: str) -> str:
    """Value of an attribute in the form that searches compare with."""
    match keyword:
        case "StudyTime":
            return value_representations.time(text)
        case "PatientName" | "ReferringPhysicianName":
            return "=".join(value_representations.person_name_groups(text))
        case "PatientSex":
            return value_representations.sex(text)
        case "PatientAge":
            return value_representations.age(text)
        case _:
            return text


def _clean(text: str) -> str:
    """Remove characters that cannot be printed, such as a zero byte, which PostgreSQL refuses."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
