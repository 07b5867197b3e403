"""De-identification by the Basic Application Level Confidentiality Profile (PS3.15 annex E).

What becomes of each attribute is a table, ``basic_profile.tsv``, which holds PS3.15 table E.1-1. Structured
reports and presentation states are cleaned item by item, so that a report still refers to its film: UIDs,
identifiers and dates change in the same way wherever they stand, by a secret of the site.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from importlib import resources
from typing import Any, Final

from pydicom.datadict import dictionary_has_tag
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag, Tag
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
    ParametricMapStorage,
    SegmentationStorage,
)

from dicom_node.errors import NotDeidentified
from dicom_node.imaging import attributes
from dicom_node.imaging.identity_echoes import IdentityEchoes
from dicom_node.imaging.pixel_mask import Rectangle, mask
from dicom_node.imaging.pseudonyms import Pseudonyms

EDITION: Final = "PS3.15 2026c"
_NOTICE: Final = "RESEARCH USE ONLY"
"""What the results of this node say of themselves; it names nobody, and stays."""
"""Edition of the table."""

_DUMMY: Final = "ANONYMIZED"
_DUMMIES: Final = {
    "DA": "19000101",
    "DT": "19000101000000",
    "TM": "000000",
    "AS": "000Y",
    "DS": "0",
    "IS": "0",
}
_DATES: Final = frozenset({"DA", "DT", "TM"})
_TEXTS: Final = frozenset({"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"})
_STANDARD_UIDS: Final = "1.2.840.10008."
_PATIENT_GROUP: Final = 0x0010
_PATIENT_NAME, _PATIENT_ID = Tag("PatientName"), Tag("PatientID")
_CLEANED: Final = frozenset(
    map(Tag, ("ContentSequence", "GraphicAnnotationSequence", "VerifyingObserverSequence"))
)
"""Sequences that the table gives a dummy value, and that the options of clean content keep, cleaned."""

_REQUIRED: Final = {
    Tag("PresentationCreationDate"): "D",  # PS3.3 C.11.10, type 1
    Tag("PresentationCreationTime"): "D",
    Tag("DeviceSerialNumber"): "D",  # PS3.3 C.7.5.2, type 1
    Tag("AcquisitionContextSequence"): "Z",  # PS3.3 C.7.6.14, type 2
    Tag("ReferencedPerformedProcedureStepSequence"): "Z",  # PS3.3 C.17.1, type 2
}
"""Attributes that objects here must have, and what becomes of them where the table removes others."""

_UNLISTED: Final = {
    Tag("TextValue"): "D",  # an observer's name and ID are text too (PS3.16 TID 1003, TID 1007)
    Tag("EncryptedAttributesSequence"): "X",  # holds what was removed by somebody else
}
_DRAWN: Final = frozenset({SegmentationStorage, ParametricMapStorage})
"""SOP classes whose pixels are drawn by programs, and repeat no film."""

_CLASS_UID: Final = re.compile(r"ClassUID$|^TransferSyntaxUID|^ImplementationClassUID$|^CodingSchemeUID$")
_PATTERNS: Final = {
    "DS": re.compile(r"[-+.\deE ]*"),
    "IS": re.compile(r"[-+\d ]*"),
    "AS": re.compile(r"(\d{3}[DWMY])?"),
    "TM": re.compile(r"[\d.:-]*"),
    "UI": re.compile(r"[\d.]*"),
}
"""Values of the VRs that hold no words (PS3.5 6.2)."""


class Retention(StrEnum):
    """Option of the profile: what is kept (PS3.15 E.3)."""

    UIDS = "uids"
    DATES = "dates"
    DEVICE = "device"
    PATIENT = "patient"
    INSTITUTION = "institution"


_CODES: Final = {  # PS3.16 CID 7050
    "profile": ("113100", "Basic Application Confidentiality Profile"),
    "pixels": ("113101", "Clean Pixel Data Option"),
    "graphics": ("113103", "Clean Graphics Option"),
    "content": ("113104", "Clean Structured Content Option"),
    Retention.DATES: ("113107", "Retain Longitudinal Temporal Information Modified Dates Option"),
    Retention.PATIENT: ("113108", "Retain Patient Characteristics Option"),
    Retention.DEVICE: ("113109", "Retain Device Identity Option"),
    Retention.UIDS: ("113110", "Retain UIDs Option"),
    Retention.INSTITUTION: ("113112", "Retain Institution Identity Option"),
}


@dataclass(frozen=True, slots=True)
class DeidentificationOptions:
    """Options of a de-identification.

    Attributes
    ----------
    retain
        What is kept beyond the Basic Profile.
    masks
        Rectangles of the picture that are blackened.
    unknown_is_clean
        Whether a picture that does not say whether text is burned in is taken as free of it.
    """

    retain: frozenset[Retention] = field(default_factory=frozenset)
    masks: tuple[Rectangle, ...] = ()
    unknown_is_clean: bool = False


@dataclass(frozen=True, slots=True)
class _Row:
    action: str
    option: str


@functools.cache
def profile() -> dict[int, _Row]:
    """Return the rows of PS3.15 table E.1-1 by tag."""
    text = (resources.files(__package__) / "basic_profile.tsv").read_text(encoding="ascii")
    rows = (line.split("\t") for line in text.splitlines() if not line.startswith("#"))
    return {int(tag, 16): _Row(action, option) for tag, action, option, _keyword in rows}


def deidentify(
    ds: Dataset,
    pseudonyms: Pseudonyms,
    options: DeidentificationOptions,
    decode: Callable[[], bytes] | None = None,
) -> Dataset:
    """De-identify an instance as it was read from a file.

    Parameters
    ----------
    ds
        Data set with file meta information; it is changed.
    decode
        Function that returns the stored values of a compressed picture, for masks.

    Returns
    -------
    Dataset
        The data set with new file meta information.

    Raises
    ------
    NotDeidentified
        When text is, or may be, burned into the picture; or the object holds a document.
    """
    with attributes.tolerance():
        check_content(ds, options)
        cleaner = _Cleaner(pseudonyms, options, ds)
        marked = _NOTICE in attributes.text(ds, "SeriesDescription")
        cleaner.clean(ds)
        cleaner.remove_echoes(ds)
        if marked:
            ds.SeriesDescription = _NOTICE
        if options.masks and "PixelData" in ds:
            mask(ds, options.masks, decode)
            ds.BurnedInAnnotation = "NO"
        _state_method(ds, options)
    ds.file_meta = _file_meta(ds)
    ds.preamble = b"\0" * 128
    return ds


def patient_of(ds: Dataset) -> str:
    """Return the text that a pseudonym of the patient is made of: Patient ID, else Study Instance UID."""
    return attributes.whole_text(ds, "PatientID") or attributes.text(ds, "StudyInstanceUID")


def is_picture_of(ds: Dataset, films: frozenset[str]) -> bool:
    """Return whether an object repeats pixels of one of these instances: a picture that refers to it."""
    return "PixelData" in ds and not _is_drawn(ds) and not films.isdisjoint(_referenced(ds))


def _is_drawn(ds: Dataset) -> bool:
    return attributes.text(ds, "SOPClassUID") in _DRAWN


def _referenced(ds: Dataset) -> Iterator[str]:
    for element in ds:
        if element.VR == "SQ":
            for item in element.value:
                yield from _referenced(item)
        elif element.keyword == "ReferencedSOPInstanceUID":
            yield str(element.value)


def check_content(ds: Dataset, options: DeidentificationOptions) -> None:
    """Check that nothing in an instance withstands de-identification.

    Raises
    ------
    NotDeidentified
        As :func:`deidentify`.
    """
    if "EncapsulatedDocument" in ds:
        raise NotDeidentified("it holds a document, which cannot be cleaned")
    if attributes.text(ds, "SOPClassUID") == MediaStorageDirectoryStorage:
        raise NotDeidentified("it is a DICOMDIR, which only lists other objects")
    if "PixelData" not in ds or _is_drawn(ds):
        return
    stated = attributes.text(ds, "BurnedInAnnotation").upper()
    if options.masks or stated == "NO" or (stated != "YES" and options.unknown_is_clean):
        return
    if stated == "YES":
        raise NotDeidentified("text is burned into its picture; give the rectangles to mask")
    raise NotDeidentified(
        "it does not say whether text is burned into its picture (0028,0301); look at it, then mask the text "
        "or state that unknown pictures are clean"
    )


class _Cleaner:
    """Cleaner of one instance."""

    def __init__(self, pseudonyms: Pseudonyms, options: DeidentificationOptions, ds: Dataset) -> None:
        self._pseudonyms = pseudonyms
        self._retain = options.retain
        self._patient = patient_of(ds)
        self._echoes = IdentityEchoes(ds)

    def clean(self, ds: Dataset) -> None:
        """Apply the table to a data set and all items in it."""
        for tag in list(ds.keys()):
            element = None if _always_removed(tag) else _element(ds, tag)
            if element is None:
                del ds[tag]
                continue
            row = profile().get(tag)
            action = row.action if row is not None else _unlisted(element)
            # A UID of a device is kept by the option of devices, too.
            options = {Retention.UIDS} if action in ("U", "X/Z/U*") else set[str]()
            options |= {row.option} if row is not None else set()
            if options & self._retain:
                self._keep(element)
            elif self._shifts(element):
                shifted = functools.partial(self._shifted, element.VR)
                element.value = _each(element.value, shifted)
            else:
                self._apply(ds, element, action)

    def _keep(self, element: DataElement) -> None:
        if element.VR == "SQ":
            for item in element.value:
                self.clean(item)

    def _shifts(self, element: DataElement) -> bool:
        dated = element.VR in _DATES and element.tag.group != _PATIENT_GROUP
        return dated and Retention.DATES in self._retain

    def _shifted(self, vr: str, value: object) -> str:
        return (
            str(value) if vr == "TM" else self._pseudonyms.shifted(self._patient, str(value)) or _DUMMIES[vr]
        )

    def _apply(self, ds: Dataset, element: DataElement, action: str) -> None:
        tag = element.tag
        if action != "X/Z/U*":
            action = _REQUIRED.get(tag) or _one_action(element, action)
        if tag in (_PATIENT_NAME, _PATIENT_ID):
            element.value = self._pseudonyms.patient(self._patient)
        elif action == "U":
            element.value = _each(element.value, self._uid)
        elif element.VR == "SQ" and (action in ("K", "X/Z/U*") or tag in _CLEANED):
            self._keep(element)
        elif element.keyword == "PersonIdentificationCodeSequence":
            element.value = Sequence([_code(_DUMMY, "99DEIDENTIFIED", _DUMMY)])
        elif action == "X" or (element.VR == "SQ" and action == "D"):
            del ds[tag]
        elif action == "Z":
            element.value = Sequence() if element.VR == "SQ" else None
        elif action == "D":
            element.value = _DUMMIES.get(element.VR, _DUMMY if element.VR in _TEXTS else b"\0\0")

    def _uid(self, value: object) -> str:
        uid = str(value)
        return uid if not uid or uid.startswith(_STANDARD_UIDS) else self._pseudonyms.uid(uid)

    def remove_echoes(self, ds: Dataset) -> None:
        """Remove words of the patient's identity where a device put them into other attributes."""
        for element in list(ds):
            if element.VR == "SQ":
                for item in element.value:
                    self.remove_echoes(item)
            elif element.VR in _TEXTS and self._echoes.stand_in(str(element.value)):
                element.value = None if element.VR == "CS" else _DUMMY


