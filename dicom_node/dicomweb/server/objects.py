"""DICOM objects that DICOMweb serves, and their headers in the DICOM JSON model (PS3.18 annex F).

These are the node's results that are not withdrawn, and the received films while the spool has their files.
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
from pydicom.datadict import dictionary_has_tag, dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import ExplicitVRBigEndian
from sqlalchemy import ColumnElement, Engine, and_, exists, or_, select

from dicom_node.config.data_dir import DataDir
from dicom_node.errors import NodeError, NotAnalysable
from dicom_node.imaging import attributes, value_representations
from dicom_node.imaging.byte_order import WORD_BYTES, little_endian
from dicom_node.imaging.pixels import read_header
from dicom_node.store import database
from dicom_node.store.purge_trace import PurgeTrace
from dicom_node.store.recorded_results import REJECTION_NOTE
from dicom_node.store.states import FileState
from dicom_node.store.tables import instance, result, study

_LOG = logging.getLogger(__name__)

Json = Mapping[str, Any]
"""Element in the DICOM JSON model: ``vr``, and ``Value``, ``InlineBinary`` or ``BulkDataURI``."""

FILM: Final = "film"
RESULT_MODALITIES: Mapping[str, str] = MappingProxyType(
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
"""Modality of each kind of result."""

STUDY_KEYS: Final = (
    "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName", "TimezoneOffsetFromUTC",
    "StudyDescription", "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID",
    "StudyID",
)  # fmt: skip
SERIES_KEYS: Final = (
    "Modality", "SeriesDescription", "SeriesInstanceUID", "SeriesNumber", "Manufacturer", "BodyPartExamined",
    "PerformedProcedureStepStartDate", "PerformedProcedureStepStartTime", "RequestAttributesSequence",
)  # fmt: skip
INSTANCE_KEYS: Final = (
    "SOPClassUID", "SOPInstanceUID", "InstanceNumber", "Rows", "Columns", "BitsAllocated", "NumberOfFrames",
    "ContentDate", "ContentTime", "ConceptNameCodeSequence",
)  # fmt: skip
_INLINE_BYTES: Final = 1024
"""Longest binary value in the JSON; a longer one is bulk data."""
_INLINE_BYTES_OF_ITEMS: Final = 1 << 20
"""Longest binary value of a sequence's item, such as a lookup table: it has no address of its own."""
_BINARY: Final = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})


_NUMBER_STRINGS: Final = frozenset({"DS", "IS"})
_DATES_AND_TIMES: Final = {
    "DA": value_representations.date,
    "TM": value_representations.time,
    "DT": value_representations.date_time,
}


