"""QIDO-RS searches (PS3.18 10.6): matching and results.

Studies are searched in the index. Series and instances, of which a study has few, are matched by their
headers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import translate
from typing import Any, Final

from sqlalchemy import ColumnElement, Engine, Select, and_, or_, select, true

from dicom_node.dicomweb.server.objects import (
    INSTANCE_KEYS,
    RESULT_MODALITIES,
    SERIES_KEYS,
    STUDY_KEYS,
    Json,
    ObjectStore,
    StoredObject,
    element_values,
    first_value,
    group_by,
    header_elements,
    tag_of,
)
from dicom_node.dicomweb.server.query_parameters import (
    KEYS,
    LARGEST_NUMBER,
    LEVELS,
    NO_WILDCARD,
    Search,
    value_representation,
)
from dicom_node.store import database
from dicom_node.store.tables import catalogue, study

MAX_RESULTS: Final = 1000
"""Largest number of results in one response."""
MAX_STUDIES: Final = 5000
"""Largest number of studies whose headers a search for series or instances reads."""
_BATCH: Final = 50

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
"""Keys of instances that the index has too, with their columns; they exclude most studies early."""
_RETURNED: Final = {"study": STUDY_KEYS, "series": SERIES_KEYS, "instance": INSTANCE_KEYS}
_UNIQUE: Final = {"series": "SeriesInstanceUID", "instance": "SOPInstanceUID"}
"""Key that names each match of a level."""
_RANGES: Final = frozenset({"DA", "TM", "DT"})
_WILDCARDS: Final = frozenset("*?")
_MATCHED_LENGTH: Final = 1024
"""Longest text of a header that a wildcard may match: no VR that is searched allows more (PS3.5 6.2)."""


@dataclass(frozen=True, slots=True)
class QueryMatch:
    """One match of a search: the objects of a study or a series, or one instance."""

    objects: Sequence[StoredObject]
    study_objects: Sequence[StoredObject]  # all objects of its study


@dataclass(frozen=True, slots=True)
class QueryResult:
    """Result of a search.

    Attributes
    ----------
    more
        True when there may be further matches.
    """

    matches: Sequence[QueryMatch]
    more: bool


# -- search in the index


def run_search(engine: Engine, objects: ObjectStore, search: Search) -> QueryResult:
    """Run a search.

    Raises
    ------
    StorageFailed
        When the database does not answer.
    """
    limit = min(search.limit, MAX_RESULTS)
    if search.level == "study":
        query = _studies(objects, search).limit(limit + 1).offset(search.offset)
        with database.reading(engine) as connection:
            ids = list(connection.execute(query).scalars())
        whole = objects.of_studies(ids[:limit])
        return QueryResult(
            [QueryMatch(whole[key], whole[key]) for key in ids[:limit] if whole[key]], len(ids) > limit
        )
    found: list[QueryMatch] = []
    if limit == 0:
        return QueryResult(found, more=False)
    unique = search.keys.get(_UNIQUE[search.level])
    most = None if unique is None else len(_listed(unique))
    studies_read = matched = 0
    for study_objects in _walk_studies(engine, objects, search):
        studies_read += 1
        for each in _matches_below(study_objects, search):
            matched += 1
            if len(found) == limit:
                return QueryResult(found, more=True)
            if matched > search.offset:
                found.append(each)
            if matched == most:
                return QueryResult(found, more=False)
    return QueryResult(found, studies_read >= MAX_STUDIES)


def _walk_studies(engine: Engine, objects: ObjectStore, search: Search) -> Iterator[list[StoredObject]]:
    """Yield the objects of each candidate study, the newest first, up to `MAX_STUDIES` studies."""
    query = _studies(objects, search)
    last = LARGEST_NUMBER
    for _ in range(MAX_STUDIES // _BATCH):
        with database.reading(engine) as connection:
            ids = list(connection.execute(query.where(study.c.id < last).limit(_BATCH)).scalars())
        whole = objects.of_studies(ids)
        yield from (whole[key] for key in ids)
        if len(ids) < _BATCH:
            return
        last = ids[-1]


def _studies(objects: ObjectStore, search: Search) -> Select[Any]:
    """Return the query for the numbers of the studies that match, the newest first."""
    joined = study.outerjoin(catalogue, catalogue.c.study_id == study.c.id)
    query = select(study.c.id).select_from(joined).where(objects.has_objects).order_by(study.c.id.desc())
    for keyword, value in search.keys.items():
        if keyword in _COLUMNS:
            query = query.where(_matches(_COLUMNS[keyword], value_representation(keyword), value))
        elif keyword in ("ModalitiesInStudy", "Modality"):
            query = query.where(_has_modality(objects, value))
        elif keyword in _NARROWING:
            query = query.where(objects.has_object_with(_NARROWING[keyword], _listed(value)))
    return query


def _has_modality(objects: ObjectStore, value: str) -> ColumnElement[bool]:
    """Return the SQL condition that a study has films or results of one of these modalities."""
    conditions: list[ColumnElement[bool]] = []
    for wanted in _listed(value):
        kinds = [kind for kind, modality in RESULT_MODALITIES.items() if _same(modality, "CS", wanted)]
        conditions.append(objects.has_result_of(kinds))
        if objects.films:
            pattern = _like(wanted) if _WILDCARDS & {*wanted} else _escaped(wanted)
            conditions.append(catalogue.c.modalities.ilike(f"% {pattern} %", escape="!"))
    return or_(*conditions)


def _matches(column: Any, vr: str, value: str) -> ColumnElement[bool]:
    """Return the SQL condition of PS3.4 C.2.2.2; wildcards and names ignore case."""
    if vr == "UI":
        return or_(*(column == each for each in _listed(value)))
    if vr in _RANGES and "-" in value:
        low, high = value.split("-", 1)
        conditions = [column >= low] if low else []
        if high:
            conditions.append(column <= _end(high))
        return and_(column != "", *conditions)
    if vr == "PN":
        return _matches_name(column, value)
    if vr not in NO_WILDCARD and _WILDCARDS & {*value}:
        return true() if set(value) == {"*"} else column.ilike(_like(value), escape="!")
    equal: ColumnElement[bool] = column == value
    return equal


def _matches_name(column: Any, value: str) -> ColumnElement[bool]:
    """Return the SQL condition that a name, or one of its component groups, matches (PS3.4 C.2.2.2.1)."""
    pattern = value.rstrip("^")
    if set(pattern) == {"*"}:
        return true()
    group = _like(pattern)
    whole_or_part = (group, f"{group}=%", f"%={group}", f"%={group}=%")
    return or_(*(column.ilike(each, escape="!") for each in whole_or_part))


def _end(high: str) -> str:
    """Return the upper limit of a range: a time may have fewer digits, and 12 includes 12:59:59.

    It is padded with digits only, because every database sorts digits in the same order.
    """
    return f"{high}{'9' * 8}"


def _listed(value: str) -> list[str]:
    """Return the values of a list, separated by backslash or comma."""
    return re.split(r"[\\,]", value)


def _escaped(text: str) -> str:
    return re.sub(r"([!%_])", r"!\1", text)


def _like(pattern: str) -> str:
    return _escaped(pattern).replace("*", "%").replace("?", "_")


# -- series and instances


def _matches_below(study_objects: Sequence[StoredObject], search: Search) -> Iterator[QueryMatch]:
    """Yield the series or instances of a study that match."""
    wanted = {key: value for key, value in search.keys.items() if key not in _COLUMNS}
    wanted.pop("ModalitiesInStudy", None)
    of_series = {key: value for key, value in wanted.items() if key in KEYS["series"]}
    of_instance = {key: value for key, value in wanted.items() if key in KEYS["instance"]}
    for series in group_by(study_objects, lambda each: each.series_instance_uid).values():
        if not matches(series[0].header, of_series):
            continue
        if search.level == "series":
            yield QueryMatch(series, study_objects)
            continue
        yield from (QueryMatch([each], study_objects) for each in series if matches(each.header, of_instance))


def matches(header: Mapping[str, Json], keys: Mapping[str, str]) -> bool:
    """Return True when a header matches all keys (PS3.4 C.2.2.2)."""
    return all(
        any(
            _same(str(each), value_representation(keyword), value) for each in element_values(header, keyword)
        )
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
    if vr in NO_WILDCARD or not _WILDCARDS & {*wanted}:
        return value == wanted
    # fnmatch writes an expression that never goes back to an earlier asterisk, so the time is bounded.
    pattern = translate(wanted.replace("[", "[[]"))
    return len(value) <= _MATCHED_LENGTH and re.match(pattern, value, re.IGNORECASE) is not None


# -- results


def match_to_json(match: QueryMatch, search: Search, studies: str) -> dict[str, Json]:
    """Return one match as DICOM JSON.

    Parameters
    ----------
    studies
        Address of the ``/studies`` resource.
    """
    stored = match.objects[0]
    levels = LEVELS[: LEVELS.index(search.level) + 1]
    wanted = {tag_of(key) for level in levels for key in _RETURNED[level]}
    result = {tag: element for tag, element in stored.header.items() if tag in wanted}
    result |= _included(stored, search)
    address = f"{studies}/{stored.study_instance_uid}"
    modalities = sorted({str(first_value(each.header, "Modality")) for each in match.study_objects} - {""})
    series = group_by(match.study_objects, lambda each: each.series_instance_uid)
    result |= _element("StudyInstanceUID", stored.study_instance_uid)
    result |= _element("ModalitiesInStudy", *modalities)
    result |= _element("NumberOfStudyRelatedSeries", len(series))
    result |= _element("NumberOfStudyRelatedInstances", len(match.study_objects))
    result |= _element("InstanceAvailability", "ONLINE")
    if search.level != "study":
        address += f"/series/{stored.series_instance_uid}"
        result |= _element("NumberOfSeriesRelatedInstances", len(series[stored.series_instance_uid]))
    if search.level == "instance":
        address += f"/instances/{stored.sop_instance_uid}"
    return dict(sorted((result | _element("RetrieveURL", address)).items()))


def _included(stored: StoredObject, search: Search) -> dict[str, Json]:
    """Return the elements of ``includefield``; at study and series level none of the levels below."""
    if search.include is None:
        return header_elements(stored.path, None) if search.level == "instance" else {}
    below = {tag_of(key) for each in LEVELS[LEVELS.index(search.level) + 1 :] for key in _RETURNED[each]}
    wanted = [tag for tag in search.include if tag not in below]
    return header_elements(stored.path, wanted) if wanted else {}


def _element(keyword: str, *content: object) -> dict[str, Json]:
    return {tag_of(keyword): {"vr": value_representation(keyword), "Value": list(content)}}
