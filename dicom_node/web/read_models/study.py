"""Details of one study: its images, its latest analysis, its deliveries, the images of the prior study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import Connection, Engine, and_, func, or_, select, tuple_

from dicom_node.results.codes import GATE_OVERRIDDEN, GATE_REFUSALS
from dicom_node.runtime import logs
from dicom_node.store import database
from dicom_node.store.analysis_records import AnalysisRecords, ModelOfStudy, StoredAnalysisRecord
from dicom_node.store.audit import STUDY_IS_CONFIRMED
from dicom_node.store.purge_trace import PurgeTrace, sentence
from dicom_node.store.received_instances import SetAsideReason
from dicom_node.store.recorded_results import REJECTION_NOTE
from dicom_node.store.states import OUTCOMES, FileState, ResultState, StudyState
from dicom_node.store.tables import catalogue, delivery, instance, result, study


@dataclass(frozen=True, slots=True)
class Image:
    """One received image of a study; images that were set aside count only in a study fetched as a prior."""

    id: int
    study_id: int
    sop_instance_uid: str
    file: str
    digest: str
    calling_ae: str
    received_at: float
    file_state: FileState = FileState.KEPT
    purged_at: float | None = None
    purged_by: str = ""

    @property
    def purged(self) -> PurgeTrace | None:
        """Trace of the purge of its file; None when it is kept."""
        return PurgeTrace.of(asdict(self))


@dataclass(frozen=True, slots=True)
class SentResult:
    """Delivery of one result to one destination.

    Attributes
    ----------
    destination
        Name of the destination; empty when the result is sent nowhere.
    state
        State of the delivery; None when the result is sent nowhere.
    model
        Name of the model that it is the result of; empty for a refusal, and for results of earlier versions.
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
    purged: PurgeTrace | None = None
    model: str = ""


@dataclass(frozen=True, slots=True)
class OtherStudy:
    """Further study of the same patient."""

    id: int
    study_date: str
    description: str
    views: str


@dataclass(frozen=True, slots=True)
class StudyView:
    """Details of one study; times in seconds since the epoch.

    Attributes
    ----------
    digest
        Hash of the Study Instance UID, which names the study in the log.
    patient_id, accession_number
        Values of the header; empty unless patients are shown by name.
    prior
        Images of the same patient's previous study; empty when this node has none.
    others
        Further studies of the same patient in this node, the newest first, at most 20.
    pinned_at
        Time since which nothing of it is purged; None when it is not pinned.
    queue_position
        Its place among the studies that wait for a worker, from 1; None when it does not wait.
    sent
        Deliveries of its results, the newest revision first.
    reading
        Latest analysis by the model that was asked for; None when there is none.
    models
        Models of that analysis, the primary ones first.
    gate_overridden
        True when this revision reads the films that the gate refuses too, because an admin asked for it.
    """

    id: int
    study_instance_uid: str
    digest: str
    patient: str
    patient_id: str
    accession_number: str
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
    confirmed: bool
    pinned_at: float | None
    queue_position: int | None
    images: Sequence[Image]
    prior: Sequence[Image]
    others: Sequence[OtherStudy]
    sent: Sequence[SentResult]
    reading: StoredAnalysisRecord | None
    models: Sequence[ModelOfStudy] = ()
    gate_overridden: bool = False

    @property
    def refused_films(self) -> int:
        """Number of images that this revision did not read because the gate refused them."""
        if self.reading is None or self.reading.revision != self.revision or self.state not in OUTCOMES:
            return 0
        return sum(each.reason in GATE_REFUSALS for each in self.reading.record.images)

    @property
    def read_although_refused(self) -> bool:
        """True when the shown analysis read films that the gate refused."""
        return self.reading is not None and GATE_OVERRIDDEN in self.reading.record.parameters

    @property
    def purged_films(self) -> str:
        """Clause that says how many of its images were purged, when and by what; empty when none was."""
        traces = [trace for each in self.images if (trace := each.purged) is not None]
        return sentence("film", traces) if traces else ""

    @property
    def in_force(self) -> bool:
        """True when it has results that are not withdrawn."""
        return any(not each.withdrawn and each.kind != REJECTION_NOTE for each in self.sent)

    def image(self, sop_instance_uid: str) -> Image | None:
        """Return the image with a SOP Instance UID; None when there is none."""
        return next((each for each in self.images if each.sop_instance_uid == sop_instance_uid), None)


