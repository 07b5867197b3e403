"""REST API of the whole node: status, cohort, model cards, event stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Path, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from dicom_node.errors import NodeError
from dicom_node.store.states import ResultState, StudyState
from dicom_node.store.storage_check import StorageCheckSummary
from dicom_node.web.api.parameters import CohortParameters
from dicom_node.web.api.schemas import INTENDED_USE, PREFIX, error_responses
from dicom_node.web.dependencies import Context
from dicom_node.web.media.lanes import Busy
from dicom_node.web.read_models.cohort import Cohort, cohort_csv, read_cohort
from dicom_node.web.read_models.health import read_health
from dicom_node.web.read_models.model_cards import Card, read_card
from dicom_node.web.read_models.score_drift import ScoreDrift
from dicom_node.web.request_auth import Reader, check_csrf, current_user, require_reader

router = APIRouter(prefix=PREFIX, dependencies=[Depends(require_reader), Depends(check_csrf)])


@dataclass(frozen=True, slots=True)
class Status:
    """Totals of the node at this moment; times in seconds since the epoch.

    Attributes
    ----------
    audit_trail_trouble
        Sentence that says why the audit trail cannot be written; empty when it can.
    oldest_open
        Time since which the oldest unfinished study waits; None when there is none.
    disk_outlook
        ``unknown``, ``steady``, ``filling`` or ``full``.
    disk_full_at
        Time when films will be refused because the disk is full; None unless it is filling or full.
    disk_bytes_per_day
        Growth of what the node keeps; None while the outlook is unknown.
    """

    intended_use: str
    version: str
    versions: Mapping[str, str]
    studies: Mapping[StudyState, int]
    results: Mapping[ResultState, int]
    destinations: Sequence[Mapping[str, Any]]
    audit: Mapping[str, Any] | None
    audit_trail_trouble: str
    oldest_open: float | None
    free_bytes: int
    total_bytes: int
    reserve_bytes: int
    storage: StorageCheckSummary
    disk_outlook: str
    disk_full_at: float | None
    disk_bytes_per_day: float | None


@router.get("/status", responses=error_responses())
def status(context: Context) -> Status:
    """Count studies and results, as ``dicom-node status --json`` does, and return the free disk space."""
    health = read_health(context.engine, context.settings, context.data_dir)
    audit = context.audit_task.latest
    return Status(
        intended_use=INTENDED_USE,
        version=version("dicom-node"),
        versions=health.versions,
        studies=health.summary.studies,
        results=health.summary.results,
        destinations=[
            {
                "name": each.name,
                "results": dict(each.states),
                "oldest_waiting": each.oldest,
                "error": each.error,
            }
            for each in health.summary.destinations
        ],
        audit=None if audit is None else {**asdict(audit.value), "conserved": audit.value.conserved},
        audit_trail_trouble=context.audit_trail.trouble,
        oldest_open=health.oldest_open,
        free_bytes=health.free_bytes,
        total_bytes=health.total_bytes,
        reserve_bytes=health.reserve_bytes,
        storage=health.storage,
        disk_outlook=health.forecast.outlook,
        disk_full_at=health.forecast.full_at,
        disk_bytes_per_day=health.forecast.bytes_per_day,
    )


@router.get("/cohort", responses=error_responses())
def cohort(context: Context, user: Reader, query: CohortParameters) -> Cohort:
    """Return the distribution and drift of one finding's scores, and how often readers agree."""
    context.access_log.record(user.name, user.address, "cohort")
    return read_cohort(context.engine, *query)


@router.get(
    "/cohort.csv",
    response_class=Response,
    responses={200: {"description": "all analyses", "content": {"text/csv": {}}}, **error_responses()},
)
def cohort_file(context: Context, user: Reader, query: CohortParameters) -> Response:
    """Return the analyses behind the statistics of one finding as CSV, one line for each."""
    context.access_log.record(user.name, user.address, "cohort export")
    headers = {"Content-Disposition": 'attachment; filename="cohort-research-use-only.csv"'}
    return Response("".join(cohort_csv(context.engine, *query)), media_type="text/csv", headers=headers)


@router.get("/cohort/drift", responses=error_responses())
def drift(context: Context, user: Reader) -> ScoreDrift:
    """Return the last test of all findings for drift of their scores; 503 before the first has ended."""
    context.access_log.record(user.name, user.address, "cohort")
    if (found := context.drift_task.latest) is None:
        raise Busy("the scores are still being tested; try again in a minute")
    return found.value


@router.get("/models/{name}", responses=error_responses(404))
def model(context: Context, name: Annotated[str, Path(max_length=128)]) -> Card:
    """Return model card and calibration of a bundle that was used here, such as openi-findings-0.2.0."""
    if (card := read_card(context.data_dir.cards, name)) is None:
        raise HTTPException(404)
    return card


@router.get("/events", response_class=Response, responses=error_responses())
async def events(request: Request, context: Context, user: Reader) -> Response:
    """Report changed studies as server-sent events named `studies`, until the session or the token ends."""
    if not context.event_stream.has_room(user.name):
        raise HTTPException(503)

    def valid() -> bool:
        try:
            return current_user(request, context) == user
        except NodeError:  # the database is away; it does not say that the session has ended
            return True

    return StreamingResponse(context.event_stream.listen(user.name, valid), media_type="text/event-stream")


@router.get("/openapi.json", include_in_schema=False)
def description(request: Request, context: Context) -> JSONResponse:
    """Return the description of the API (OpenAPI 3.1); 404 where the settings withhold it."""
    if not context.settings.web.api_description:
        raise HTTPException(404)
    return JSONResponse(request.app.openapi())
