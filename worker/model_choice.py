"""Choice of the models that read a study, by the conditions of their entries in the settings."""

from __future__ import annotations

from collections.abc import Sequence

from pydicom.dataset import Dataset

from dicom_node.config.served_models import ServedModel
from dicom_node.delivery.routing import fits, view_of
from dicom_node.imaging import attributes, value_representations

_DAYS_OF_UNIT = {"D": 1.0, "W": 7.0, "M": 365.25 / 12, "Y": 365.25}


def reads_study(served: ServedModel, headers: Sequence[Dataset], calling_aes: Sequence[str]) -> bool:
    """Return whether a model reads a study, by the conditions on its sender and the patient's age.

    Parameters
    ----------
    headers
        Headers of its images; the age is that of the first that says one.
    calling_aes
        AE titles that sent its images; empty for films that no peer sent, which every model reads.
    """
    if calling_aes and not _meets(served.calling_ae, calling_aes):
        return False
    if served.min_age is None and served.max_age is None:
        return True
    age = next((years for header in headers if (years := age_in_years(header)) is not None), None)
    if age is None:
        return False
    return (served.min_age or 0.0) <= age and (served.max_age is None or age < served.max_age)


def age_in_years(header: Dataset) -> float | None:
    """Return the patient's age in years, by Patient's Age (AS, PS3.5 6.2); None where it says none."""
    text = value_representations.age(attributes.text(header, "PatientAge"))
    return int(text[:3]) * _DAYS_OF_UNIT[text[3]] / _DAYS_OF_UNIT["Y"] if text else None


def reads_film(served: ServedModel, header: Dataset, view: str) -> bool:
    """Return whether a model reads a film, by the conditions on its view and modality.

    Parameters
    ----------
    view
        View that the gate sees; empty without one, and the header's View Position then counts.
    """
    modality = attributes.text(header, "Modality")
    return (not served.view or (view or view_of(header)) in served.view) and _meets(
        served.modality, [modality]
    )


def _meets(patterns: Sequence[str], values: Sequence[str]) -> bool:
    return not patterns or any(fits(pattern, value) for pattern in patterns for value in values)
