"""The REST API, version 1: what the pages show, for scripts. ``/api/v1/openapi.json`` describes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, HTTPException, Path, Query, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from dicom_node.errors import NotAnalysable
from dicom_node.reading_room import worklist
from dicom_node.reading_room.changes import MAX_LISTENERS
from dicom_node.reading_room.display import ViewerStudy, viewer_study
from dicom_node.reading_room.feedback import COMMENT_LENGTH, Opinion, Verdict
from dicom_node.reading_room.intake import received, take, try_out
from dicom_node.reading_room.room import Room, RoomOf
from dicom_node.reading_room.study import Image, StudyView, read_image, read_study, study_number
from dicom_node.reading_room.visitors import Admin, Reader, Visitor, reader, unforged
from dicom_node.reading_room.worklist import Line, Sort
from dicom_node.store.readings import KeptFinding, KeptImage, KeptSimilar
from dicom_node.store.study import OUTCOMES, ResultState, StudyState

VERSION: Final = "v1"
PREFIX: Final = f"/api/{VERSION}"
INTENDED_USE: Final = "research use only"

router = APIRouter(prefix=PREFIX, dependencies=[Depends(reader), Depends(unforged)])

LARGEST_NUMBER: Final = 2**31 - 1
"""Of an integer column of PostgreSQL."""
StudyNumber = Annotated[int, Path(ge=1, le=LARGEST_NUMBER, description="number of the study in this node")]
ImageNumber = Annotated[int, Path(ge=1, le=LARGEST_NUMBER, description="number of the image in this node")]


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


def worklist_query(
    state: Annotated[StudyState | None, Query(description="only studies in this state")] = None,
    q: Annotated[str, Query(max_length=200, description="words that a study is found by")] = "",
    finding: Annotated[str, Query(max_length=64, description="key of a finding that is present")] = "",
    sort: Annotated[Sort, Query(description="what the list is sorted by")] = Sort.CHANGED,
    after: Annotated[str, Query(max_length=400, description="`next` of the page before")] = "",
    before: Annotated[str, Query(max_length=400, description="`previous` of the page behind")] = "",
) -> worklist.Query:
    """Understand the query of a list."""
    text, key = (part.replace("\0", " ") for part in (q, finding))
    return worklist.Query(state=state, text=text, finding=key, sort=sort, after=after, before=before)


WorklistQuery = Annotated[worklist.Query, Depends(worklist_query)]


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


@router.get("/studies", responses=answers())
def studies(room: RoomOf, who: Reader, query: WorklistQuery) -> StudyList:
    """List studies."""
    room.accesses.record(who.name, who.address, "worklist")
    found = worklist.read_worklist(room.engine, query)
    return StudyList(
        INTENDED_USE, found.states, [_line(line) for line in found.lines], found.next, found.previous
    )


@router.get("/studies/{study_id}", responses=answers(404))
def study(room: RoomOf, who: Reader, study_id: StudyNumber) -> StudyOut:
    """Show one study: images, findings, results."""
    view = study_or_404(room, study_id)
    room.accesses.record(who.name, who.address, "study", study_id)
    return _study(view)


@router.get("/studies/{study_id}/viewer", responses=answers(404))
def viewer(room: RoomOf, who: Reader, study_id: StudyNumber) -> ViewerStudy:
    """List the films and heat maps of one study, and of the study before it, for a viewer."""
    view = study_or_404(room, study_id)
    room.accesses.record(who.name, who.address, "study", study_id)
    return viewer_study(room, view)


_BYTES = {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}
_PNG = {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}}


@router.get(
    "/studies/{study_id}/images/{image_id}/pixels",
    response_class=Response,
    responses={200: {"description": "greys", **_BYTES}, **answers(404, 422)},
)
def pixels(room: RoomOf, who: Reader, study_id: StudyNumber, image_id: ImageNumber) -> Response:
    """Return the greys of one film, 16 bits, little endian, row by row; X-Rows and X-Columns say how many."""
    image = _image_or_404(room, study_id, image_id)
    room.accesses.record(who.name, who.address, "film", study_id)
    try:
        film = room.films.film(room.data_dir.spool.path(image.file))
    except NotAnalysable as error:
        return JSONResponse(asdict(Refused(f"{error}.")), 422)
    rows, columns = film.values.shape
    return _raw(film.values.tobytes(), rows, columns)


@router.get(
    "/studies/{study_id}/images/{image_id}/thumbnail",
    response_class=Response,
    responses={200: {"description": "a small picture", **_PNG}, **answers(404)},
)
def thumbnail(room: RoomOf, _who: Reader, study_id: StudyNumber, image_id: ImageNumber) -> Response:
    """Return a small picture of one film."""
    image = _image_or_404(room, study_id, image_id)
    content = room.films.thumbnail(room.data_dir.spool.path(image.file), image.digest)
    return Response(content, media_type="image/png", headers={"Cache-Control": "private, max-age=600"})


@router.get(
    "/studies/{study_id}/maps/{number}",
    response_class=Response,
    responses={200: {"description": "heat", **_BYTES}, **answers(404)},
)
def heat_map(
    room: RoomOf,
    _who: Reader,
    study_id: StudyNumber,
    number: Annotated[int, Path(ge=0, le=10_000)],
    revision: Annotated[int | None, Query(ge=1, le=2**31 - 1, description="that was analysed")] = None,
) -> Response:
    """Return one heat map, 8 bits, row by row, over the whole film; X-Rows and X-Columns say how many.

    404 when there is no such map, or `revision` is not the latest that was analysed.
    """
    reading = study_or_404(room, study_id).reading
    if reading is None or revision not in (None, reading.revision) or number >= len(reading.kept.maps):
        raise HTTPException(404)
    values = room.data_dir.maps.read(reading.kept.maps_file, number)
    return _raw(values.tobytes(), *values.shape)


@router.get("/events", response_class=Response, responses=answers())
async def events(room: RoomOf, _who: Reader) -> Response:
    """Tell what changes, as server-sent events named `studies`."""
    if room.changes.listeners >= MAX_LISTENERS:
        raise HTTPException(503)
    return StreamingResponse(room.changes.listen(), media_type="text/event-stream")


@dataclass(frozen=True, slots=True)
class Retried:
    """Whether a study will be analysed again."""

    retried: bool


@router.post("/studies/{study_id}/retry", responses=answers(404, 409))
def retry(room: RoomOf, who: Admin, study_id: StudyNumber) -> Retried:
    """Analyse a study again, as a new revision; 409 while it is not done."""
    view = study_or_404(room, study_id)
    if not room.index.retry([view.study_instance_uid], states=sorted(OUTCOMES)):
        raise HTTPException(409)
    room.accesses.record(who.name, who.address, "retry", study_id, repeats=True)
    return Retried(retried=True)


class OpinionIn(BaseModel):
    """What the reader says of a finding."""

    model_config = ConfigDict(extra="forbid")

    verdict: Verdict
    comment: str = Field("", max_length=COMMENT_LENGTH)


FindingKey = Annotated[str, Path(max_length=64, pattern=r"^[a-z0-9_]+$", description="key of a finding")]


def say(room: Room, who: Visitor, study_id: int, key: str, said: OpinionIn) -> Opinion:
    """Keep what somebody says of a finding of a study's latest reading.

    Raises
    ------
    HTTPException
        404 when there is no such finding.
    """
    reading = study_or_404(room, study_id).reading
    if reading is None or key not in {entry.key for entry in reading.kept.findings}:
        raise HTTPException(404)
    room.accesses.record(who.name, who.address, "feedback", study_id, repeats=True)
    comment = said.comment.replace("\0", " ")
    return room.feedback.say(reading.id, key, who.name, said.verdict, comment)


@router.get("/studies/{study_id}/feedback", responses=answers(404))
def feedback(room: RoomOf, _who: Reader, study_id: StudyNumber) -> Mapping[str, list[Opinion]]:
    """List what readers said of the latest reading, by finding."""
    reading = study_or_404(room, study_id).reading
    return {} if reading is None else room.feedback.of(reading.id)


@router.put("/studies/{study_id}/feedback/{key}", responses=answers(404, 413, 415))
def give_feedback(
    room: RoomOf, who: Reader, study_id: StudyNumber, key: FindingKey, said: OpinionIn
) -> Opinion:
    """Say what you think of a finding, in place of what you said before."""
    return say(room, who, study_id, key, said)


@router.get(
    "/feedback.csv",
    response_class=Response,
    responses={200: {"description": "all feedback", "content": {"text/csv": {}}}, **answers()},
)
def feedback_csv(room: RoomOf, who: Reader) -> Response:
    """Return all feedback, each line beside what it is about."""
    room.accesses.record(who.name, who.address, "feedback export")
    headers = {"Content-Disposition": 'attachment; filename="feedback-research-use-only.csv"'}
    return Response("".join(room.feedback.csv()), media_type="text/csv", headers=headers)


@dataclass(frozen=True, slots=True)
class Taken:
    """Which study a file went to."""

    study: int


_UPLOAD = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


@router.post("/instances", status_code=201, openapi_extra=_UPLOAD, responses=answers(413, 415))
async def upload(request: Request, room: RoomOf, who: Admin) -> Taken:
    """Take one DICOM file, as by C-STORE."""
    async with received(request, room) as path:
        uid = await run_in_threadpool(take, room, path, who.address)
    return await run_in_threadpool(_taken, room, who, uid, "upload")


@router.post("/trials", status_code=201, openapi_extra=_UPLOAD, responses=answers(413, 415))
async def try_film(request: Request, room: RoomOf, who: Reader) -> Taken:
    """Try one film: DICOM, PNG or JPEG. Its results go nowhere."""
    async with received(request, room) as path:
        uid = await run_in_threadpool(try_out, room, path)
    return await run_in_threadpool(_taken, room, who, uid, "try")


def _taken(room: Room, who: Visitor, uid: str, action: str) -> Taken:
    number = study_number(room.engine, uid)
    room.accesses.record(who.name, who.address, action, number, repeats=True)
    return Taken(number)


@dataclass(frozen=True, slots=True)
class Status:
    """What concerns all studies, as of a moment ago."""

    intended_use: str
    version: str
    studies: Mapping[StudyState, int]
    results: Mapping[ResultState, int]
    destinations: Sequence[Mapping[str, Any]]
    audit: Mapping[str, Any] | None


@router.get("/status", responses=answers())
def status(room: RoomOf) -> Status:
    """Count studies and results, as ``dicom-node status --json`` does."""
    overall = worklist.read_overall(room.engine, room.settings.destinations)
    finished = room.audits.latest
    return Status(
        intended_use=INTENDED_USE,
        version=version("dicom-node"),
        studies=overall.studies,
        results=overall.results,
        destinations=[
            {
                "name": line.name,
                "results": dict(line.states),
                "oldest_waiting": line.oldest,
                "error": line.error,
            }
            for line in overall.destinations
        ],
        audit=None
        if finished is None
        else {**asdict(finished.answer), "conserved": finished.answer.conserved},
    )


def _image_or_404(room: Room, study_id: int, image_id: int) -> Image:
    if (found := read_image(room.engine, study_id, image_id)) is None:
        raise HTTPException(404)
    return found


def _raw(content: bytes, rows: int, columns: int) -> Response:
    headers = {"X-Rows": str(rows), "X-Columns": str(columns)}
    return Response(content, media_type="application/octet-stream", headers=headers)


def _finding(entry: KeptFinding) -> FindingOut:
    return FindingOut(**asdict(entry))


def _line(line: Line) -> StudyLine:
    names = ("id", "patient", "description", "study_date", "state", "confirmed", "reason", "revision")
    times = ("first_received_at", "last_received_at", "updated_at", "normality", "deliveries")
    return StudyLine(
        **{name: getattr(line, name) for name in (*names, *times)},
        study=line.digest,
        images=line.instances,
        findings=[_finding(entry) for entry in line.findings],
    )


def _study(view: StudyView) -> StudyOut:
    names = ("id", "patient", "description", "study_date", "state", "confirmed", "reason", "revision")
    times = ("first_received_at", "last_received_at", "updated_at")
    reading = view.reading
    said = {} if reading is None else {each.sop_instance_uid: each for each in reading.kept.images}
    unread = KeptImage("", "", "", "")
    return StudyOut(
        **{name: getattr(view, name) for name in (*names, *times)},
        intended_use=INTENDED_USE,
        study=view.digest,
        images=[
            ImageOut(
                id=image.id,
                view=(verdict := said.get(image.sop_instance_uid, unread)).view,
                reason=verdict.reason,
                exclusion=verdict.exclusion,
                received_at=image.received_at,
                pixels=f"{PREFIX}/studies/{view.id}/images/{image.id}/pixels",
            )
            for image in view.images
        ],
        reading=None
        if reading is None
        else ReadingOut(
            revision=reading.revision,
            created_at=reading.created_at,
            model=reading.kept.model,
            model_version=reading.kept.model_version,
            parameters=reading.kept.parameters,
            normality=reading.kept.normality,
            findings=[_finding(entry) for entry in reading.kept.findings],
            similar=reading.kept.similar,
        ),
        results=[
            SentOut(
                **{
                    name: getattr(each, name)
                    for name in (
                        "kind",
                        "revision",
                        "size",
                        "destination",
                        "state",
                        "attempts",
                        "error",
                        "updated_at",
                    )
                }
            )
            for each in view.sent
        ],
    )
