"""Query parameters of QIDO-RS (PS3.18 8.3.4): search keys, fields to include, limit and offset."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

from pydicom.datadict import dictionary_VR, keyword_dict, keyword_for_tag, tag_for_keyword

from dicom_node.dicomweb.server.objects import tag_of

DEFAULT_LIMIT: Final = 100
LARGEST_NUMBER: Final = 2**31 - 1
LEVELS: Final = ("study", "series", "instance")
KEYS: Final = {
    "study": ("StudyInstanceUID", "StudyDate", "StudyTime", "StudyDescription", "AccessionNumber",
              "ReferringPhysicianName", "PatientName", "PatientID", "StudyID", "ModalitiesInStudy"),
    "series": ("Modality", "SeriesInstanceUID", "SeriesNumber", "SeriesDescription", "Manufacturer",
               "BodyPartExamined", "PerformedProcedureStepStartDate", "PerformedProcedureStepStartTime",
               "RequestAttributesSequence.ScheduledProcedureStepID",
               "RequestAttributesSequence.RequestedProcedureID"),
    "instance": ("SOPClassUID", "SOPInstanceUID", "InstanceNumber", "Rows", "Columns", "ContentDate",
                 "ContentTime"),
}  # fmt: skip
"""Search keys of each level; a search at a level below has those of the levels above, too."""
MAX_KEY_LENGTH: Final = 256
"""Longest value of a search key, in characters; UIDs may be listed up to four times as long."""
MAX_ASTERISKS: Final = 8
"""Most asterisks of a search key, those that stand together counted once."""
MAX_FIELDS: Final = 128
"""Most attributes that ``includefield`` may name; ``all`` is none of them."""
NO_WILDCARD: Final = frozenset({"UI", "DA", "TM", "DT", "IS", "US", "UL", "DS"})
"""VRs without wildcard matching (PS3.4 C.2.2.2.4)."""


class InvalidQuery(ValueError):
    """Error of a search that is not valid; its text is one sentence."""


@dataclass(frozen=True, slots=True)
class Search:
    """Parameters of one search.

    Attributes
    ----------
    level
        ``study``, ``series`` or ``instance``.
    keys
        Search values by keyword.
    include
        Tags to return in addition to the usual ones; None for all.
    fuzzy
        True when fuzzy matching of names was asked for.
    ignored
        Names of parameters that are neither of the standard's nor attributes (PS3.18 8.3.4).
    """

    level: str
    keys: Mapping[str, str]
    include: tuple[str, ...] | None = ()
    limit: int = DEFAULT_LIMIT
    offset: int = 0
    fuzzy: bool = False
    ignored: tuple[str, ...] = ()


def parse_search(level: str, words: Sequence[tuple[str, str]], **known: str) -> Search:
    """Parse the query parameters of a search.

    Parameters
    ----------
    words
        Names and values of the query parameters.
    known
        Keys from the path.

    Raises
    ------
    InvalidQuery
        When a name is that of an attribute, or looks like one, that is no search key at this level, or a
        value is not valid. Were a key of a patient ignored, the answer would hold those of others.
    """
    keys: dict[str, str] = dict(known)
    include: list[str] = []
    numbers = {"limit": DEFAULT_LIMIT, "offset": 0}
    ignored: list[str] = []
    fuzzy, everything = False, False
    for name, value in words:
        if name in numbers:
            if not re.fullmatch(r"[0-9]{1,10}", value) or int(value) > LARGEST_NUMBER:
                raise InvalidQuery(f"{name} must be a number, 0 or more.")
            numbers[name] = int(value)
        elif name == "fuzzymatching":
            if value not in ("true", "false"):
                raise InvalidQuery("fuzzymatching must be true or false.")
            fuzzy = value == "true"
        elif name == "includefield":
            everything = everything or "all" in value.split(",")
            include = _with_fields(include, value)
        elif name in ("accept", "charset"):  # read elsewhere; every answer is in UTF-8
            continue
        elif not _names_attribute(name):
            ignored.append(name)
        else:
            keyword = _keyword(name)
            if keyword not in _searchable(level):
                raise InvalidQuery(f"{keyword} is not a search key at this level.")
            if keyword in keys:
                raise InvalidQuery(f"{keyword} is given twice.")
            if value not in ("", "*"):
                keys[keyword] = _checked(keyword, value)
    return Search(
        level, keys, None if everything else tuple(include), numbers["limit"], numbers["offset"], fuzzy,
        tuple(dict.fromkeys(ignored)),
    )  # fmt: skip


def _searchable(level: str) -> set[str]:
    return {key for each in LEVELS[: LEVELS.index(level) + 1] for key in KEYS[each]}


def _names_attribute(name: str) -> bool:
    """Return whether a name is, or was meant to be, an attribute's: parameters begin with a small letter."""
    return not (name[:1].islower() or name.startswith("_")) or name.casefold() in _keywords()


