"""Response models of the REST API: a study, its images, findings and results, and the error response."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

from dicom_node.config.served_models import ModelRole
from dicom_node.runtime import logs
from dicom_node.store.analysis_records import (
    AnalysisRecord,
    FindingChangeRecord,
    FindingRecord,
    ImageRecord,
    PriorComparisonRecord,
    SimilarCasesRecord,
    StoredAnalysisRecord,
    WordWeightsRecord,
)
from dicom_node.store.purge_trace import PurgeTrace
from dicom_node.store.states import ResultState, StudyState
from dicom_node.web.read_models.study import Image, SentResult, StudyView
from dicom_node.web.read_models.worklist import WorklistRow

VERSION: Final = "v1"
PREFIX: Final = f"/api/{VERSION}"
INTENDED_USE: Final = "research use only"


@dataclass(frozen=True, slots=True)
class Refused:
    """Error response.

    Attributes
    ----------
    error
        Reason, in one sentence.
    """

    error: str


def error_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI description of error responses: those of every route, and the given ones."""
    return {status: {"model": Refused} for status in (400, 401, 403, 429, 503, *statuses)}


# Fields of both StudyLine and StudyOut.
_COMMON_FIELDS: Final = (
    *("id", "patient", "description", "study_date", "state", "confirmed", "reason", "revision"),
    *("first_received_at", "last_received_at", "updated_at"),
)

_LINE_FIELDS: Final = ("normality", "deliveries", "sex", "age", "tags", "notes")


def _purge(trace: PurgeTrace | None) -> str:
    return "" if trace is None else str(trace)


@dataclass(frozen=True, slots=True)
class FindingOut:
    """One finding; `certainty` is a calibrated probability, `score` is not a probability.

    `low` and `high` are the limits of the 95 % interval of the certainty.
    """

    key: str
    name: str
    certainty: float | None
    score: float
    threshold: float
    presence: str
    low: float | None
    high: float | None

    @classmethod
    def of(cls, entry: FindingRecord) -> Self:
        """Convert a stored finding."""
        return cls(**asdict(entry))


@dataclass(frozen=True, slots=True)
class StudyLine:
    """One study of the worklist; times in seconds since the epoch.

    `sex` and `age` (years, months, weeks or days, such as ``063Y``) are empty unless patients are shown by
    name; `notes` is the number of notes.
    """

    id: int
    study: str
    patient: str
    description: str
    study_date: str
    state: StudyState
    confirmed: bool
    reason: str
    revision: int
    images: int
    normality: str
    sex: str
    age: str
    tags: Sequence[str]
    notes: int
    findings: Sequence[FindingOut]
    deliveries: Mapping[ResultState, int]
    first_received_at: float
    last_received_at: float
    updated_at: float

    @classmethod
    def of(cls, row: WorklistRow) -> Self:
        """Convert a row of the worklist."""
        return cls(
            **{name: getattr(row, name) for name in (*_COMMON_FIELDS, *_LINE_FIELDS)},
            study=row.digest,
            images=row.instances,
            findings=[FindingOut.of(entry) for entry in row.findings],
        )


@dataclass(frozen=True, slots=True)
class StudyList:
    """One page of the worklist; pass `next` as `after`, `previous` as `before`; empty at the ends."""

    intended_use: str
    states: Mapping[StudyState, int]
    studies: Sequence[StudyLine]
    next: str
    previous: str


@dataclass(frozen=True, slots=True)
class ImageOut:
    """One received image, and the outcome of its checks; `purged` says when and by which rule it went."""

    id: int
    view: str
    reason: str
    exclusion: str
    remarks: tuple[str, ...]
    received_at: float
    pixels: str
    purged: str

    @classmethod
    def of(cls, image: Image, record: ImageRecord | None) -> Self:
        """Convert an image; `record` is None when it has not been analysed."""
        return cls(
            id=image.id,
            view="" if record is None else record.view,
            reason="" if record is None else record.reason,
            exclusion="" if record is None else record.exclusion,
            remarks=() if record is None else record.remarks,
            received_at=image.received_at,
            pixels=f"{PREFIX}/studies/{image.study_id}/images/{image.id}/pixels",
            purged=_purge(image.purged),
        )


