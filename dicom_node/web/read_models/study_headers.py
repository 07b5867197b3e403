"""What the worklist shows of the headers: read from the spool, kept to be searched and sorted.

It can be made again from the spool at any time. A patient goes by a pseudonym, made with the node's key
from the Patient ID, unless the settings ask for the name; then, and only then, the name, the Patient ID and
the Accession Number are kept.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pydicom.dataset import Dataset
from sqlalchemy import Engine, delete, or_, select

from dicom_node.errors import NodeError, NotAnalysable
from dicom_node.imaging import attributes
from dicom_node.imaging.pixels import read_header
from dicom_node.runtime import logs
from dicom_node.store import database
from dicom_node.store.files import Spool
from dicom_node.store.tables import catalogue, instance, study

_LOG = logging.getLogger(__name__)
_BATCH = 100
_HEADERS: Final = 8
"""Of one study: views beyond these are not named."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What the headers of one study say.

    Attributes
    ----------
    person
        The same for the same patient; nobody's name.
    patient
        Name or pseudonym.
    study_date
        DA, or empty.
    views
        Such as ``PA, LL``.
    search
        All that it may be found by, case folded.
    patient_name, patient_id, accession_number, referring_physician, study_time, study_identifier
        As they stand in the header; empty unless patients go by their names.
    modalities
        Of the films, each between blanks, such as `` CR DX ``.
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
    modalities: str = ""


_IDENTITY: Mapping[str, tuple[str, int]] = {
    "patient_name": ("PatientName", 256),
    "patient_id": ("PatientID", 64),
    "accession_number": ("AccessionNumber", 64),
    "referring_physician": ("ReferringPhysicianName", 256),
    "study_time": ("StudyTime", 16),
    "study_identifier": ("StudyID", 64),
}
"""Attributes that are kept as they are, and how much of them."""


class Catalogue:
    """The table of headers.

    Parameters
    ----------
    engine
        Of the index.
    spool
        Where the received files are.
    key
        Secret of the node.
    named
        Whether patients go by their names.
    """

    def __init__(self, engine: Engine, spool: Spool, key: bytes, *, named: bool) -> None:
        self._engine = engine
        self._spool = spool
        self._key = key
        self._named = named

    def stale(self, below: int | None) -> list[int]:
        """Return the newest studies that are not entered as they are now.

        Parameters
        ----------
        below
            Only studies with lower numbers; None for all.
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

    def enter(self, study_ids: Sequence[int]) -> None:
        """Read the headers of studies and enter what they say; those that are current are left alone."""
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
            files: dict[int, list[str]] = {}
            for key, name in connection.execute(
                select(instance.c.study_id, instance.c.file)
                .where(instance.c.study_id.in_([row.id for row in studies]))
                .order_by(instance.c.set_aside, instance.c.id)
            ):
                files.setdefault(key, []).append(name)
        if not studies:
            return
        rows = []
        for row in studies:
            entry = self._entry(row.study_instance_uid, files.get(row.id, [])[:_HEADERS])
            fields = {name: getattr(entry, name) for name in Entry.__slots__}
            rows.append(
                {"study_id": row.id, "received_at": row.last_received_at, "named": self._named, **fields}
            )
        with database.writing(self._engine) as connection:
            connection.execute(delete(catalogue).where(catalogue.c.study_id.in_([row.id for row in studies])))
            connection.execute(catalogue.insert(), rows)

    def _entry(self, study_instance_uid: str, files: Sequence[str]) -> Entry:
        headers = []
        for name in files:
            try:
                headers.append(read_header(self._spool.path(name)))
            except (NotAnalysable, NodeError) as error:
                _LOG.warning("a header of study %s: %s", logs.short(study_instance_uid), error)
        first = headers[0] if headers else Dataset()
        patient_id = attributes.text(first, "PatientID")
        issuer = attributes.text(first, "IssuerOfPatientID")
        # Without an ID nothing says that two studies are of one patient.
        whose = f"patient:{issuer}:{patient_id}" if patient_id else f"study:{study_instance_uid}"
        person = hmac.new(self._key, whose.encode("utf-8", "replace"), hashlib.sha256).hexdigest()
        patient = f"P-{person[:10]}"
        found_by = [logs.short(study_instance_uid), patient]
        if self._named:
            name = attributes.text(first, "PatientName")
            patient = _clean(", ".join(part for part in name.split("=")[0].split("^")[:2] if part)) or "–"
            found_by += [name, patient, patient_id, attributes.text(first, "AccessionNumber")]
        description = _clean(attributes.text(first, "StudyDescription"))
        study_date = _clean(attributes.text(first, "StudyDate"))[:8]
        manufacturer = _clean(attributes.text(first, "Manufacturer"))
        modalities = [found for each in headers if (found := _clean(attributes.text(each, "Modality")))]
        views = [view for each in headers if (view := _clean(attributes.text(each, "ViewPosition")))]
        found_by += [description, study_date, manufacturer]
        return Entry(
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
        found = {name: (attributes.text(header, key), most) for name, (key, most) in _IDENTITY.items()}
        # Of a person's name the group that is written in letters; empty components at its end say nothing.
        return {name: _clean(text.split("=")[0].rstrip("^"))[:most] for name, (text, most) in found.items()}


def _clean(text: str) -> str:
    """Drop what cannot be printed, such as a zero byte, which PostgreSQL does not take."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