def tag_of(keyword: str) -> str:
    """Return the tag of a keyword as DICOM JSON writes it, such as ``0020000D``."""
    return f"{tag_for_keyword(keyword):08X}"


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One DICOM object of a study.

    Attributes
    ----------
    kind
        ``film``, or the kind of result.
    path
        Path of its file, whose contents never change.
    digest
        SHA-256 of the file.
    stored_series_uid
        Series Instance UID if the index has it, else empty.
    """

    study_id: int
    study_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    kind: str
    path: Path
    digest: str
    stored_series_uid: str

    @property
    def header(self) -> Mapping[str, Json]:
        """Elements that a search returns, by tag; empty when the header cannot be read."""
        return _cached_header(self.path)

    @property
    def frame_count(self) -> int:
        """Number of frames; 1 when the header cannot be read."""
        count = first_value(self.header, "NumberOfFrames")
        return count if isinstance(count, int) and count > 0 else 1

    @property
    def series_instance_uid(self) -> str:
        """Series Instance UID, from the index or from the header."""
        return self.stored_series_uid or str(first_value(self.header, "SeriesInstanceUID"))


class ObjectStore:
    """Objects that a node serves.

    Parameters
    ----------
    engine
        Database of the index.
    data_dir
        Folders of the files.
    films
        True to serve received films too.
    hidden
        Numbers of the studies that no search finds.
    """

    def __init__(
        self, engine: Engine, data_dir: DataDir, *, films: bool, hidden: frozenset[int] = frozenset()
    ) -> None:
        self._engine = engine
        self._data_dir = data_dir
        self.films = films
        self._hidden = hidden

    def has_result_of(self, kinds: Iterable[str]) -> ColumnElement[bool]:
        """Return the SQL condition that a study has a result of one of these kinds that is not withdrawn."""
        found = exists().where(result.c.study_id == study.c.id, _in_force, result.c.kind.in_(sorted(kinds)))
        return found.correlate(study)

    def has_object_with(self, column: str, wanted: Iterable[str]) -> ColumnElement[bool]:
        """Return the SQL condition that a study has an object with one of these values in a column."""
        tables = (instance, result) if self.films else (result,)
        found = (
            exists().where(
                table.c.study_id == study.c.id,
                table.c.file_state == FileState.KEPT,
                table.c[column].in_(sorted(wanted)),
            )
            for table in tables
        )
        return or_(*(each.correlate(study) for each in found))

    @property
    def has_objects(self) -> ColumnElement[bool]:
        """SQL condition that a study has any object to serve."""
        films = exists().where(instance.c.study_id == study.c.id, _received).correlate(study)
        results = self.has_result_of(RESULT_MODALITIES)
        return and_(or_(films, results) if self.films else results, study.c.id.not_in(self._hidden))

    def of_studies(self, study_ids: Sequence[int]) -> dict[int, list[StoredObject]]:
        """Return the objects of studies by study number, films first, each in the order of their arrival."""
        found: dict[int, list[StoredObject]] = {key: [] for key in study_ids}
        sources = [(result, _in_force, self._data_dir.results)]
        if self.films:
            sources.insert(0, (instance, _received, self._data_dir.spool))
        with database.reading(self._engine) as connection:
            for table, wanted, spool in sources:
                rows = connection.execute(
                    select(table, study.c.study_instance_uid)
                    .join(study, study.c.id == table.c.study_id)
                    .where(table.c.study_id.in_(study_ids), wanted)
                    .order_by(table.c.id)
                )
                for row in rows:
                    stored = StoredObject(
                        study_id=row.study_id,
                        study_instance_uid=row.study_instance_uid,
                        sop_instance_uid=row.sop_instance_uid,
                        sop_class_uid=row.sop_class_uid,
                        kind=getattr(row, "kind", FILM),
                        path=spool.path(row.file),
                        digest=row.digest,
                        stored_series_uid=getattr(row, "series_instance_uid", ""),
                    )
                    if stored.path.exists():
                        found[row.study_id].append(stored)
        return found

    def find(self, study_uid: str, series_uid: str = "", instance_uid: str = "") -> list[StoredObject]:
        """Return the objects of a study, of one series, or the one instance; empty when there are none."""
        query = select(study.c.id).where(study.c.study_instance_uid == study_uid)
        with database.reading(self._engine) as connection:
            key = connection.execute(query).scalar_one_or_none()
        return [
            each
            for each in ([] if key is None else self.of_studies([key])[key])
            if (not instance_uid or each.sop_instance_uid == instance_uid)
            and (not series_uid or each.series_instance_uid == series_uid)
        ]

    def purged(self, study_uid: str, series_uid: str = "", instance_uid: str = "") -> PurgeTrace | None:
        """Return the trace of an object that would be found if it had not been purged; None without one.

        Parameters
        ----------
        series_uid
            The index has it for films only.
        """
        tables = (instance, result) if self.films else (result,)
        with database.reading(self._engine) as connection:
            for table in tables:
                gone = (
                    select(table.c.file_state, table.c.purged_at, table.c.purged_by)
                    .join(study, study.c.id == table.c.study_id)
                    .where(study.c.study_instance_uid == study_uid, table.c.file_state != FileState.KEPT)
                    .order_by(table.c.purged_at.desc())
                )
                if instance_uid:
                    gone = gone.where(table.c.sop_instance_uid == instance_uid)
                elif series_uid:
                    if table is result:
                        continue
                    gone = gone.where(table.c.series_instance_uid == series_uid)
                row = connection.execute(gone.limit(1)).mappings().first()
                if row is not None:
                    return PurgeTrace.of(row)
        return None


_received: Final = and_(instance.c.set_aside == "", instance.c.file_state == FileState.KEPT)
_in_force: Final = and_(
    result.c.withdrawn_at.is_(None),
    result.c.kind != REJECTION_NOTE,
    result.c.file_state == FileState.KEPT,
)


@lru_cache(maxsize=8192)
def _cached_header(path: Path) -> Mapping[str, Json]:
    return header_elements(path, [tag_of(key) for key in (*STUDY_KEYS, *SERIES_KEYS, *INSTANCE_KEYS)])


def header_elements(path: Path, tags: Iterable[str] | None) -> dict[str, Json]:
    """Return elements of a header by tag, without bulk data; empty when the header cannot be read.

    They are for searches: ``2026.01.02`` is that day, and what is no date, time or number is left out.

    Parameters
    ----------
    tags
        Tags of the elements; None for all.
    """
    try:
        ds = read_header(path)
    except (NotAnalysable, NodeError) as error:
        _LOG.warning("a header cannot be read: %s", error)
        return {}
    chosen = _without_group_lengths(ds) if tags is None else [int(tag, 16) for tag in tags]
    return {
        f"{int(tag):08X}": _searchable(found)
        for tag in chosen
        if (found := _element(ds, int(tag), None)) is not None and "BulkDataURI" not in found
    }


def _searchable(element: Json) -> Json:
    """Return an element with the values that its VR allows; items of a sequence likewise."""
    vr, values = element["vr"], element.get("Value", ())
    if vr == "SQ":
        values = [{tag: _searchable(each) for tag, each in item.items()} for item in values]
    elif vr in _DATES_AND_TIMES:
        values = [found for each in values if each and (found := _DATES_AND_TIMES[vr](each))]
    elif vr in _NUMBER_STRINGS:
        values = [each for each in values if isinstance(each, int | float)]
    else:
        return element
    return {"vr": vr, "Value": values} if values else {"vr": vr}


def read_metadata(stored: StoredObject, bulk_data: str) -> dict[str, Json]:
    """Return all elements of an object, bulk data as addresses.

    If the file cannot be read, only the UIDs from the index.

    Parameters
    ----------
    bulk_data
        Address of the object's bulk data; the tag of an element is appended.
    """
    found: dict[str, Json | None] = {}
    try:
        with attributes.tolerance():
            ds = dcmread(stored.path, defer_size=_INLINE_BYTES)
            found = {f"{tag:08X}": _element(ds, tag, bulk_data) for tag in _without_group_lengths(ds)}
    except (*attributes.MALFORMED, OSError) as error:
        _LOG.warning("an object cannot be read: %s", type(error).__name__)
    known = {
        "SOPClassUID": stored.sop_class_uid,
        "SOPInstanceUID": stored.sop_instance_uid,
        "StudyInstanceUID": stored.study_instance_uid,
    }
    present = {tag: element for tag, element in found.items() if element is not None}
    uids = {tag_of(key): {"vr": "UI", "Value": [uid]} for key, uid in known.items()}
    return dict(sorted((uids | present).items()))


def _without_group_lengths(ds: Dataset) -> list[int]:
    """Return the tags of a data set in the order and of the kinds that the JSON model has (PS3.18 F.2.2)."""
    return sorted(int(tag) for tag in list(ds.keys()) if tag.element != 0)


def _element(ds: Dataset, tag: int, bulk_data: str | None) -> Json | None:
    """Return one element; None when it is missing or malformed."""
    if tag not in ds:
        return None
    try:
        with attributes.tolerance():
            if (vr := _long_binary(ds, tag)) is not None:
                return {"vr": vr, "BulkDataURI": f"{bulk_data or ''}/{tag:08X}"}
            element = ds[tag]
            # The cells of a file in big endian lie in this order, those of an item too.
            syntax = getattr(ds, "file_meta", Dataset()).get("TransferSyntaxUID")
            swapped = syntax == ExplicitVRBigEndian
            if element.VR == "SQ":
                for item in element.value:
                    item.walk(_bounded)
                    if swapped:
                        item.walk(_swapped)
            elif swapped and isinstance(element.value, bytes):
                element = DataElement(tag, element.VR, little_endian(element.value, _word_bytes(element)))
            found: Json = _finite(element.to_json_dict(None, _INLINE_BYTES))
            return found
    except (*attributes.MALFORMED, OSError):
        return _number_strings(ds, tag)


def _long_binary(ds: Dataset, tag: int) -> str | None:
    """Return the VR of an element that is bulk data, else None; the deferred value is not read."""
    raw: Any = ds.get_item(tag, keep_deferred=True)
    if isinstance(raw, RawDataElement) and raw.value is None and raw.length > _INLINE_BYTES:
        vr, length = raw.VR or _known_vr(tag), raw.length
    else:
        vr, value = ds[tag].VR, ds[tag].value
        length = len(value) if isinstance(value, bytes) else 0
    vr = "OW" if vr == "OB or OW" else str(vr)
    return vr if vr in _BINARY and length > _INLINE_BYTES else None


def _known_vr(tag: int) -> str:
    """Return the VR of an element in implicit VR; UN for a private one, which nobody can know."""
    return dictionary_VR(tag) if dictionary_has_tag(tag) else "UN"


def _number_strings(ds: Dataset, tag: int) -> Json | None:
    """Return a DS or IS element that cannot be read as numbers, as strings (PS3.18 F.2.3); else None."""
    stored: Any = ds.get_item(tag)
    vr = stored.VR or _known_vr(tag)
    if vr not in _NUMBER_STRINGS:
        return None
    value = stored.value
    if isinstance(value, bytes):
        value = value.decode("latin-1").split("\\")
    values = [str(each).strip(" \0") for each in (value if isinstance(value, list | MultiValue) else [value])]
    return {"vr": vr, "Value": [each or None for each in values]}


def _bounded(ds: Dataset, element: DataElement) -> None:
    """Remove from an item a binary value that no viewer draws by and no answer should hold."""
    if element.VR in _BINARY and len(element.value or b"") > _INLINE_BYTES_OF_ITEMS:
        del ds[element.tag]


def _swapped(_: Dataset, element: DataElement) -> None:
    if isinstance(element.value, bytes):
        element.value = little_endian(element.value, _word_bytes(element))


def _word_bytes(element: DataElement) -> int:
    return WORD_BYTES.get("OW" if element.VR == "OB or OW" else str(element.VR), 1)


def _finite(value: Any) -> Any:
    """Replace numbers that JSON does not have by strings (PS3.18 F.2.5)."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def element_values(found: Mapping[str, Json], keyword: str) -> list[Any]:
    """Return the values of an element; of a person's name the alphabetic group.

    Parameters
    ----------
    keyword
        Keyword, or that of a sequence and of an element of its items with a dot between them.
    """
    sequence, _, inner = keyword.partition(".")
    if inner:
        items = found.get(tag_of(sequence), {}).get("Value", ())
        return [value for item in items for value in element_values(item, inner)]
    element = found.get(tag_of(keyword), {})
    return [
        each.get("Alphabetic", "") if isinstance(each, dict) and element.get("vr") == "PN" else each
        for each in element.get("Value", ())
        if each is not None
    ]


def first_value(found: Mapping[str, Json], keyword: str) -> Any:
    """Return the first value of an element; an empty string when there is none."""
    return next(iter(element_values(found, keyword)), "")


def group_by(
    objects: Iterable[StoredObject], key: Callable[[StoredObject], str]
) -> dict[str, list[StoredObject]]:
    """Group objects by a key, in the order of their first members."""
    groups: dict[str, list[StoredObject]] = {}
    for each in objects:
        groups.setdefault(key(each), []).append(each)
    return groups