def _always_removed(tag: BaseTag) -> bool:
    """Private elements, group lengths, curves and overlays, and what the dictionary does not know."""
    group = tag.group & 0xFF00
    plane = group in (0x5000, 0x6000)
    return (
        tag.group % 2 == 1 or tag.element == 0 or plane or not (dictionary_has_tag(tag) or tag in profile())
    )


def _element(ds: Dataset, tag: BaseTag) -> DataElement | None:
    """Return an element; None when its bytes cannot be read, or its meaning is unknown."""
    try:
        found = ds[tag]
        str(found.value)  # a name is decoded only here
    except attributes.MALFORMED:
        return None
    if found.VR == "UN" or not _is_of_its_kind(found):
        return None
    return found


def _is_of_its_kind(element: DataElement) -> bool:
    """Return whether numbers, times and UIDs are such: anything else in them would be text."""
    pattern = _PATTERNS.get(element.VR)
    if pattern is None or element.value is None or (element.VR == "UI" and not element.value):
        return True
    many = element.value if isinstance(element.value, MultiValue | list) else [element.value]
    return all(pattern.fullmatch(str(each)) for each in many)


def _unlisted(element: DataElement) -> str:
    """Return the action for an attribute that the table does not name; K: keep."""
    if element.tag in _UNLISTED:
        return _UNLISTED[element.tag]
    if element.VR == "PN":
        return "X"
    if element.VR in _DATES:
        return "D"
    return "U" if element.VR == "UI" and not _CLASS_UID.search(element.keyword) else "K"


