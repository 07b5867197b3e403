"""Echoes of a patient's identity: its words and numbers where a device put them into other texts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from pydicom.dataset import Dataset

from dicom_node.imaging import attributes

_IDENTITY: Final = (
    "PatientID", "OtherPatientIDs", "OtherPatientNames", "PatientBirthName", "PatientMotherBirthName",
    "PatientName", "AccessionNumber", "IssuerOfPatientID", "PatientBirthDate", "PatientAddress",
    "PatientTelephoneNumbers", "MilitaryRank", "MedicalRecordLocator",
)  # fmt: skip
_NUMBERS: Final = ("PatientID", "AccessionNumber", "PatientBirthDate")
_WORD: Final = re.compile(r"[^\W_]+")
_UNSPACED: Final = re.compile(
    "[\u0e00-\u0eff\u1100-\u11ff\u3040-\u30ff\u3130-\u318f\u31f0-\u31ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff"
    "\U00020000-\U0003ffff]"
)
"""A letter of a script without blanks, or with names of one letter: from Thai to Hangul and Han."""
_SHORT: Final = 3
"""Length below which a word of other scripts says nobody's name, and is met by chance."""
_SHORT_NUMBER: Final = 5
"""Length below which a number without its separators is met by chance."""


class IdentityEchoes:
    """Words and numbers of the identity in a data set, which may stand elsewhere in it.

    Parameters
    ----------
    ds
        Data set before anything was removed.
    """

    def __init__(self, ds: Dataset) -> None:
        found = {word.casefold() for text in _identifying_texts(ds) for word in _WORD.findall(text)}
        self._parts = {word for word in found if _UNSPACED.search(word)}
        self._words = {word for word in found - self._parts if len(word) >= _SHORT}
        numbers = (_compact(attributes.whole_text(ds, keyword)) for keyword in _NUMBERS)
        self._numbers = {each for each in numbers if len(each) >= _SHORT_NUMBER}

    def stand_in(self, text: str) -> bool:
        """Return whether a text holds a word, or one of the numbers whatever separates its digits."""
        small, compact = text.casefold(), _compact(text)
        return (
            not self._words.isdisjoint(_WORD.findall(small))
            or any(part in small for part in self._parts)
            or any(number in compact for number in self._numbers)
        )


def _compact(text: str) -> str:
    return "".join(_WORD.findall(text.casefold()))


def _identifying_texts(ds: Dataset) -> Iterator[str]:
    """Yield the texts of a patient's identity, and all persons' names."""
    for keyword in _IDENTITY:
        yield attributes.whole_text(ds, keyword)
    for tag in list(ds.keys()):
        try:
            element = ds[tag]
            name = str(element.value) if element.VR == "PN" else ""  # a name is decoded only here
        except attributes.MALFORMED:
            continue
        yield name
        if element.VR == "SQ":
            for item in element.value:
                yield from _identifying_texts(item)
