"""Rules that find the prior among a patient's earlier studies; they use no network.

Two studies are of one patient when they have the same Patient ID and do not differ in another identifying
attribute that both have. A study without a Patient ID matches no other study.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final, Self

from pydicom.dataset import Dataset

from dicom_node.imaging import attributes, value_representations
from dicom_node.imaging.radiographs import RADIOGRAPHY_MODALITIES
from dicom_node.imaging.selection import names_other_body_part, select
from dicom_node.results.codes import LATERAL_VIEWS

LATE_REASON: Final = "it did not come within {:g} s"
"""Reason, with the waiting time in seconds, when the search for a prior took too long."""


@dataclass(frozen=True, slots=True)
class PatientIdentity:
    """Identity of a patient: the attributes that distinguish patients.

    Attributes
    ----------
    identifier
        Patient ID; empty when it is unknown.
    issuer
        Issuer of Patient ID; empty when it is unknown, as in most answers to a query.
    birth_date
        Patient's Birth Date (DA); empty when it is unknown.
    """

    identifier: str
    issuer: str = ""
    birth_date: str = ""

    @classmethod
    def of(cls, ds: Dataset) -> Self:
        """Read a header, or an answer to a query."""
        birth_date = attributes.text(ds, "PatientBirthDate")
        return cls(
            attributes.whole_text(ds, "PatientID"),
            attributes.whole_text(ds, "IssuerOfPatientID"),
            # What is no date still tells two patients apart.
            value_representations.date(birth_date) or birth_date,
        )

    def is_same(self, other: PatientIdentity) -> bool:
        """Return whether both are certainly the same patient."""
        return (
            bool(self.identifier)
            and self.identifier == other.identifier
            and _agree(self.issuer, other.issuer)
            and _agree(self.birth_date, other.birth_date)
        )

    @property
    def key(self) -> str:
        """SHA-256 of the Patient ID, the key of the patient in the index; empty without a Patient ID."""
        return hashlib.sha256(self.identifier.encode()).hexdigest() if self.identifier else ""


def _agree(one: str, other: str) -> bool:
    return not one or not other or one == other


@dataclass(frozen=True, slots=True)
class PatientStudy:
    """Study with its patient and time, so that it can be ordered among others.

    Attributes
    ----------
    taken
        Study Date, and the known part of Study Time: ``YYYYMMDD[HHMMSS]``; empty when there is no date.
    """

    study_instance_uid: str
    patient: PatientIdentity
    taken: str

    @classmethod
    def of(cls, ds: Dataset) -> Self:
        """Read a header, or an answer to a query."""
        taken = value_representations.date(attributes.text(ds, "StudyDate"))
        if taken:
            taken += value_representations.time(attributes.text(ds, "StudyTime")).partition(".")[0]
        return cls(attributes.text(ds, "StudyInstanceUID"), PatientIdentity.of(ds), taken)

    def is_before(self, other: PatientStudy, days: int) -> bool:
        """Return whether it was certainly taken earlier, but at most so many days earlier."""
        earliest, latest = other.span(days)
        known = min(len(self.taken), len(other.taken))
        return bool(
            self.taken
            and earliest
            and earliest <= self.taken[:8] <= latest
            and self.taken[:known] < other.taken[:known]
        )

    def span(self, days: int) -> tuple[str, str]:
        """Return the first and last day (DA) of a possible prior; two empty strings without a Study Date."""
        day = _day(self.taken[:8])
        if day is None:
            return "", ""
        first = date.fromordinal(max(1, day.toordinal() - days))
        return first.isoformat().replace("-", ""), self.taken[:8]


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def prior_candidates(current: PatientStudy, others: Iterable[PatientStudy], days: int) -> list[PatientStudy]:
    """Return the earlier studies of the same patient, the newest first, each study once.

    Parameters
    ----------
    days
        Greatest age of a prior, in days.
    """
    found: dict[str, PatientStudy] = {}
    for other in others:
        if (
            other.study_instance_uid not in ("", current.study_instance_uid)
            and current.patient.is_same(other.patient)
            and other.is_before(current, days)
        ):
            found.setdefault(other.study_instance_uid, other)
    return sorted(found.values(), key=lambda each: (each.taken, each.study_instance_uid), reverse=True)


def may_hold_films(answer: Dataset) -> bool:
    """Return whether a study or series may hold chest films, as far as the answer to a query says."""
    said = attributes.texts(answer, "ModalitiesInStudy") + attributes.texts(answer, "Modality")
    modalities = {each.upper() for each in said if each}
    # Scanned films (OT) are not requested: too many other objects have this modality.
    return (not modalities or bool(modalities & RADIOGRAPHY_MODALITIES)) and not names_other_body_part(answer)


def holds_frontal_film(headers: Sequence[Dataset]) -> bool:
    """Return whether one of a study's instances is a chest film that is not lateral by View Position."""
    return any(
        verdict.analysable and attributes.text(header, "ViewPosition").upper() not in LATERAL_VIEWS
        for header, verdict in zip(headers, select(headers), strict=True)
    )