@dataclass(frozen=True, slots=True)
class SentOut:
    """Delivery of one result to one destination; `purged` as for an image."""

    kind: str
    revision: int
    size: int
    destination: str
    state: ResultState | None
    attempts: int
    error: str
    updated_at: float
    withdrawn: bool
    purged: str

    @classmethod
    def of(cls, sent: SentResult) -> Self:
        """Convert a delivery."""
        values = {name: getattr(sent, name) for name in cls.__slots__ if name != "purged"}
        return cls(**values, purged=_purge(sent.purged))


@dataclass(frozen=True, slots=True)
class PriorOut:
    """Comparison with the prior study, or in `reason` why there is none; `study` as in a list."""

    study: str
    study_date: str
    reason: str
    changes: Sequence[FindingChangeRecord]

    @classmethod
    def of(cls, prior: PriorComparisonRecord) -> Self:
        """Convert a comparison; without the UID, which may identify a patient elsewhere."""
        uid = prior.study_instance_uid
        return cls(logs.uid_hash(uid) if uid else "", prior.study_date, prior.reason, prior.changes)


@dataclass(frozen=True, slots=True)
class ReadingOut:
    """Answers of a model: one analysis of a study; `purged_maps` says when its heat maps were purged."""

    revision: int
    created_at: float
    model: str
    model_version: str
    parameters: Sequence[str]
    normality: str
    findings: Sequence[FindingOut]
    similar: SimilarCasesRecord | None
    prior: PriorOut | None
    words: Sequence[WordWeightsRecord]
    purged_maps: str

    @classmethod
    def of(cls, reading: StoredAnalysisRecord) -> Self:
        """Convert a stored analysis."""
        kept: AnalysisRecord = reading.record
        return cls(
            revision=reading.revision,
            created_at=reading.created_at,
            model=kept.model,
            model_version=kept.model_version,
            parameters=kept.parameters,
            normality=kept.normality,
            findings=[FindingOut.of(entry) for entry in kept.findings],
            similar=kept.similar,
            prior=None if kept.prior is None else PriorOut.of(kept.prior),
            words=kept.words,
            purged_maps=_purge(reading.purged_maps),
        )


@dataclass(frozen=True, slots=True)
class ModelOut:
    """Model that read a study; `position` is the parameter ``model`` of other routes."""

    position: int
    role: str
    name: str
    version: str


@dataclass(frozen=True, slots=True)
class StudyOut:
    """One study; `gate_overridden` says that this revision reads the films that the gate refuses too."""

    intended_use: str
    id: int
    study: str
    patient: str
    description: str
    study_date: str
    state: StudyState
    confirmed: bool
    reason: str
    revision: int
    first_received_at: float
    last_received_at: float
    updated_at: float
    pinned: bool
    gate_overridden: bool
    images: Sequence[ImageOut]
    reading: ReadingOut | None
    models: Sequence[ModelOut]
    results: Sequence[SentOut]

    @classmethod
    def of(cls, view: StudyView, *, admin: bool) -> Self:
        """Convert a study; only an admin sees which shadows read it."""
        reading = view.reading
        records = {} if reading is None else {each.sop_instance_uid: each for each in reading.record.images}
        return cls(
            **{name: getattr(view, name) for name in _COMMON_FIELDS},
            intended_use=INTENDED_USE,
            study=view.digest,
            pinned=view.pinned_at is not None,
            gate_overridden=view.gate_overridden,
            images=[ImageOut.of(image, records.get(image.sop_instance_uid)) for image in view.images],
            reading=None if reading is None else ReadingOut.of(reading),
            models=[
                ModelOut(each.position, each.role, each.name, each.version)
                for each in view.models
                if admin or each.role == ModelRole.PRIMARY
            ],
            results=[SentOut.of(each) for each in view.sent],
        )
