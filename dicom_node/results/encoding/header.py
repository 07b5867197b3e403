"""Attributes that a result copies from its source: patient, study, character set; repaired or left out.

A bad value in a source header is the normal case, and passing it on would make a bad object of ours. A
value whose repair is certain is repaired; an identifier or a date that would have to be guessed is left
out, for a wrong one is worse than none.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterable
from typing import Final

from pydicom import charset
from pydicom.dataset import Dataset

from dicom_node.imaging import attributes
from dicom_node.results.encoding.part10 import written

_COPIED: Final = (
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "PatientAge",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
    "StudyID",
    "StudyDescription",
)
"""Patient, Patient Study and General Study modules (PS3.3 C.7.1.1, C.7.2.2, C.7.2.1)."""

_TYPE_2: Final = frozenset(_COPIED) - {"IssuerOfPatientID", "PatientAge", "StudyDescription"}
"""Present even when empty."""

# Bytes 128 to 159 of an unknown character set stay: without them the text would name another patient.
_CONTROLS = re.compile(r"[\x00-\x1f\x7f\\]+")
_DATE = re.compile(r"(\d{4})[.\-/]?(\d{2})[.\-/]?(\d{2})(\d{6}.*)?")
_TIME = re.compile(r"(\d{2}):?(\d{2})?:?(\d{2})?(\.\d{1,6})?\d*")
_AGE = re.compile(r"\d{3}[DWMY]")
_UID = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))*")
_CODE_STRING = re.compile(r"[A-Z0-9_ ]{1,16}")
_OFFSET = re.compile(r"[+-](0\d|1[0-4])[0-5]\d")
_PERSON_NAME_GROUPS, _PERSON_NAME_COMPONENTS, _PERSON_NAME_LENGTH = 3, 5, 64


def _clean(text: str) -> str:
    return _CONTROLS.sub(" ", text).strip()


def date(text: str) -> str:
    """Repair a DA: ``1995.07.20`` and dates that go on with a time become eight digits; empty if no date."""
    match = _DATE.fullmatch(text.strip())
    if match is None:
        return ""
    try:
        dt.date(int(match[1]), int(match[2]), int(match[3]))
    except ValueError:
        return ""
    return f"{match[1]}{match[2]}{match[3]}"


def time(text: str) -> str:
    """Repair a TM: ``11:22:07`` loses its colons, a fraction what is beyond 6 digits; empty if no time."""
    match = _TIME.fullmatch(text.strip())
    if match is None:
        return ""
    hour, minute, second = (int(part or 0) for part in match.groups()[:3])
    if not (hour < 24 and minute < 60 and second <= 60):
        return ""
    if match[3] is None:
        return f"{match[1]}{match[2] or ''}"
    return f"{match[1]}{match[2]}{match[3]}{match[4] or ''}"


def age(text: str) -> str:
    """Keep an AS only as it must be: of ``62`` nobody knows the unit."""
    return text.strip().upper() if _AGE.fullmatch(text.strip().upper()) else ""


def code_string(text: str) -> str:
    """Repair a CS: upper case, at most 16 of A-Z, 0-9, blank and underscore; empty otherwise."""
    text = text.strip().upper()
    return text if _CODE_STRING.fullmatch(text) else ""


def uid(text: str) -> str:
    """Keep a UI only as it must be (PS3.5 9.1)."""
    return text if len(text) <= 64 and _UID.fullmatch(text) else ""


def person_name(text: str) -> str:
    """Repair a PN: at most three groups of five components and 64 characters (PS3.5 6.2.1)."""
    groups = []
    for group in text.split("=")[:_PERSON_NAME_GROUPS]:
        components = [_clean(component) for component in group.split("^")[:_PERSON_NAME_COMPONENTS]]
        groups.append("^".join(components).rstrip("^")[:_PERSON_NAME_LENGTH].rstrip("^ "))
    return "=".join(groups).rstrip("=")


def _identifier(length: int) -> Callable[[str], str]:
    def repair(text: str) -> str:
        text = text.strip()
        return text if len(text) <= length and not _CONTROLS.search(text) else ""

    return repair


def _description(text: str) -> str:
    return _clean(text)[:64].rstrip()


def _sex(text: str) -> str:
    return text.strip().upper() if text.strip().upper() in {"M", "F", "O"} else ""


_REPAIRS: Final[dict[str, Callable[[str], str]]] = {
    "PatientName": person_name,
    "PatientID": _identifier(64),
    "IssuerOfPatientID": _identifier(64),
    "PatientBirthDate": date,
    "PatientSex": _sex,
    "PatientAge": age,
    "StudyDate": date,
    "StudyTime": time,
    "AccessionNumber": _identifier(16),
    "ReferringPhysicianName": person_name,
    "StudyID": _identifier(16),
    "StudyDescription": _description,
    "TimezoneOffsetFromUTC": lambda text: text.strip() if _OFFSET.fullmatch(text.strip()) else "",
    "BodyPartExamined": code_string,
    "SOPClassUID": uid,
    "SOPInstanceUID": uid,
    "SeriesInstanceUID": uid,
    "StudyInstanceUID": uid,
    "CodeValue": _identifier(16),
    "CodingSchemeDesignator": _identifier(16),
    "CodeMeaning": _description,
}


def repaired(source: Dataset, keyword: str) -> str:
    """Value of a source's element as it may be written; empty when there is none that may."""
    return _REPAIRS[keyword](attributes.text(source, keyword))