def read_study(engine: Engine, study_id: int, model: int = 0) -> StudyView | None:
    """Return the study with a number; None when there is none.

    Parameters
    ----------
    model
        Position of the model whose analysis is wanted.
    """
    analyses = AnalysisRecords(engine)
    headers = (
        catalogue.c.person,
        catalogue.c.patient,
        catalogue.c.patient_id,
        catalogue.c.accession_number,
        catalogue.c.description,
        catalogue.c.study_date,
        catalogue.c.manufacturer,
    )
    with database.reading(engine) as connection:
        row = (
            connection.execute(
                select(study, *headers, STUDY_IS_CONFIRMED.label("confirmed"))
                .outerjoin(catalogue, catalogue.c.study_id == study.c.id)
                .where(study.c.id == study_id)
            )
            .mappings()
            .first()
        )
        if row is None:
            return None
        prior_id = _prior_study(connection, study_id, row["person"], row["study_date"])
        images = _images(connection, study_id)
        prior = [] if prior_id is None else _images(connection, prior_id)
        others = _others(connection, study_id, row["person"])
        sent = _sent(connection, study_id)
        position = _queue_position(connection, study_id) if row["state"] == StudyState.COMPLETE else None
    return StudyView(
        **{name: row[name] for name in _COLUMNS},
        digest=logs.uid_hash(row["study_instance_uid"]),
        state=StudyState(row["state"]),
        patient=row["patient"] or "",
        patient_id=row["patient_id"] or "",
        accession_number=row["accession_number"] or "",
        description=row["description"] or "",
        study_date=row["study_date"] or "",
        manufacturer=row["manufacturer"] or "",
        queue_position=position,
        images=images,
        prior=prior,
        others=others,
        sent=sent,
        reading=analyses.latest(study_id, model),
        models=analyses.models_of(study_id),
    )


_OTHERS = 20
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
    "confirmed",
    "pinned_at",
    "gate_overridden",
)


def study_number(engine: Engine, study_instance_uid: str) -> int:
    """Return the number of a study, which must be in the index."""
    query = select(study.c.id).where(study.c.study_instance_uid == study_instance_uid)
    with database.reading(engine) as connection:
        return int(connection.execute(query).scalar_one())


def read_image(engine: Engine, study_id: int, image_id: int) -> Image | None:
    """Return the image of a study with a number; None when there is none."""
    with database.reading(engine) as connection:
        return next((each for each in _images(connection, study_id) if each.id == image_id), None)


def _images(connection: Connection, study_id: int) -> list[Image]:
    columns = [instance.c[name] for name in Image.__slots__]
    fetched = (study.c.state == StudyState.PRIOR) & (instance.c.set_aside == SetAsideReason.PRIOR)
    rows = connection.execute(
        select(*columns)
        .join(study, study.c.id == instance.c.study_id)
        .where(instance.c.study_id == study_id, (instance.c.set_aside == "") | fetched)
        .order_by(instance.c.id)
    )
    return [Image(*row) for row in rows]


def _prior_study(
    connection: Connection, study_id: int, person: str | None, study_date: str | None
) -> int | None:
    if person is None:
        return None
    order = tuple_(catalogue.c.study_date, catalogue.c.study_id)
    found: int | None = connection.execute(
        select(catalogue.c.study_id)
        .where(catalogue.c.person == person, order < tuple_(study_date, study_id))
        .order_by(catalogue.c.study_date.desc(), catalogue.c.study_id.desc())
        .limit(1)
    ).scalar_one_or_none()
    return found


def _queue_position(connection: Connection, study_id: int) -> int:
    """Return the place of a study that waits: the one that has waited for longest is the first."""
    own = select(study.c.completed_at).where(study.c.id == study_id).scalar_subquery()
    before = or_(study.c.completed_at < own, and_(study.c.completed_at == own, study.c.id <= study_id))
    waiting = select(func.count()).where(study.c.state == StudyState.COMPLETE, before)
    return max(1, int(connection.execute(waiting).scalar_one()))


def _others(connection: Connection, study_id: int, person: str | None) -> list[OtherStudy]:
    if person is None:
        return []
    rows = connection.execute(
        select(catalogue.c.study_id, catalogue.c.study_date, catalogue.c.description, catalogue.c.views)
        .where(catalogue.c.person == person, catalogue.c.study_id != study_id)
        .order_by(catalogue.c.study_date.desc(), catalogue.c.study_id.desc())
        .limit(_OTHERS)
    )
    return [OtherStudy(*row) for row in rows]


def _sent(connection: Connection, study_id: int) -> list[SentResult]:
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
            result.c.file_state,
            result.c.purged_at,
            result.c.purged_by,
            result.c.model,
        )
        .outerjoin(delivery, delivery.c.result_id == result.c.id)
        .where(result.c.study_id == study_id)
        .order_by(result.c.revision.desc(), result.c.id, delivery.c.destination)
    )
    return [
        SentResult(
            *row[:6],
            destination=row.destination or "",
            state=None if row.state is None else ResultState(row.state),
            attempts=row.attempts or 0,
            error=row.error or "",
            updated_at=row.updated_at or row.created_at,
            withdrawn=row.withdrawn_at is not None,
            model=row.model,
            purged=PurgeTrace.of(
                {name: getattr(row, name) for name in ("file_state", "purged_at", "purged_by")}
            ),
        )
        for row in rows
    ]
