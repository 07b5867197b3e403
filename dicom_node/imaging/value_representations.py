"""Values of the VRs that devices write wrongly (PS3.5 6.2): read where the meaning is certain, else as empty.

These functions take the text of one value and are the only place that says what a date, a time or a UID of a
received header is. The index, searches, pages, priors and results therefore mean the same by each.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import Final

MAX_UID_LENGTH: Final = 64
"""Most characters of a UI value (PS3.5 9.1)."""

_DATE = re.compile(r"(\d{4})([.\-/]?)(\d{2})\2(\d{2})(?:\d{6}.*|[T ].*)?", re.ASCII)
_TIME = re.compile(r"(\d{2}):?(\d{2})?:?(\d{2})?(?:(\.\d{1,6})\d*)?", re.ASCII)
_DATE_TIME = re.compile(
    r"(\d{4}(?:\d{2}){0,2})(?:(?<=\d{8})(\d{2})(?:(\d{2})(?:(\d{2})(?:\.\d{1,6})?)?)?)?(?:[+-](?:0\d|1[0-4])[0-5]\d)?",
    re.ASCII,
)
_AGE = re.compile(r"(\d{1,3})([DWMY])", re.ASCII)
_CODE_STRING = re.compile(r"[A-Z0-9_ ]{1,16}")
_UID = re.compile(r"\d+(\.\d+)+", re.ASCII)
_SEXES: Final = {"M": "M", "F": "F", "O": "O", "MALE": "M", "FEMALE": "F", "OTHER": "O"}


def date(text: str) -> str:
    """DA value as eight digits; empty if it is no day of the calendar.

    Read are also ``1995.07.20`` (the form of ACR-NEMA 2.0), ``2026-01-02``, ``2026/01/02``, and a date that
    goes on with a time.
    """
    match = _DATE.fullmatch(text.strip())
    if match is None:
        return ""
    year, _, month, day = match.groups()
    try:
        dt.date(int(year), int(month), int(day))
    except ValueError:
        return ""
    return f"{year}{month}{day}"


def time(text: str) -> str:
    """TM value; ``11:22:07`` loses its colons, a fraction what is beyond 6 digits; empty if it is no time."""
    match = _TIME.fullmatch(text.strip())
    if match is None:
        return ""
    hour, minute, second = (int(part or 0) for part in match.groups()[:3])
    if not (hour < 24 and minute < 60 and second <= 60):
        return ""
    if match[3] is None:
        return f"{match[1]}{match[2] or ''}"
    return f"{match[1]}{match[2]}{match[3]}{match[4] or ''}"


def date_time(text: str) -> str:
    """DT value, with its offset from UTC if it has one; empty if it is no moment of the calendar."""
    match = _DATE_TIME.fullmatch(text.strip())
    if match is None:
        return ""
    day, hour, minute, second = match.groups()
    whole = f"{day}{'0101'[len(day) - 4 :]}"
    return text.strip() if date(whole) and time(f"{hour or '00'}{minute or ''}{second or ''}") else ""


def age(text: str) -> str:
    """AS value of three digits and a unit; empty for ``62``, of which nobody knows the unit."""
    match = _AGE.fullmatch(text.strip().upper())
    return f"{match[1]:0>3}{match[2]}" if match else ""


def code_string(text: str) -> str:
    """CS value in upper case, at most 16 of A-Z, 0-9, blank and underscore; empty otherwise."""
    text = text.strip().upper()
    return text if _CODE_STRING.fullmatch(text) else ""


def sex(text: str) -> str:
    """Patient's Sex as one of M, F and O (PS3.3 C.7.1.1), also from the English words; empty otherwise."""
    return _SEXES.get(text.strip().upper(), "")


def uid(text: str) -> str:
    """UID of an instance, a series or a study as its device wrote it; empty if it is none.

    A component may begin with a zero, which PS3.5 9.1 forbids: such devices exist, and the archive files by
    the UID as it is. Letters, empty components and more than 64 characters are no UID.
    """
    return text if len(text) <= MAX_UID_LENGTH and _UID.fullmatch(text) else ""


def person_name_groups(text: str) -> list[str]:
    """Component groups of a PN value: alphabetic, ideographic, phonetic (PS3.5 6.2.1).

    Empty components at the end of a group, and empty groups at the end, are left out.
    """
    groups = [group.strip().rstrip("^ ") for group in text.split("=")]
    while groups and not groups[-1]:
        groups.pop()
    return groups


def readable_name(text: str) -> str:
    """Name of a person for a page, such as ``Doe, Jane Ann``; empty if all its components are.

    It is that of the first component group that is not empty: a name may be ideographic only.
    """
    group = next((group for group in person_name_groups(text) if group.strip("^ ")), "")
    family, *others = (" ".join(component.split()) for component in group.split("^"))
    return ", ".join(part for part in (family, " ".join(filter(None, others))) if part)