def copied(source: Dataset) -> dict[str, str]:
    """Patient and study elements of a result, by keyword; type 2 ones are there even when empty."""
    values = {keyword: repaired(source, keyword) for keyword in _COPIED}
    return {keyword: value for keyword, value in values.items() if value or keyword in _TYPE_2}


def local_time(created: dt.datetime, source: Dataset) -> tuple[dt.datetime, str]:
    """Convert a moment to the time that the source's dates and times are in.

    Returns
    -------
    datetime.datetime
        At the source's offset from UTC, or at the computer's when the source does not state one.
    str
        Timezone Offset From UTC to be written; empty when the source has none, for it would then be
        claimed of the copied study date and time too (PS3.3 C.12.1.1.8).
    """
    offset = repaired(source, "TimezoneOffsetFromUTC")
    if not offset:
        return created.astimezone(), ""
    minutes = int(offset[1:3]) * 60 + int(offset[3:5])
    zone = dt.timezone(dt.timedelta(minutes=-minutes if offset[0] == "-" else minutes))
    return created.astimezone(zone), offset


def character_set(source: Dataset, texts: Iterable[str]) -> list[str]:
    """Specific Character Set of a result: the source's when it can hold every text, else UTF-8.

    Parameters
    ----------
    source
        Header that the texts were copied from.
    texts
        All that will be written.

    Returns
    -------
    list of str
        Values of the element; empty when the default repertoire is enough and the source declares none.
    """
    declared = [term.strip() for term in attributes.texts(source, "SpecificCharacterSet")]
    foreign = sorted({text for text in texts if not text.isascii()})
    if not foreign and declared in ([], [""]):
        return []
    if _inheritable(declared) and all(_survives(text, declared) for text in foreign):
        return declared
    return ["ISO_IR 192"]


def _inheritable(declared: list[str]) -> bool:
    # A term with code extensions ("ISO 2022 ...") says nothing alone, and one without them must stand alone;
    # the default repertoire is declared by declaring nothing.
    extended = [term.startswith("ISO 2022 ") for term in declared if term]
    known = all(term in charset.python_encoding and term != "ISO_IR 6" for term in declared)
    return bool(extended) and known and (all(extended) if len(declared) > 1 else not any(extended))


def _survives(text: str, declared: list[str]) -> bool:
    try:
        with attributes.tolerance():
            encodings = charset.convert_encodings(declared)
        written(text, encodings)
    except (LookupError, ValueError):
        return False
    return True
