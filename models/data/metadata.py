"""Metadata of patient and equipment, by which the figures of subgroups are split."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import date

#: Largest plausible age, in years. The tables hold higher ones (ChestX-ray14 up to 414), which are errors.
_OLDEST = 120

_AGE = re.compile(r"0*(\d+)([YMWD]?)")
_DAYS = {"": 365.25, "Y": 365.25, "M": 30.44, "W": 7.0, "D": 1.0}
_SEXES = {"m": "M", "male": "M", "f": "F", "female": "F"}
_WORDS = {
    "M": re.compile(r"\b(?:male|man|gentleman|boy)\b", re.IGNORECASE),
    "F": re.compile(r"\b(?:female|woman|lady|girl)\b", re.IGNORECASE),
}


def whole_years(age: str) -> str:
    """Whole years of an age, such as ``58``; empty where it is unknown or impossible.

    Parameters
    ----------
    age
        Years, or a DICOM age string (PS3.5 6.2, AS) such as ``058Y`` or ``011M``.
    """
    match = _AGE.fullmatch(age.strip().upper())
    return "" if match is None else _plausible(int(match[1]) * _DAYS[match[2]])


def whole_years_on(birth: str, study: str) -> str:
    """Whole years of the age on the day of the study, both days as DICOM writes them (PS3.5 6.2, DA)."""
    born, done = _day(birth), _day(study)
    return "" if born is None or done is None else _plausible((done - born).days)


def sex(value: str) -> str:
    """Sex from a table's value: ``M``, ``F``, or empty for anything else."""
    return _SEXES.get(value.strip().casefold(), "")


def sex_named_in(text: str) -> str:
    """Sex named in a text: ``M`` or ``F`` where it names exactly one, else empty."""
    named = [value for value, words in _WORDS.items() if words.search(text)]
    return named[0] if len(named) == 1 else ""


def agreed(facts: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Merge metadata: values that are given and not contradicted; an empty value counts as not given."""
    found: dict[str, set[str]] = {}
    for entry in facts:
        for name, value in entry.items():
            if value:
                found.setdefault(name, set()).add(value)
    return {name: values.pop() for name, values in found.items() if len(values) == 1}


def _plausible(days: float) -> str:
    years = int(days / _DAYS["Y"])
    return str(years) if days >= 0 and years <= _OLDEST else ""


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text.strip())
    except ValueError:
        return None
