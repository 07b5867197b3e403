"""Selection of the instances of a study that can be analysed, with a reason for each other one.

Only what a header positively says excludes an instance: a third of real chest films name no body part and
no view. What a picture shows is checked later, by the gate in front of the models.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from pydicom.dataset import Dataset
from pydicom.uid import (
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
)

from dicom_node import MODEL_NAME
from dicom_node.imaging import attributes
from dicom_node.imaging.pixels import GRAYSCALE, photometric_name
from dicom_node.imaging.radiographs import (
    ANALYSED_MODALITIES,
    ANALYSED_SOP_CLASSES,
    DEFINED_MODALITIES,
    SECONDARY_CAPTURE_SOP_CLASSES,
)

_NAMED_WORDS = 3
_WORD = re.compile(r"[^\W\d_]+")

CHEST_WORDS: Final = frozenset(
    _WORD.findall(
        "chest cxr heart lung lungs mediastinum poumon poumons pulmon pulmonary pulmones rib ribs sternum "
        "thoracic thorax torax"
    )
)
"""Words that name the chest, in several languages."""

OTHER_WORDS: Final = frozenset(
    _WORD.findall(
        "abdomen abdominal ankle ankles becken breast calcaneus cervical coccyx colon cspine dental "
        "elbow extremity facial feet femur fibula finger fingers foot forearm hand hands hip hips "
        "humerus knee knees kub leg legs lspine lumbar lumbosacral mammography mandible maxilla nasal "
        "neck orbit orbits patella pelvic pelvis sacrum scapula shoulder sinuses skull spine teeth thigh "
        "thumb tibia toe toes tspine wrist"
    )
)
"""Words that name another body part: of Body Part Examined (PS3.16 annex L) and of descriptions."""


@dataclass(frozen=True, slots=True)
class Eligibility:
    """Result of the selection for one instance: whether it can be analysed, and why not.

    Attributes
    ----------
    reason
        Key into ``results.codes.REFUSALS``; empty when the instance can be analysed.
    text
        Reason as one sentence for a person; empty when the instance can be analysed.
    """

    reason: str = ""
    text: str = ""

    @property
    def analysable(self) -> bool:
        """True when the instance can be analysed."""
        return not self.reason


def select(headers: Sequence[Dataset]) -> tuple[Eligibility, ...]:
    """Decide by the headers which instances of one study can be analysed.

    Parameters
    ----------
    headers
        Headers of all received instances of one study, without pixel data, in any order.

    Returns
    -------
    tuple of Eligibility
        One entry for each header, in the same order.
    """
    study = _Study(headers)
    return tuple(study.eligibility(position) for position in range(len(headers)))


def _exclusion(header: Dataset) -> Eligibility | None:
    """Return why a header by itself excludes its instance."""
    found = ((reason, exclusion(header)) for reason, exclusion in _EXCLUSIONS.items())
    return next((Eligibility(reason, text) for reason, text in found if text), None)


class _Study:
    """Headers of one study, with what one instance says of another."""

    def __init__(self, headers: Sequence[Dataset]) -> None:
        self._headers = headers
        self._uids = [attributes.text(header, "SOPInstanceUID") for header in headers]
        self._exclusions = [_exclusion(header) for header in headers]
        self._processed = any(
            attributes.text(header, "SOPClassUID") == DigitalXRayImageStorageForPresentation
            and not _is_result(header)
            for header in headers
        )

    def eligibility(self, position: int) -> Eligibility:
        header = self._headers[position]
        if excluded := self._exclusions[position]:
            return excluded
        # A damaged copy, which is excluded by itself, takes no whole film with it.
        earlier = zip(self._uids[:position], self._exclusions[:position], strict=True)
        if any(uid == self._uids[position] and excluded is None for uid, excluded in earlier):
            return Eligibility("duplicate", "another instance of the study has the same SOP Instance UID")
        if attributes.text(header, "SOPClassUID") == DigitalXRayImageStorageForProcessing and self._processed:
            return Eligibility("for_processing", "the study holds a processed film, this one is raw")
        if attributes.text(header, "SOPClassUID") in SECONDARY_CAPTURE_SOP_CLASSES and self._is_copy(header):
            return Eligibility("derived", "the picture was derived from another one of the study")
        return Eligibility()

    def _is_copy(self, header: Dataset) -> bool:
        # Image Type says nothing here: many original films call themselves DERIVED\SECONDARY.
        sources = attributes.items(header, "SourceImageSequence")
        return any(attributes.text(item, "ReferencedSOPInstanceUID") in self._uids for item in sources)


def _is_result(header: Dataset) -> bool:
    """True when a dicom-node wrote the instance: this one, or another that shares the PACS."""
    equipment = [header, *attributes.items(header, "ContributingEquipmentSequence")]
    return any(attributes.text(item, "ManufacturerModelName") == MODEL_NAME for item in equipment)


# Exclusions by one header. Each returns the reason as a sentence, or an empty string.


def _own_result(header: Dataset) -> str:
    return "the instance is itself a result of this software" if _is_result(header) else ""


def _identifiers(header: Dataset) -> str:
    keywords = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
    missing = [keyword for keyword in keywords if not attributes.text(header, keyword)]
    return f"the instance lacks {', '.join(missing)}" if missing else ""


def _sop_class(header: Dataset) -> str:
    uid = attributes.text(header, "SOPClassUID")
    if uid in ANALYSED_SOP_CLASSES:
        return ""
    return f"{attributes.uid_name(uid) or 'an unknown SOP class'} is no radiograph"


def _modality(header: Dataset) -> str:
    modality = attributes.text(header, "Modality").upper()
    if modality in ANALYSED_MODALITIES:
        return ""
    known = f"modality {modality}" if modality in DEFINED_MODALITIES else "a modality that is not defined"
    return f"{known} is no radiography"


def _not_grayscale(header: Dataset) -> str:
    photometric = attributes.text(header, "PhotometricInterpretation").upper()
    if photometric in GRAYSCALE | {""}:
        return ""
    return f"the picture is {photometric_name(photometric)}, not grayscale"


def _multi_frame(header: Dataset) -> str:
    frames = next(iter(attributes.numbers(header, "NumberOfFrames")), 1)
    return f"the instance holds {frames:g} frames, not one" if frames > 1 else ""


def names_other_body_part(header: Dataset) -> str:
    """Return a sentence when the header names another body part and not the chest, else an empty string.

    Study Description is read only when the series-level elements name no body part. The sentence holds only
    words of :data:`OTHER_WORDS`: descriptions are free text.
    """
    for keywords in (("BodyPartExamined", "ProtocolName", "SeriesDescription"), ("StudyDescription",)):
        text = " ".join(part for keyword in keywords for part in attributes.texts(header, keyword) if part)
        words = {word.casefold() for word in _WORD.findall(text)}
        if words & CHEST_WORDS:
            return ""
        if others := sorted(words & OTHER_WORDS):
            return f"the header names another body part: {', '.join(others[:_NAMED_WORDS])}"
    return ""


_EXCLUSIONS: Final[dict[str, Callable[[Dataset], str]]] = {
    "own_result": _own_result,
    "sop_class": _sop_class,
    "identifiers": _identifiers,
    "modality": _modality,
    "not_grayscale": _not_grayscale,
    "multi_frame": _multi_frame,
    "body_part": names_other_body_part,
}
"""Reason -> check of one header. They are tried in this order; the first that excludes is reported."""