def _one_action(element: DataElement, action: str) -> str:
    """Return the one of several actions that an object here needs to stay valid (PS3.15 table E.1-1a)."""
    if action == "Z/D":
        return "D" if element.VR in _DATES else "Z"
    return action.partition("/")[0]


def _each(value: Any, change: Callable[[Any], str]) -> Any:
    if value is None or value == "":
        return value
    return [change(one) for one in value] if isinstance(value, MultiValue | list) else change(value)


def _state_method(ds: Dataset, options: DeidentificationOptions) -> None:
    """Say that the identity was removed, and how (PS3.15 E.1.1, PS3.3 C.7.1.1)."""
    used = ["profile", *sorted(options.retain)]
    used += ["pixels"] if options.masks and "PixelData" in ds else []
    used += ["content"] if "ContentSequence" in ds else []
    used += ["graphics"] if "GraphicAnnotationSequence" in ds else []
    ds.PatientIdentityRemoved = "YES"
    ds.DeidentificationMethod = f"dicom-node: {EDITION} E.1"
    ds.DeidentificationMethodCodeSequence = Sequence(
        [_code(_CODES[each][0], "DCM", _CODES[each][1]) for each in used]
    )
    ds.LongitudinalTemporalInformationModified = (
        "MODIFIED" if Retention.DATES in options.retain else "REMOVED"
    )


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def _file_meta(ds: Dataset) -> FileMetaDataset:
    """Return new file meta information: who sent the file, and through what, stays behind."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = ds.SOPClassUID
    meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    found = attributes.text(getattr(ds, "file_meta", Dataset()), "TransferSyntaxUID")
    meta.TransferSyntaxUID = UID(found) if found else ExplicitVRLittleEndian
    return meta
