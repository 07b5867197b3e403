"""Attributes that a result copies from its source: patient, study, character set; repaired or left out.

A bad value in a source header is the normal case. What names the patient, the order and the study is repeated
as it stands there (:data:`AS_GIVEN`), for the archive files by it. Of the rest, a value whose repair is
certain is repaired, and a date or a code that would have to be guessed is left out: a wrong one is worse
than none.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterable
from typing import Final

from pydicom import charset
from pydicom.dataset import Dataset

from dicom_node.imaging import attributes, value_representations
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

_ISSUERS: Final = ("IssuerOfPatientIDQualifiersSequence", "IssuerOfAccessionNumberSequence")
_ISSUER_KEYS: Final = ("LocalNamespaceEntityID", "UniversalEntityID", "UniversalEntityIDType")
_ISSUER_KINDS: Final = frozenset({"DNS", "EUI64", "ISO", "URI", "UUID", "X400", "X500"})
_MAX_LENGTH: Final = 1024
"""Most characters of an identifier or a name: any archive's limit is below it."""
# Bytes 128 to 159 of an unknown character set stay: they are letters of it.
_CONTROLS = re.compile(r"[\x00-\x1f\x7f\\]+")
_OFFSET = re.compile(r"[+-](0\d|1[0-4])[0-5]\d", re.ASCII)


def _as_given(text: str) -> str:
    return text if len(text) <= _MAX_LENGTH else ""


def _code_part(text: str) -> str:
    text = text.strip()
    return text if len(text) <= 16 and not _CONTROLS.search(text) else ""


def _description(text: str) -> str:
    return _CONTROLS.sub(" ", text).strip()[:64].rstrip()


AS_GIVEN: Final = frozenset(
    {
        "PatientName",
        "PatientID",
        "IssuerOfPatientID",
        "AccessionNumber",
        "ReferringPhysicianName",
        "StudyID",
        "SOPInstanceUID",
        "SeriesInstanceUID",
        "StudyInstanceUID",
    }
)
"""Attributes by which archives and information systems find the patient, the order and the film.

They are repeated as they stand in the film, also where their VR forbids it (an Accession Number of 20
characters, a UID with a leading zero). The archive has taken this value with the film; a shortened or
empty one would file the result under another patient, or without its order.
"""

_REPAIRS: Final[dict[str, Callable[[str], str]]] = {
    "PatientName": _as_given,
    "PatientID": _as_given,
    "IssuerOfPatientID": _as_given,
    "PatientBirthDate": value_representations.date,
    "PatientSex": value_representations.sex,
    "PatientAge": value_representations.age,
    "StudyDate": value_representations.date,
    "StudyTime": value_representations.time,
    "AccessionNumber": _as_given,
    "ReferringPhysicianName": _as_given,
    "StudyID": _as_given,
    "StudyDescription": _description,
    "TimezoneOffsetFromUTC": lambda text: text.strip() if _OFFSET.fullmatch(text.strip()) else "",
    "BodyPartExamined": value_representations.code_string,
    "SOPClassUID": lambda text: text if attributes.is_uid(text) else "",
    "SOPInstanceUID": value_representations.uid,
    "SeriesInstanceUID": value_representations.uid,
    "StudyInstanceUID": value_representations.uid,
    "CodeValue": _code_part,
    "CodingSchemeDesignator": _code_part,
    "CodeMeaning": _description,
}


def repaired(source: Dataset, keyword: str) -> str:
    """Value of a source's element as it may be written; empty when there is none that may."""
    read = attributes.whole_text if keyword in AS_GIVEN else attributes.text
    return _REPAIRS[keyword](read(source, keyword))


def copied(source: Dataset) -> dict[str, str]:
    """Patient and study elements of a result, by keyword; type 2 ones are there even when empty."""
    values = {keyword: repaired(source, keyword) for keyword in _COPIED}
    return {keyword: value for keyword, value in values.items() if value or keyword in _TYPE_2}


def issuers(source: Dataset) -> dict[str, list[Dataset]]:
    """Who issued the Patient ID and the Accession Number, by keyword (PS3.3 table 10-17); only what is whole.

    An archive of several hospitals tells equal numbers apart by it.
    """
    found = {}
    for keyword in _ISSUERS:
        for item in attributes.items(source, keyword)[:1]:
            local, universal, kind = (attributes.whole_text(item, each).strip() for each in _ISSUER_KEYS)
            issuer = Dataset()
            if local and _as_given(local):
                issuer.LocalNamespaceEntityID = local
            if universal and _as_given(universal) and kind in _ISSUER_KINDS:
                issuer.UniversalEntityID, issuer.UniversalEntityIDType = universal, kind
            if issuer:
                found[keyword] = [issuer]
    return found


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
    foreign = sorted({text for text in texts if not text.isascii() or "\x1b" in text})
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
