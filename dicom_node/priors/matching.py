"""Which of a patient's earlier examinations is the one to compare with: the rule, and no network.

Two studies are of one patient when both name the same Patient ID and nothing that both say of the patient
contradicts it. A study without a Patient ID is nobody's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final, Self

from pydicom.dataset import Dataset

from dicom_node.imaging import attributes
from dicom_node.imaging.selection import names_other_body_part, select
from dicom_node.results.codes import LATERAL_VIEWS

MODALITIES: Final = frozenset({"CR", "DX", "DR", "RG", "XR"})
"""Of a projection radiograph. Scanned films (OT) are not asked for: too much else is called so."""


LATE: Final = "it did not come within {:g} s"
"""Why a study is read without a prior that nobody found in time."""


@dataclass(frozen=True, slots=True)
class Patient:
    """What tells one patient from another.

    Attributes
    ----------
    identifier
        Patient ID; empty when nobody knows whose study it is.
    issuer
        Issuer of Patient ID; empty when it is not said, as in most answers to a query.
    birth_date
        DA; empty when it is not said.
    """

    identifier: str
    issuer: str = ""
    birth_date: str = ""

    @classmethod
    def of(cls, ds: Dataset) -> Self:
        """Read a header, or an answer to a query."""
        return cls(
            *(attributes.text(ds, each) for each in ("PatientID", "IssuerOfPatientID", "PatientBirthDate"))
        )

    def is_same(self, other: Patient) -> bool:
        """Whether both are surely one patient."""
        return (
            bool(self.identifier)
            and self.identifier == other.identifier
            and _agree(self.issuer, other.issuer)
            and _agree(self.birth_date, other.birth_date)
        )

    @property
    def key(self) -> str:
        """Digest that the index finds candidates by: nobody's name; empty without a Patient ID."""
        return hashlib.sha256(self.identifier.encode()).hexdigest() if self.identifier else ""


def _agree(one: str, other: str) -> bool:
    return not one or not other or one == other


@dataclass(frozen=True, slots=True)
class Examination:
    """A study as far as it matters for its order among others.

    Attributes
    ----------
    taken
        Study Date and as much as is known of Study Time, ``YYYYMMDD[HHMMSS]``; empty when there is no date.
    """

    study_instance_uid: str
    patient: Patient
    taken: str

    @classmethod
    def of(cls, ds: Dataset) -> Self:
        """Read a header, or an answer to a query."""
        day, moment = attributes.text(ds, "StudyDate"), attributes.text(ds, "StudyTime")
        taken = day if day.isascii() and day.isdecimal() and _day(day) else ""
        digits = moment.partition(".")[0]
        if taken and digits.isascii() and digits.isdecimal() and len(digits) <= 6:
            taken += digits
        return cls(attributes.text(ds, "StudyInstanceUID"), Patient.of(ds), taken)

    def is_before(self, other: Examination, days: int) -> bool:
        """Whether it was surely taken earlier, at most so many days."""
        earliest, latest = other.span(days)
        known = min(len(self.taken), len(other.taken))
        return bool(
            self.taken
            and earliest
            and earliest <= self.taken[:8] <= latest
            and self.taken[:known] < other.taken[:known]
        )

    def span(self, days: int) -> tuple[str, str]:
        """First and last day (DA) on which a prior may have been taken; two empty strings without a date."""
        day = _day(self.taken[:8])
        if day is None:
            return "", ""
        first = date.fromordinal(max(1, day.toordinal() - days))
        return first.isoformat().replace("-", ""), self.taken[:8]


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text) if len(text) == len("YYYYMMDD") else None
    except ValueError:
        return None


def candidates(examination: Examination, others: Iterable[Examination], days: int) -> list[Examination]:
    """Return the earlier examinations of the same patient, the newest first, each study once.

    Parameters
    ----------
    days
        How far back.
    """
    found: dict[str, Examination] = {}
    for other in others:
        if (
            other.study_instance_uid not in ("", examination.study_instance_uid)
            and examination.patient.is_same(other.patient)
            and other.is_before(examination, days)
        ):
            found.setdefault(other.study_instance_uid, other)
    return sorted(found.values(), key=lambda each: (each.taken, each.study_instance_uid), reverse=True)


def may_hold_films(answer: Dataset) -> bool:
    """Whether a study or series that a query found may hold chest films, as far as the answer says."""
    said = attributes.texts(answer, "ModalitiesInStudy") + attributes.texts(answer, "Modality")
    modalities = {each.upper() for each in said if each}
    return (not modalities or bool(modalities & MODALITIES)) and not names_other_body_part(answer)


def frontal_films(headers: Sequence[Dataset]) -> bool:
    """Whether one of a study's instances is a chest film that its header does not call a lateral one."""
    return any(
        verdict.analysable and attributes.text(header, "ViewPosition").upper() not in LATERAL_VIEWS
        for header, verdict in zip(headers, select(headers), strict=True)
    )
