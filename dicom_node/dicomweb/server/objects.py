"""Which objects DICOMweb hands out, and what their headers say in the DICOM JSON model (PS3.18 annex F).

These are the node's own results that are in force, and the received films while their files are in the spool.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from pydicom import dcmread
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from sqlalchemy import ColumnElement, Engine, and_, exists, or_, select

from dicom_node.config.data_dir import DataDir
from dicom_node.errors import NodeError, NotAnalysable
from dicom_node.imaging import attributes
from dicom_node.imaging.pixels import read_header
from dicom_node.store import database
from dicom_node.store.recorded_results import REJECTION
from dicom_node.store.tables import instance, result, study

_LOG = logging.getLogger(__name__)

Json = Mapping[str, Any]
"""An element: ``vr``, and ``Value``, ``InlineBinary`` or ``BulkDataURI``."""

FILM: Final = "film"
MODALITIES: Mapping[str, str] = MappingProxyType(
    {
        "sr": "SR",
        "similar": "SR",
        "sc": "OT",
        "pdf": "DOC",
        "ko": "KO",
        "seg": "SEG",
        "pr": "PR",
        "pm": "OT",
    }
)
"""Of each kind of result."""

STUDY_KEYS: Final = (
    "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName", "TimezoneOffsetFromUTC",
    "StudyDescription", "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID",
    "StudyID",
)  # fmt: skip
SERIES_KEYS: Final = (
    "Modality", "SeriesDescription", "SeriesInstanceUID", "SeriesNumber", "Manufacturer", "BodyPartExamined",
    "PerformedProcedureStepStartDate", "PerformedProcedureStepStartTime",
)  # fmt: skip
INSTANCE_KEYS: Final = (
    "SOPClassUID", "SOPInstanceUID", "InstanceNumber", "Rows", "Columns", "BitsAllocated", "NumberOfFrames",
    "ContentDate", "ContentTime", "ConceptNameCodeSequence",
)  # fmt: skip
_INLINE_BYTES: Final = 1024
"""A longer binary value is bulk data."""
_BINARY: Final = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})


def tag_of(keyword: str) -> str:
    """Return the tag of a keyword as DICOM JSON writes it."""
    return f"{tag_for_keyword(keyword):08X}"


@dataclass(frozen=True, slots=True)
class Held:
    """One object.

    Attributes
    ----------
    kind
        ``film``, or the kind of result.
    path
        Of its file, which never changes.
    digest
        Of what is in the file.
    filed
        UID of its series where the index knows it, else empty.
    """

    study_id: int
    study_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    kind: str
    path: Path
    digest: str
    filed: str

    @property
    def heading(self) -> Mapping[str, Json]:
        """What a search says of it, by tag; empty when its header cannot be read."""
        return _heading(self.path)

    @property
    def frames(self) -> int:
        """How many pictures it holds, as far as its header can be read."""
        count = first(self.heading, "NumberOfFrames")
        return count if isinstance(count, int) and count > 0 else 1

    @property
    def series_instance_uid(self) -> str:
        """UID of its series."""
        return self.filed or str(first(self.heading, "SeriesInstanceUID"))


class Objects:
    """The objects of a node.

    Parameters
    ----------
    engine
        Of the index.
    data_dir
        Where the files are.
    films
        Whether received films are among them.
    """

    def __init__(self, engine: Engine, data_dir: DataDir, *, films: bool) -> None:
        self._engine = engine
        self._data_dir = data_dir
        self.films = films

    def any_of(self, kinds: Iterable[str]) -> ColumnElement[bool]:
        """Say, of a row of ``study``, whether it has a result in force of one of these kinds."""
        found = exists().where(result.c.study_id == study.c.id, _in_force, result.c.kind.in_(sorted(kinds)))
        return found.correlate(study)

    def any_with(self, column: str, wanted: Iterable[str]) -> ColumnElement[bool]:
        """Say, of a row of ``study``, whether it has an object with one of these values of a column."""
        tables = (instance, result) if self.films else (result,)
        found = (
            exists().where(table.c.study_id == study.c.id, table.c[column].in_(sorted(wanted)))
            for table in tables
        )
        return or_(*(each.correlate(study) for each in found))

    @property
    def shown(self) -> ColumnElement[bool]:
        """Say, of a row of ``study``, whether it has anything to hand out."""
        films = exists().where(instance.c.study_id == study.c.id, instance.c.set_aside == "").correlate(study)
        return or_(films, self.any_of(MODALITIES)) if self.films else self.any_of(MODALITIES)

    def of_studies(self, study_ids: Sequence[int]) -> dict[int, list[Held]]:
        """Return the objects of studies, films first, each in the order in which they came."""
        found: dict[int, list[Held]] = {key: [] for key in study_ids}
        sources = [(result, _in_force, self._data_dir.results)]
        if self.films:
            sources.insert(0, (instance, instance.c.set_aside == "", self._data_dir.spool))
        with database.reading(self._engine) as connection:
            for table, wanted, spool in sources:
                rows = connection.execute(
                    select(table, study.c.study_instance_uid)
                    .join(study, study.c.id == table.c.study_id)
                    .where(table.c.study_id.in_(study_ids), wanted)
                    .order_by(table.c.id)
                )
                for row in rows:
                    held = Held(
                        study_id=row.study_id,
                        study_instance_uid=row.study_instance_uid,
                        sop_instance_uid=row.sop_instance_uid,
                        sop_class_uid=row.sop_class_uid,
                        kind=getattr(row, "kind", FILM),
                        path=spool.path(row.file),
                        digest=row.digest,
                        filed=getattr(row, "series_instance_uid", ""),
                    )
                    if held.path.exists():
                        found[row.study_id].append(held)
        return found

    def find(self, study_uid: str, series_uid: str = "", instance_uid: str = "") -> list[Held]:
        """Return the objects of a study, of one of its series, or one of them; none when there is none."""
        query = select(study.c.id).where(study.c.study_instance_uid == study_uid)
        with database.reading(self._engine) as connection:
            key = connection.execute(query).scalar_one_or_none()
        return [
            each
            for each in ([] if key is None else self.of_studies([key])[key])
            if (not instance_uid or each.sop_instance_uid == instance_uid)
            and (not series_uid or each.series_instance_uid == series_uid)
        ]


_in_force: Final = and_(result.c.withdrawn_at.is_(None), result.c.kind != REJECTION)


@lru_cache(maxsize=8192)
def _heading(path: Path) -> Mapping[str, Json]:
    return heading(path, [tag_of(key) for key in (*STUDY_KEYS, *SERIES_KEYS, *INSTANCE_KEYS)])


def heading(path: Path, tags: Iterable[str] | None) -> dict[str, Json]:
    """Return elements of a header by tag, all when `tags` is None; bulk data never.

    A header that cannot be read says nothing.
    """
    try:
        ds = read_header(path)
    except (NotAnalysable, NodeError) as error:
        _LOG.warning("a header: %s", error)
        return {}
    chosen = ds.keys() if tags is None else [int(tag, 16) for tag in tags]
    return {
        f"{int(tag):08X}": found
        for tag in chosen
        if (found := _element(ds, int(tag), None)) is not None and "BulkDataURI" not in found
    }


def metadata(one: Held, bulk_data: str) -> dict[str, Json]:
    """Return all of an object but its bulk data, which is named by its address.

    Of one that cannot be read, what the index knows.

    Parameters
    ----------
    bulk_data
        Address below which bulk data of this object is found by tag.
    """
    found: dict[str, Json | None] = {}
    try:
        with attributes.tolerance():
            ds = dcmread(one.path, defer_size=_INLINE_BYTES)
            found = {f"{int(tag):08X}": _element(ds, int(tag), bulk_data) for tag in sorted(ds.keys())}
    except (*attributes.MALFORMED, OSError) as error:
        _LOG.warning("an object cannot be read: %s", type(error).__name__)
    known = {
        "SOPClassUID": one.sop_class_uid,
        "SOPInstanceUID": one.sop_instance_uid,
        "StudyInstanceUID": one.study_instance_uid,
    }
    said = {tag: element for tag, element in found.items() if element is not None}
    return {tag_of(key): {"vr": "UI", "Value": [uid]} for key, uid in known.items()} | said


def _element(ds: Dataset, tag: int, bulk_data: str | None) -> Json | None:
    """Return one element; None when it is missing or malformed."""
    if tag not in ds:
        return None
    try:
        with attributes.tolerance():
            if (vr := _long_binary(ds, tag)) is not None:
                return {"vr": vr, "BulkDataURI": f"{bulk_data or ''}/{tag:08X}"}
            element = ds[tag]
            if element.VR == "SQ":
                for item in element.value:
                    item.walk(_without_bulk)
            found: Json = _finite(element.to_json_dict(None, _INLINE_BYTES))
            return found
    except (*attributes.MALFORMED, OSError):
        return None


def _long_binary(ds: Dataset, tag: int) -> str | None:
    """Return the VR of an element that is bulk data, without reading what was left on disk; else None."""
    raw: Any = ds.get_item(tag)
    if isinstance(raw, RawDataElement) and raw.value is None and raw.length > _INLINE_BYTES:
        vr, length = raw.VR or dictionary_VR(tag), raw.length
    else:
        vr, value = ds[tag].VR, ds[tag].value
        length = len(value) if isinstance(value, bytes) else 0
    vr = "OW" if vr == "OB or OW" else str(vr)
    return vr if vr in _BINARY and length > _INLINE_BYTES else None


def _without_bulk(ds: Dataset, element: DataElement) -> None:
    """Drop a long binary value of an item, which has no address of its own."""
    if element.VR in _BINARY and len(element.value or b"") > _INLINE_BYTES:
        del ds[element.tag]


def _finite(value: Any) -> Any:
    """Write numbers that JSON has not as it is told to (PS3.18 F.2.5)."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def values(found: Mapping[str, Json], keyword: str) -> list[Any]:
    """Return the values of an element; a person's name as it is written in letters."""
    element = found.get(tag_of(keyword), {})
    return [
        each.get("Alphabetic", "") if isinstance(each, dict) and element.get("vr") == "PN" else each
        for each in element.get("Value", ())
    ]


def first(found: Mapping[str, Json], keyword: str) -> Any:
    """Return the first value of an element; empty when there is none."""
    return next(iter(values(found, keyword)), "")


def grouped(held: Iterable[Held], key: Callable[[Held], str]) -> dict[str, list[Held]]:
    """Return objects by what is the same of them, in order."""
    groups: dict[str, list[Held]] = {}
    for each in held:
        groups.setdefault(key(each), []).append(each)
    return groups
