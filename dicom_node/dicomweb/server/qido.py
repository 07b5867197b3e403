"""What is searched for by QIDO-RS (PS3.18 10.6), and whether an object is it.

What concerns studies is asked of the index. Series and instances are few in a study: there the headers
decide.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword
from sqlalchemy import ColumnElement, Engine, Select, and_, or_, select, true

from dicom_node.dicomweb.server.objects import (
    INSTANCE_KEYS,
    MODALITIES,
    SERIES_KEYS,
    STUDY_KEYS,
    Held,
    Json,
    Objects,
    first,
    grouped,
    heading,
    tag_of,
    values,
)
from dicom_node.store import database
from dicom_node.store.tables import catalogue, study

MOST: Final = 1000
"""Results of one answer."""
DEFAULT: Final = 100
WALK: Final = 5000
"""Studies that a search for series or instances looks into."""
_BATCH: Final = 50
_LARGEST: Final = 2**31 - 1

_COLUMNS: Final = {
    "StudyInstanceUID": study.c.study_instance_uid,
    "StudyDate": catalogue.c.study_date,
    "StudyTime": catalogue.c.study_time,
    "StudyDescription": catalogue.c.description,
    "AccessionNumber": catalogue.c.accession_number,
    "ReferringPhysicianName": catalogue.c.referring_physician,
    "PatientName": catalogue.c.patient_name,
    "PatientID": catalogue.c.patient_id,
    "StudyID": catalogue.c.study_identifier,
}
_NARROWING: Final = {"SOPInstanceUID": "sop_instance_uid", "SOPClassUID": "sop_class_uid"}
"""Keys of instances that tell which studies are worth a look."""
_MATCHED: Final = {
    "series": ("Modality", "SeriesInstanceUID", "SeriesNumber", "SeriesDescription", "Manufacturer",
               "BodyPartExamined", "PerformedProcedureStepStartDate", "PerformedProcedureStepStartTime"),
    "instance": ("SOPClassUID", "SOPInstanceUID", "InstanceNumber", "Rows", "Columns", "ContentDate",
                 "ContentTime"),
}  # fmt: skip
"""What is searched by at the levels below the study; of a study ``_COLUMNS`` and ModalitiesInStudy."""
_RETURNED: Final = {"study": STUDY_KEYS, "series": SERIES_KEYS, "instance": INSTANCE_KEYS}
LEVELS: Final = ("study", "series", "instance")
_RANGES: Final = frozenset({"DA", "TM", "DT"})
_WILD: Final = frozenset("*?")
_UNMATCHED: Final = frozenset({"UI", "DA", "TM", "DT", "IS", "US", "UL", "DS"})
"""VRs whose values are taken as they are (PS3.4 C.2.2.2.4)."""


class BadQuery(ValueError):
    """A search that cannot be understood; the text is one sentence."""


@dataclass(frozen=True, slots=True)
class Search:
    """One search.

    Attributes
    ----------
    level
        ``study``, ``series`` or ``instance``.
    keys
        Values by keyword.
    include
        Tags that are wanted beside the usual ones; None for all.
    fuzzy
        Whether names that sound alike were asked for.
    """

    level: str
    keys: Mapping[str, str]
    include: tuple[str, ...] | None = ()
    limit: int = DEFAULT
    offset: int = 0
    fuzzy: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """One result: the objects of a study, of a series, or one object."""

    held: Sequence[Held]
    whole: Sequence[Held]  # of its study


@dataclass(frozen=True, slots=True)
class Answer:
    """What was found.

    Attributes
    ----------
    more
        Whether the search ended before everything was found.
    """

    found: Sequence[Found]
    more: bool


def parse_search(level: str, words: Sequence[tuple[str, str]], **known: str) -> Search:
    """Understand the query of a search.

    Parameters
    ----------
    words
        Names and values as they stand in the address.
    known
        Keys that the path holds.

    Raises
    ------
    BadQuery
        When a name is unknown, or nothing that is searched by at this level, or a value is none.
    """
    keys: dict[str, str] = dict(known)
    include: list[str] = []
    numbers = {"limit": DEFAULT, "offset": 0}
    fuzzy, everything = False, False
    for name, value in words:
        if name in numbers:
            if not re.fullmatch(r"[0-9]{1,10}", value) or int(value) > _LARGEST:
                raise BadQuery(f"{name} is a number, 0 or more.")
            numbers[name] = int(value)
        elif name == "fuzzymatching":
            if value not in ("true", "false"):
                raise BadQuery("fuzzymatching is true or false.")
            fuzzy = value == "true"
        elif name == "includefield":
            fields = value.split(",")
            everything = everything or "all" in fields
            include += [tag_of(_keyword(field)) for field in fields if field not in ("all", "")]
        elif name != "accept":
            keyword = _keyword(name)
            if keyword not in _searchable(level):
                raise BadQuery(f"Nothing is searched by {keyword} here.")
            if keyword in keys:
                raise BadQuery(f"{keyword} stands twice.")
            if value not in ("", "*"):
                keys[keyword] = _checked(keyword, value)
    return Search(
        level, keys, None if everything else tuple(include), numbers["limit"], numbers["offset"], fuzzy
    )


def _searchable(level: str) -> set[str]:
    below = LEVELS[1 : LEVELS.index(level) + 1]
    return {*_COLUMNS, "ModalitiesInStudy", *(key for each in below for key in _MATCHED[each])}


def _keyword(name: str) -> str:
    keyword = keyword_for_tag(int(name, 16)) if re.fullmatch(r"[0-9a-fA-F]{8}", name) else name
    if not keyword or not re.fullmatch(r"[A-Za-z0-9]+", keyword) or tag_for_keyword(keyword) is None:
        raise BadQuery("A name in the query is neither a keyword nor a tag of an attribute.")
    return keyword


def _checked(keyword: str, value: str) -> str:
    vr = _vr(keyword)
    if "\0" in value or len(value) > 1024:
        raise BadQuery(f"{keyword} cannot have this value.")
    pattern = {
        "UI": r"[0-9.]{1,64}(?:[\\,][0-9.]{1,64})*",
        "DA": r"(?=.*\d)(?:\d{8})?-?(?:\d{8})?",
        "TM": r"(?=.*\d)[0-9.:]*-?[0-9.:]*",
        "IS": r"\s*[+-]?\d{1,10}\s*",
        "US": r"\d{1,5}",
    }.get(vr)
    if pattern is not None and not re.fullmatch(pattern, value):
        raise BadQuery(f"{keyword} cannot have this value.")
    return value


def _vr(keyword: str) -> str:
    tag = tag_for_keyword(keyword)
    assert tag is not None
    return dictionary_VR(tag)


# -- in the index


def read_found(engine: Engine, objects: Objects, search: Search) -> Answer:
    """Search.

    Raises
    ------
    StorageFailed
        When the database does not answer.
    """
    limit = min(search.limit, MOST)
    if search.level == "study":
        query = _studies(objects, search).limit(limit).offset(search.offset)
        with database.reading(engine) as connection:
            ids = list(connection.execute(query).scalars())
        whole = objects.of_studies(ids)
        return Answer([Found(whole[key], whole[key]) for key in ids if whole[key]], len(ids) == MOST)
    found: list[Found] = []
    if limit == 0:
        return Answer(found, more=False)
    walked = passed = 0
    for held in _walk(engine, objects, search):
        walked += 1
        for each in _below(held, search):
            passed += 1
            if passed > search.offset:
                found.append(each)
            if len(found) >= limit:
                return Answer(found, limit < search.limit)
    return Answer(found, walked >= WALK)


def _walk(engine: Engine, objects: Objects, search: Search) -> Iterator[list[Held]]:
    """Yield the objects of one study after another, as far as a search goes."""
    query = _studies(objects, search)
    last = _LARGEST
    for _ in range(WALK // _BATCH):
        with database.reading(engine) as connection:
            ids = list(connection.execute(query.where(study.c.id < last).limit(_BATCH)).scalars())
        whole = objects.of_studies(ids)
        yield from (whole[key] for key in ids)
        if len(ids) < _BATCH:
            return
        last = ids[-1]


def _studies(objects: Objects, search: Search) -> Select[Any]:
    """Ask for the numbers of studies, the newest first."""
    joined = study.outerjoin(catalogue, catalogue.c.study_id == study.c.id)
    query = select(study.c.id).select_from(joined).where(objects.shown).order_by(study.c.id.desc())
    for keyword, value in search.keys.items():
        if keyword in _COLUMNS:
            query = query.where(_matches(_COLUMNS[keyword], _vr(keyword), value))
        elif keyword in ("ModalitiesInStudy", "Modality"):
            query = query.where(_has_modality(objects, value))
        elif keyword in _NARROWING:
            query = query.where(objects.any_with(_NARROWING[keyword], _listed(value)))
    return query


def _has_modality(objects: Objects, value: str) -> ColumnElement[bool]:
    """Say whether a study has films or results of one of these modalities."""
    conditions: list[ColumnElement[bool]] = []
    for wanted in _listed(value):
        kinds = [kind for kind, modality in MODALITIES.items() if _same(modality, "CS", wanted)]
        conditions.append(objects.any_of(kinds))
        if objects.films:
            pattern = _like(wanted) if _WILD & {*wanted} else _escaped(wanted)
            conditions.append(catalogue.c.modalities.ilike(f"% {pattern} %", escape="!"))
    return or_(*conditions)


def _matches(column: Any, vr: str, value: str) -> ColumnElement[bool]:
    """Match a column as PS3.4 C.2.2.2 says; wildcards and names do so whatever the case."""
    if vr == "UI":
        return or_(*(column == each for each in _listed(value)))
    if vr in _RANGES and "-" in value:
        low, high = value.split("-", 1)
        conditions = [column >= low] if low else []
        if high:
            conditions.append(column <= _end(high))
        return and_(column != "", *conditions)
    if vr == "PN" or (vr not in _UNMATCHED and _WILD & {*value}):
        pattern = value.rstrip("^") if vr == "PN" else value
        return true() if set(pattern) == {"*"} else column.ilike(_like(pattern), escape="!")
    equal: ColumnElement[bool] = column == value
    return equal


def _end(high: str) -> str:
    """Return the last that an end of a range means: a time may be less exact, and 12 ends with 12:59:59.

    In digits alone, which every database puts in the same order.
    """
    return f"{high}{'9' * 8}"


def _listed(value: str) -> list[str]:
    """Return the values of a list."""
    return re.split(r"[\\,]", value)


def _escaped(text: str) -> str:
    return re.sub(r"([!%_])", r"!\1", text)


def _like(pattern: str) -> str:
    return _escaped(pattern).replace("*", "%").replace("?", "_")


# -- below the study


def _below(held: Sequence[Held], search: Search) -> Iterator[Found]:
    """Yield the series or instances of a study that are searched for."""
    wanted = {key: value for key, value in search.keys.items() if key not in _COLUMNS}
    wanted.pop("ModalitiesInStudy", None)
    of_series = {key: value for key, value in wanted.items() if key in _MATCHED["series"]}
    of_instance = {key: value for key, value in wanted.items() if key in _MATCHED["instance"]}
    for series in grouped(held, lambda each: each.series_instance_uid).values():
        if not matches(series[0].heading, of_series):
            continue
        if search.level == "series":
            yield Found(series, held)
            continue
        yield from (Found([each], held) for each in series if matches(each.heading, of_instance))


def matches(header: Mapping[str, Json], keys: Mapping[str, str]) -> bool:
    """Whether a header has these values (PS3.4 C.2.2.2)."""
    return all(
        any(_same(str(each), _vr(keyword), value) for each in values(header, keyword))
        for keyword, value in keys.items()
    )


def _same(value: str, vr: str, wanted: str) -> bool:
    if vr == "UI":
        return value in _listed(wanted)
    if vr in ("IS", "US"):
        return float(value) == float(wanted)
    if vr in _RANGES and "-" in wanted:
        low, high = wanted.split("-", 1)
        return low <= value and (not high or value <= _end(high))
    if vr in _UNMATCHED or not _WILD & {*wanted}:
        return value == wanted
    parts = (".*" if each == "*" else "." if each == "?" else re.escape(each) for each in wanted)
    return re.fullmatch("".join(parts), value, re.IGNORECASE | re.DOTALL) is not None


# -- what is answered


def result_of(found: Found, search: Search, studies: str) -> dict[str, Json]:
    """Write one result.

    Parameters
    ----------
    studies
        Address of all studies.
    """
    one = found.held[0]
    levels = LEVELS[: LEVELS.index(search.level) + 1]
    wanted = {tag_of(key) for level in levels for key in _RETURNED[level]}
    result = {tag: element for tag, element in one.heading.items() if tag in wanted}
    result |= _included(one, search)
    address = f"{studies}/{one.study_instance_uid}"
    modalities = sorted({str(first(each.heading, "Modality")) for each in found.whole} - {""})
    series = grouped(found.whole, lambda each: each.series_instance_uid)
    result |= _element("StudyInstanceUID", one.study_instance_uid)
    result |= _element("ModalitiesInStudy", *modalities)
    result |= _element("NumberOfStudyRelatedSeries", len(series))
    result |= _element("NumberOfStudyRelatedInstances", len(found.whole))
    result |= _element("InstanceAvailability", "ONLINE")
    if search.level != "study":
        address += f"/series/{one.series_instance_uid}"
        result |= _element("NumberOfSeriesRelatedInstances", len(series[one.series_instance_uid]))
    if search.level == "instance":
        address += f"/instances/{one.sop_instance_uid}"
    return dict(sorted((result | _element("RetrieveURL", address)).items()))


def _included(one: Held, search: Search) -> dict[str, Json]:
    """Return what was asked for beside the usual: of one object whatever it has, else nothing from below."""
    if search.include is None:
        return heading(one.path, None) if search.level == "instance" else {}
    below = {tag_of(key) for each in LEVELS[LEVELS.index(search.level) + 1 :] for key in _RETURNED[each]}
    wanted = [tag for tag in search.include if tag not in below]
    return heading(one.path, wanted) if wanted else {}


def _element(keyword: str, *content: object) -> dict[str, Json]:
    return {tag_of(keyword): {"vr": _vr(keyword), "Value": list(content)}}