@cache
def _keywords() -> frozenset[str]:
    return frozenset(map(str.casefold, keyword_dict))


def _with_fields(include: Sequence[str], value: str) -> list[str]:
    """Return tags to include and those of a further ``includefield``, each once."""
    fields = (_field(field) for field in value.split(",") if field not in ("all", ""))
    if len(found := list(dict.fromkeys([*include, *filter(None, fields)]))) > MAX_FIELDS:
        raise InvalidQuery(f"includefield names more than {MAX_FIELDS} attributes.")
    return found


def _field(name: str) -> str:
    """Return the tag of an attribute of ``includefield``: of a path the sequence; empty for a private one."""
    first = name.partition(".")[0]
    if re.fullmatch(r"[0-9a-fA-F]{8}", first) and int(first[:4], 16) % 2:
        return ""
    return tag_of(_keyword(first))


def _keyword(name: str) -> str:
    """Return the keyword of an attribute, or the keywords of a path with dots between them.

    Raises
    ------
    InvalidQuery
        When there is no such attribute.
    """
    if "." in name:
        return ".".join(_keyword(part) for part in name.split(".", MAX_FIELDS))
    keyword = keyword_for_tag(int(name, 16)) if re.fullmatch(r"[0-9a-fA-F]{8}", name) else name
    if not keyword or not re.fullmatch(r"[A-Za-z0-9]+", keyword) or tag_for_keyword(keyword) is None:
        raise InvalidQuery("A name in the query is neither a keyword nor a tag of an attribute.")
    return keyword


def _checked(keyword: str, value: str) -> str:
    vr = value_representation(keyword)
    if "\0" in value:
        raise InvalidQuery(f"{keyword} cannot have this value.")
    if len(value) > MAX_KEY_LENGTH * (4 if vr == "UI" else 1):
        raise InvalidQuery(f"The value of {keyword} is too long: at most {MAX_KEY_LENGTH} characters.")
    if vr not in NO_WILDCARD and re.sub(r"\*+", "*", value).count("*") > MAX_ASTERISKS:
        raise InvalidQuery(f"The value of {keyword} has more than {MAX_ASTERISKS} asterisks.")
    pattern = {
        "UI": r"[0-9.]{1,64}(?:[\\,][0-9.]{1,64})*",
        "DA": r"(?=.*\d)(?:\d{8})?-?(?:\d{8})?",
        "TM": r"(?=.*\d)[0-9.:]*-?[0-9.:]*",
        "IS": r"\s*[+-]?\d{1,10}\s*",
        "US": r"\d{1,5}",
    }.get(vr)
    if pattern is not None and not re.fullmatch(pattern, value):
        raise InvalidQuery(f"{keyword} cannot have this value.")
    return value.replace(":", "") if vr == "TM" else value


def value_representation(keyword: str) -> str:
    """Return the VR of a key; of a path that of its last element."""
    tag = tag_for_keyword(keyword.rpartition(".")[2])
    assert tag is not None
    return dictionary_VR(tag)
