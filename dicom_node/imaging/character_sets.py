"""Character sets of received text (PS3.3 C.12.1.1.2, PS3.5 6.1 and annexes H to K), as devices declare them.

Many headers declare a set that their bytes are not of: UTF-8 under ISO_IR 100 or under nothing, Windows-1252
under ISO_IR 100, Latin-1 under ISO_IR 192, a misspelt term. Text that is read by the wrong set names another
patient. Where the bytes contradict the declaration, the data set is changed in memory to what the bytes say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from pydicom import charset
from pydicom.datadict import dictionary_VR, keyword_for_tag
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag
from pydicom.valuerep import CUSTOMIZABLE_CHARSET_VR

from dicom_node.imaging import attributes

UTF_8: Final = "ISO_IR 192"

_MISSPELT: Final = re.compile(r"ISO[ _-]?(?P<extension>2022[ _-])?IR[ _-]?(?P<number>\d+)", re.IGNORECASE)
_UTF_8_NAMES: Final = frozenset({"UTF-8", "UTF8", "UTF_8"})
_LATIN: Final = frozenset({"", "6", "100"})
"""Registrations whose bytes above 127 are those of Latin-1, or of no letter at all."""
_PLAUSIBLE_UTF_8: Final = _LATIN | {"101", "109", "110", "126", "127", "138", "144", "148", "203"}
"""Registrations in which a text of any length that is valid UTF-8 by chance does not occur.

Half-width katakana (13) and Thai (166) are not among them, nor is any set of several bytes a character.
"""
_CODECS: Final = {"203": "iso8859_15"}
"""Registrations that pydicom does not know (PS3.3 table C.12-2)."""

_ESCAPE, _GB_2312 = b"\x1b", b"\x1b$)A"
_DELIMITERS: Final = frozenset(b"^=\\")
"""Characters after which the first set is in force again (PS3.5 6.1.2.5.3)."""


def normalized_term(term: str) -> str:
    """Defined term of a Specific Character Set value, its spelling repaired."""
    term = term.strip()
    if term.upper() in _UTF_8_NAMES:
        return UTF_8
    match = _MISSPELT.fullmatch(term)
    if match is None:
        return term
    return f"ISO 2022 IR {match['number']}" if match["extension"] else f"ISO_IR {match['number']}"


def correct_text(ds: Dataset) -> Dataset:
    """Text of a data set by the set that its bytes are in, where that is not the declared one.

    Parameters
    ----------
    ds
        Data set as it was read; changed in place. Text that its declaration reads rightly is left alone.

    Returns
    -------
    pydicom.dataset.Dataset
        The same data set. Where anything was changed, it declares ISO_IR 192.
    """
    terms = _terms(ds)
    if any(_decoded(value, terms) != _as_declared(ds, value) for _, _, value in _foreign(ds)):
        _rewrite(ds, terms)
        ds.SpecificCharacterSet = UTF_8
    return ds


def _terms(ds: Dataset) -> list[str]:
    return [normalized_term(term) for term in attributes.texts(ds, "SpecificCharacterSet")] or [""]


def _foreign(ds: Dataset) -> Iterator[tuple[BaseTag, str, bytes]]:
    """Tag, VR and bytes of the text that has not been decoded yet and holds more than ASCII."""
    for tag in list(ds.keys()):
        raw: Any = ds.get_item(tag)
        if not isinstance(raw, RawDataElement) or not isinstance(raw.value, bytes):
            continue
        if raw.value.isascii() and _ESCAPE not in raw.value:
            continue
        try:
            vr = dictionary_VR(tag) if raw.VR in (None, "UN") else str(raw.VR)
        except KeyError:
            continue
        if vr in CUSTOMIZABLE_CHARSET_VR:
            yield tag, vr, raw.value


def _as_declared(ds: Dataset, value: bytes) -> str:
    with attributes.tolerance():
        terms = attributes.texts(ds, "SpecificCharacterSet")
        return charset.decode_bytes(value, charset.convert_encodings(terms), set(_DELIMITERS))


def _decoded(value: bytes, terms: list[str]) -> str:
    """Text of encoded bytes: by the declared sets, else UTF-8, else Windows-1252, else byte by byte."""
    if _ESCAPE in value:
        return _with_extensions(value, terms)
    number = terms[0].rpartition(" ")[2] if terms[0].startswith("ISO") else terms[0]
    declared = _CODECS.get(number) or charset.python_encoding.get(terms[0], "")
    latin = number in _LATIN or not declared
    if latin or number == "192":
        candidates = ["utf-8", "cp1252"]
    elif number in _PLAUSIBLE_UTF_8:
        candidates = ["utf-8", declared]
    else:
        candidates = [declared, "utf-8"]
    for codec in candidates:
        try:
            return value.decode(codec)
        except UnicodeError:
            continue
    return value.decode("latin-1")


def _with_extensions(value: bytes, terms: list[str]) -> str:
    """Text with code extensions (PS3.5 6.1.2.5): by pydicom, but for GB 2312, whose escapes it leaves in."""
    with attributes.tolerance():
        encodings = charset.convert_encodings(terms)
        return "".join(
            part.removeprefix(_GB_2312).decode("gb2312", "replace")
            if part.startswith(_GB_2312)
            else charset.decode_bytes(part, encodings, set(_DELIMITERS))
            for part in re.split(rb"(?=\x1b)", value)
            if part
        )


def _rewrite(ds: Dataset, terms: list[str]) -> None:
    """Decode all text of a data set and of its items, and declare what it is in now."""
    for tag, vr, value in list(_foreign(ds)):
        ds[tag] = DataElement(tag, vr, _decoded(value, terms).rstrip(" \0"))
    for tag in list(ds.keys()):
        element: Any = ds.get_item(tag)
        if element.VR not in ("SQ", None):
            continue
        for item in attributes.items(ds, keyword_for_tag(tag)):
            if "SpecificCharacterSet" in item:
                correct_text(item)
            else:
                _rewrite(item, terms)
