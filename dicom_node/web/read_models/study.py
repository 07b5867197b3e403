"""One study: its images, what was said of it, what was sent, and its patient's study before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, select, tuple_

from dicom_node.runtime import logs
from dicom_node.store import database
from dicom_node.store.analysis_records import Readings, StoredReading
from dicom_node.store.index import SetAside
from dicom_node.store.recorded_results import REJECTION
from dicom_node.store.states import ResultState, StudyState
from dicom_node.store.tables import catalogue, delivery, instance, result, study


@dataclass(frozen=True, slots=True)
class Image:
    """One received image of a study; those set aside are none, but for a study that came as a prior."""

    id: int
    study_id: int
    sop_instance_uid: str
    file: str
    digest: str
    calling_ae: str
    received_at: float


@dataclass(frozen=True, slots=True)
class Sent:
    """One result on its way to one destination.

    Attributes
    ----------
    destination
        Empty when it goes nowhere.
    state
        None when it goes nowhere.
    """

    result_id: int
    kind: str
    revision: int
    sop_instance_uid: str
    size: int
    created_at: float
    destination: str
    state: ResultState | None
    attempts: int
    error: str
    updated_at: float
    withdrawn: bool


@dataclass(frozen=True, slots=True)
class StudyView:
    """Everything of one study; times in seconds since the epoch.

    Attributes
    ----------
    digest
        What the study is called in the log.
    prior
        Images of the same patient's study before this one; none when there is no such study here.
    """

    id: int
    study_instance_uid: str
    digest: str
    patient: str
    description: str
    study_date: str
    manufacturer: str
    state: StudyState
    reason: str
    revision: int
    attempts: int
    first_received_at: float
    last_received_at: float
    completed_at: float | None
    updated_at: float
    images: Sequence[Image]
    prior: Sequence[Image]
    sent: Sequence[Sent]
    reading: StoredReading | None

    @property
    def confirmed(self) -> bool:
        """Whether every destination confirmed every result."""
        return bool(self.sent) and all(each.state is ResultState.CONFIRMED for each in self.sent)

    @property
    def in_force(self) -> bool:
        """Whether it has results that were not withdrawn."""
        return any(not each.withdrawn and each.kind != REJECTION for each in self.sent)

    def image(self, sop_instance_uid: str) -> Image | None:
        """Return one of its images."""
        return next((each for each in self.images if each.sop_instance_uid == sop_instance_uid), None)


def read_study(engine: Engine, study_id: int) -> StudyView | None:
    """Return one study; None when there is none of that number."""
    headers = (
        catalogue.c.person,
        catalogue.c.patient,
        catalogue.c.description,
        catalogue.c.study_date,
        catalogue.c.manufacturer,
    )
    with database.reading(engine) as connection:
        row = (
            connection.execute(
                select(study, *headers)
                .outerjoin(catalogue, catalogue.c.study_id == study.c.id)
                .where(study.c.id == study_id)
            )
            .mappings()
            .first()
        )
        if row is None:
            return None
        before = _before(connection, study_id, row["person"], row["study_date"])
        images = _images(connection, study_id)
        prior = [] if before is None else _images(connection, before)
        sent = _sent(connection, study_id)
    return StudyView(
        **{name: row[name] for name in _COLUMNS},
        digest=logs.short(row["study_instance_uid"]),
        state=StudyState(row["state"]),
        patient=row["patient"] or "",
        description=row["description"] or "",
        study_date=row["study_date"] or "",
        manufacturer=row["manufacturer"] or "",
        images=images,
        prior=prior,
        sent=sent,
        reading=Readings(engine).latest(study_id),
    )


_COLUMNS = (
    "id",
    "study_instance_uid",
    "reason",
    "revision",
    "attempts",
    "first_received_at",
    "last_received_at",
    "completed_at",
    "updated_at",
)


def study_number(engine: Engine, study_instance_uid: str) -> int:
    """Return the number of a study that is in the index."""
    query = select(study.c.id).where(study.c.study_instance_uid == study_instance_uid)
    with database.reading(engine) as connection:
        return int(connection.execute(query).scalar_one())


def read_image(engine: Engine, study_id: int, image_id: int) -> Image | None:
    """Return one image of a study; None when it has none of that number."""
    with database.reading(engine) as connection:
        return next((each for each in _images(connection, study_id) if each.id == image_id), None)


def _images(connection: Connection, study_id: int) -> list[Image]:
    columns = [instance.c[name] for name in Image.__slots__]
    fetched = (study.c.state == StudyState.PRIOR) & (instance.c.set_aside == SetAside.PRIOR)
    rows = connection.execute(
        select(*columns)
        .join(study, study.c.id == instance.c.study_id)
        .where(instance.c.study_id == study_id, (instance.c.set_aside == "") | fetched)
        .order_by(instance.c.id)
    )
    return [Image(*row) for row in rows]


def _before(connection: Connection, study_id: int, person: str | None, study_date: str | None) -> int | None:
    if person is None:
        return None
    place = tuple_(catalogue.c.study_date, catalogue.c.study_id)
    found: int | None = connection.execute(
        select(catalogue.c.study_id)
        .where(catalogue.c.person == person, place < tuple_(study_date, study_id))
        .order_by(catalogue.c.study_date.desc(), catalogue.c.study_id.desc())
        .limit(1)
    ).scalar_one_or_none()
    return found


def _sent(connection: Connection, study_id: int) -> list[Sent]:
    rows = connection.execute(
        select(
            result.c.id,
            result.c.kind,
            result.c.revision,
            result.c.sop_instance_uid,
            result.c.size,
            result.c.created_at,
            delivery.c.destination,
            delivery.c.state,
            delivery.c.attempts,
            delivery.c.error,
            delivery.c.updated_at,
            result.c.withdrawn_at,
        )
        .outerjoin(delivery, delivery.c.result_id == result.c.id)
        .where(result.c.study_id == study_id)
        .order_by(result.c.revision.desc(), result.c.id, delivery.c.destination)
    )
    return [
        Sent(
            *row[:6],
            destination=row.destination or "",
            state=None if row.state is None else ResultState(row.state),
            attempts=row.attempts or 0,
            error=row.error or "",
            updated_at=row.updated_at or row.created_at,
            withdrawn=row.withdrawn_at is not None,
        )
        for row in rows
    ]
