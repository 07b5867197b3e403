"""The REST API, version 1: what the pages show, for scripts. ``/api/v1/openapi.json`` describes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Path, Query, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from dicom_node.errors import NotAnalysable
from dicom_node.store.states import OUTCOMES, ResultState, StudyState
from dicom_node.web.api.schemas import (
    INTENDED_USE,
    LARGEST_NUMBER,
    PREFIX,
    Refused,
    StudyLine,
    StudyList,
    StudyNumber,
    StudyOut,
    answers,
    study_or_404,
)
from dicom_node.web.api.upload import received, take, try_out
from dicom_node.web.dependencies import Room, RoomOf
from dicom_node.web.feedback import COMMENT_LENGTH, Opinion, Verdict
from dicom_node.web.read_models import worklist
from dicom_node.web.read_models.cohort import Cohort, read_cohort
from dicom_node.web.read_models.event_stream import MAX_LISTENERS
from dicom_node.web.read_models.health import read_health
from dicom_node.web.read_models.model_cards import Card, read_card
from dicom_node.web.read_models.study import Image, read_image, study_number
from dicom_node.web.read_models.viewer_study import ViewerStudy, viewer_study
from dicom_node.web.read_models.worklist import Sort
from dicom_node.web.request_auth import Admin, Reader, Visitor, reader, unforged

router = APIRouter(prefix=PREFIX, dependencies=[Depends(reader), Depends(unforged)])

ImageNumber = Annotated[int, Path(ge=1, le=LARGEST_NUMBER, description="number of the image in this node")]


def worklist_query(
    state: Annotated[StudyState | None, Query(description="only studies in this state")] = None,
    finding: Annotated[str, Query(max_length=64, description="key of a finding that is present")] = "",
    sort: Annotated[Sort, Query(description="what the list is sorted by")] = Sort.CHANGED,
    after: Annotated[str, Query(max_length=400, description="`next` of the page before")] = "",
    before: Annotated[str, Query(max_length=400, description="`previous` of the page behind")] = "",
) -> worklist.Query:
    """Understand the query of a list."""
    key = finding.replace("\0", " ")
    return worklist.Query(state=state, finding=key, sort=sort, after=after, before=before)


WorklistQuery = Annotated[worklist.Query, Depends(worklist_query)]


def cohort_query(
    finding: Annotated[str, Query(max_length=64, description="key of a finding; the first when absent")] = "",
    days: Annotated[int, Query(ge=1, le=3650, description="that the readings are no older than")] = 365,
) -> tuple[str, int]:
    """Understand which readings are asked for."""
    return finding.replace("\0", " "), days


CohortQuery = Annotated[tuple[str, int], Depends(cohort_query)]


@router.get("/studies", responses=answers())
def studies(room: RoomOf, who: Reader, query: WorklistQuery) -> StudyList:
    """List studies."""
    room.accesses.record(who.name, who.address, "worklist")
    found = worklist.read_worklist(room.engine, query)
    return StudyList(
        INTENDED_USE, found.states, [StudyLine.of(line) for line in found.lines], found.next, found.previous
    )


class SearchIn(BaseModel):
    """What studies are searched by; as a body, for its words may name a patient and must be in no address."""

    model_config = ConfigDict(extra="forbid")

    q: str = Field("", max_length=200, description="words that a study is found by")
    state: StudyState | None = Field(None, description="only studies in this state")
    finding: str = Field("", max_length=64, description="key of a finding that is present")
    sort: Sort = Field(Sort.CHANGED, description="what the list is sorted by")
    after: str = Field("", max_length=400, description="`next` of the page before")
    before: str = Field("", max_length=400, description="`previous` of the page behind")

    def query(self) -> worklist.Query:
        """Return the query of a list."""
        text, key = (part.replace("\0", " ") for part in (self.q, self.finding))
        return worklist.Query(self.state, text, key, self.sort, self.after, self.before)


@router.post("/studies/search", responses=answers(413, 415))
def search(room: RoomOf, who: Reader, said: SearchIn) -> StudyList:
    """List the studies in which all words of `q` stand, and that are otherwise asked for."""
    return studies(room, who, said.query())


@router.get("/studies/{study_id}", responses=answers(404))
def study(room: RoomOf, who: Reader, study_id: StudyNumber) -> StudyOut:
    """Show one study: images, findings, results."""
    view = study_or_404(room, study_id)
    room.accesses.record(who.name, who.address, "study", study_id)
    return StudyOut.of(view)


@router.get("/studies/{study_id}/viewer", responses=answers(404))
def viewer(room: RoomOf, who: Reader, study_id: StudyNumber) -> ViewerStudy:
    """List the films and heat maps of one study, and of the study before it, for a viewer."""
    view = study_or_404(room, study_id)
    room.accesses.record(who.name, who.address, "study", study_id)
    return viewer_study(room.films, room.data_dir.spool, view)


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
    revision: Annotated[int | None, Query(ge=1, le=LARGEST_NUMBER, description="that was analysed")] = None,
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


@router.get("/models/{name}", responses=answers(404))
def model(room: RoomOf, name: Annotated[str, Path(max_length=128)]) -> Card:
    """Return the card of a bundle that was used here, such as openi-findings-0.2.0, and its calibration."""
    if (card := read_card(room.data_dir.cards, name)) is None:
        raise HTTPException(404)
    return card


@router.get("/cohort", responses=answers())
def cohort(room: RoomOf, who: Reader, query: CohortQuery) -> Cohort:
    """Say how the scores of one finding are spread and drift, and whom readers agree with."""
    room.accesses.record(who.name, who.address, "cohort")
    return read_cohort(room.engine, *query)


@dataclass(frozen=True, slots=True)
class Status:
    """What concerns all studies, as of a moment ago; times in seconds since the epoch."""

    intended_use: str
    version: str
    versions: Mapping[str, str]
    studies: Mapping[StudyState, int]
    results: Mapping[ResultState, int]
    destinations: Sequence[Mapping[str, Any]]
    audit: Mapping[str, Any] | None
    oldest_open: float | None
    free_bytes: int
    total_bytes: int
    reserve_bytes: int


@router.get("/status", responses=answers())
def status(room: RoomOf) -> Status:
    """Count studies and results, as ``dicom-node status --json`` does, and say how much room there is."""
    health = read_health(room.engine, room.settings, room.data_dir)
    finished = room.audits.latest
    return Status(
        intended_use=INTENDED_USE,
        version=version("dicom-node"),
        versions=health.versions,
        studies=health.overall.studies,
        results=health.overall.results,
        destinations=[
            {
                "name": line.name,
                "results": dict(line.states),
                "oldest_waiting": line.oldest,
                "error": line.error,
            }
            for line in health.overall.destinations
        ],
        audit=None
        if finished is None
        else {**asdict(finished.answer), "conserved": finished.answer.conserved},
        oldest_open=health.oldest_open,
        free_bytes=health.free_bytes,
        total_bytes=health.total_bytes,
        reserve_bytes=health.reserve_bytes,
    )


def _image_or_404(room: Room, study_id: int, image_id: int) -> Image:
    if (found := read_image(room.engine, study_id, image_id)) is None:
        raise HTTPException(404)
    return found


def _raw(content: bytes, rows: int, columns: int) -> Response:
    headers = {"X-Rows": str(rows), "X-Columns": str(columns)}
    return Response(content, media_type="application/octet-stream", headers=headers)
