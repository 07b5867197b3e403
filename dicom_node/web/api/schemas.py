"""What the routes of the API share: its address, parameters and refusals, and what it says of a study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Final, Self

from fastapi import HTTPException, Path

from dicom_node.runtime import logs
from dicom_node.store.analysis_records import (
    KeptChange,
    KeptFinding,
    KeptImage,
    KeptPrior,
    KeptReading,
    KeptSimilar,
    KeptWords,
    StoredReading,
)
from dicom_node.store.states import ResultState, StudyState
from dicom_node.web.dependencies import Room
from dicom_node.web.read_models.study import Image, Sent, StudyView, read_study
from dicom_node.web.read_models.worklist import Line

VERSION: Final = "v1"
PREFIX: Final = f"/api/{VERSION}"
INTENDED_USE: Final = "research use only"

LARGEST_NUMBER: Final = 2**31 - 1
"""Of an integer column of PostgreSQL."""
StudyNumber = Annotated[int, Path(ge=1, le=LARGEST_NUMBER, description="number of the study in this node")]


@dataclass(frozen=True, slots=True)
class Refused:
    """Every answer that is no success.

    Attributes
    ----------
    error
        One sentence.
    """

    error: str


def answers(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return how the API says that these answers may come."""
    return {status: {"model": Refused} for status in (400, 401, 403, 429, 503, *statuses)}


# What list and single study say alike.
_ANY_STUDY: Final = (
    *("id", "patient", "description", "study_date", "state", "confirmed", "reason", "revision"),
    *("first_received_at", "last_received_at", "updated_at"),
)


@dataclass(frozen=True, slots=True)
class FindingOut:
    """One finding; `certainty` is a calibrated probability, `score` is none.

    `low` and `high` are the ends of the 95 % interval around the certainty that the calibration leaves.
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
    def of(cls, entry: KeptFinding) -> Self:
        """Say what is kept of one."""
        return cls(**asdict(entry))


@dataclass(frozen=True, slots=True)
class StudyLine:
    """One study of the worklist; times in seconds since the epoch."""

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
    findings: Sequence[FindingOut]
    deliveries: Mapping[ResultState, int]
    first_received_at: float
    last_received_at: float
    updated_at: float

    @classmethod
    def of(cls, line: Line) -> Self:
        """Say what the worklist shows of one."""
        return cls(
            **{name: getattr(line, name) for name in (*_ANY_STUDY, "normality", "deliveries")},
            study=line.digest,
            images=line.instances,
            findings=[FindingOut.of(entry) for entry in line.findings],
        )


@dataclass(frozen=True, slots=True)
class StudyList:
    """One page of the worklist; `next` and `previous` are for `after` and `before`, empty at the ends."""

    intended_use: str
    states: Mapping[StudyState, int]
    studies: Sequence[StudyLine]
    next: str
    previous: str


@dataclass(frozen=True, slots=True)
class ImageOut:
    """One received image, and what became of it."""

    id: int
    view: str
    reason: str
    exclusion: str
    received_at: float
    pixels: str

    @classmethod
    def of(cls, image: Image, verdict: KeptImage | None) -> Self:
        """Say what is known of one; nobody has looked at it without a verdict."""
        return cls(
            id=image.id,
            view="" if verdict is None else verdict.view,
            reason="" if verdict is None else verdict.reason,
            exclusion="" if verdict is None else verdict.exclusion,
            received_at=image.received_at,
            pixels=f"{PREFIX}/studies/{image.study_id}/images/{image.id}/pixels",
        )


@dataclass(frozen=True, slots=True)
class SentOut:
    """One result on its way to one destination."""

    kind: str
    revision: int
    size: int
    destination: str
    state: ResultState | None
    attempts: int
    error: str
    updated_at: float
    withdrawn: bool

    @classmethod
    def of(cls, sent: Sent) -> Self:
        """Say what became of one."""
        return cls(**{name: getattr(sent, name) for name in cls.__slots__})


@dataclass(frozen=True, slots=True)
class PriorOut:
    """What the study was compared with, or in `reason` why with nothing; `study` as in a list."""

    study: str
    study_date: str
    reason: str
    changes: Sequence[KeptChange]

    @classmethod
    def of(cls, prior: KeptPrior) -> Self:
        """Say what is kept of one, its UID left out: it may name a patient elsewhere."""
        uid = prior.study_instance_uid
        return cls(logs.short(uid) if uid else "", prior.study_date, prior.reason, prior.changes)


@dataclass(frozen=True, slots=True)
class ReadingOut:
    """What a model said."""

    revision: int
    created_at: float
    model: str
    model_version: str
    parameters: Sequence[str]
    normality: str
    findings: Sequence[FindingOut]
    similar: KeptSimilar | None
    prior: PriorOut | None
    words: Sequence[KeptWords]

    @classmethod
    def of(cls, reading: StoredReading) -> Self:
        """Say what is kept of one."""
        kept: KeptReading = reading.kept
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
        )


@dataclass(frozen=True, slots=True)
class StudyOut:
    """One study."""

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
    images: Sequence[ImageOut]
    reading: ReadingOut | None
    results: Sequence[SentOut]

    @classmethod
    def of(cls, view: StudyView) -> Self:
        """Say what the study's page shows."""
        reading = view.reading
        verdicts = {} if reading is None else {each.sop_instance_uid: each for each in reading.kept.images}
        return cls(
            **{name: getattr(view, name) for name in _ANY_STUDY},
            intended_use=INTENDED_USE,
            study=view.digest,
            images=[ImageOut.of(image, verdicts.get(image.sop_instance_uid)) for image in view.images],
            reading=None if reading is None else ReadingOut.of(reading),
            results=[SentOut.of(each) for each in view.sent],
        )


def study_or_404(room: Room, study_id: int) -> StudyView:
    """Return a study.

    Raises
    ------
    HTTPException
        404 when there is none of that number.
    """
    if (found := read_study(room.engine, study_id)) is None:
        raise HTTPException(404)
    return found
