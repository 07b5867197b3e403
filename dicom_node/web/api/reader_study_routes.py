"""REST API of reader studies: list, results, and the files of all readings and results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Self

from fastapi import APIRouter, Depends, HTTPException, Path
from fastapi.responses import Response

from dicom_node.store.case_readings import CaseReadings
from dicom_node.store.reader_studies import Design, ReaderStudies, ReaderStudy
from dicom_node.web.api.feedback_routes import fhir_file
from dicom_node.web.api.parameters import LARGEST_NUMBER
from dicom_node.web.api.schemas import INTENDED_USE, PREFIX, error_responses
from dicom_node.web.blinding import Blinded
from dicom_node.web.dependencies import Context, WebContext
from dicom_node.web.fhir import MEDIA_TYPE
from dicom_node.web.read_models.model_cards import read_finding_codes
from dicom_node.web.reader_studies.exports import readings_csv, readings_reports, results_csv
from dicom_node.web.reader_studies.results import Results, compute_results
from dicom_node.web.request_auth import Admin, CurrentUser, Reader, check_csrf, require_reader

router = APIRouter(prefix=PREFIX, dependencies=[Depends(require_reader), Depends(check_csrf)])

ReaderStudyNumber = Annotated[
    int, Path(ge=1, le=LARGEST_NUMBER, description="number of the reader study in this node")
]
_CSV: Final[Mapping[str, Any]] = {"content": {"text/csv": {}}}


@dataclass(frozen=True, slots=True)
class ReaderStudyOut:
    """One reader study; times in seconds since the epoch.

    Attributes
    ----------
    progress
        Number of answered case readings by reader, of `readings_each`; for readers, their own.
    boxes
        Whether readers may draw a box around what they find.
    """

    intended_use: str
    id: int
    name: str
    design: Design
    findings: Mapping[str, str]
    cases: int
    readings_each: int
    progress: Mapping[str, int]
    made_at: float
    closed_at: float | None
    boxes: bool

    @classmethod
    def of(cls, found: ReaderStudy, progress: Mapping[str, int]) -> Self:
        """Convert a reader study."""
        same = (
            *("id", "name", "design", "findings", "cases", "readings_each", "made_at", "closed_at"),
            "boxes",
        )
        return cls(
            intended_use=INTENDED_USE, progress=progress, **{name: getattr(found, name) for name in same}
        )


@dataclass(frozen=True, slots=True)
class ReaderStudyResults:
    """Results of one reader study."""

    intended_use: str
    study: ReaderStudyOut
    results: Results


@router.get("/reader-studies", responses=error_responses())
def reader_studies(context: Context, user: Reader) -> list[ReaderStudyOut]:
    """List reader studies, the newest first: all for an admin, else your own."""
    found = ReaderStudies(context.engine).all(None if user.admin else user.name)
    return [ReaderStudyOut.of(each, shown_progress(context, user, each)) for each in found]


@router.get("/reader-studies/{reader_study_id}/results", responses=error_responses(404))
def results(context: Context, user: Admin, reader_study_id: ReaderStudyNumber) -> ReaderStudyResults:
    """Compute accuracy, agreement and times from the answers that there are."""
    found = study_with_results(context, user, reader_study_id)
    context.access_log.record(user.name, user.address, "reader study export")
    shown = ReaderStudyOut.of(found, shown_progress(context, user, found))
    return ReaderStudyResults(INTENDED_USE, shown, compute_results(context.engine, found))


@router.get(
    "/reader-studies/{reader_study_id}/readings.csv",
    response_class=Response,
    responses={200: {"description": "all readings", **_CSV}, **error_responses(404)},
)
def readings_file(context: Context, user: Admin, reader_study_id: ReaderStudyNumber) -> Response:
    """Return all readings as CSV: one line for each reader, study, session and finding."""
    found = study_with_results(context, user, reader_study_id)
    context.access_log.record(user.name, user.address, "reader study export", always=True)
    return _file(found, "readings", readings_csv(context.engine, found))


@router.get(
    "/reader-studies/{reader_study_id}/readings.fhir.json",
    response_class=Response,
    responses={200: {"description": "a FHIR R4 Bundle", "content": {MEDIA_TYPE: {}}}, **error_responses(404)},
)
def readings_fhir(context: Context, user: Admin, reader_study_id: ReaderStudyNumber) -> Response:
    """Return all readings as a FHIR R4 Bundle: a DiagnosticReport for each reader, study and session."""
    found = study_with_results(context, user, reader_study_id)
    context.access_log.record(user.name, user.address, "reader study export", always=True)
    names = read_finding_codes(context.data_dir.cards)
    return fhir_file(readings_reports(context.engine, found, names), f"reader-study-{found.id}-readings")


@router.get(
    "/reader-studies/{reader_study_id}/results.csv",
    response_class=Response,
    responses={200: {"description": "all figures", **_CSV}, **error_responses(404)},
)
def results_file(context: Context, user: Admin, reader_study_id: ReaderStudyNumber) -> Response:
    """Return the results as CSV, one line for each figure."""
    found = study_with_results(context, user, reader_study_id)
    context.access_log.record(user.name, user.address, "reader study export", always=True)
    return _file(found, "results", results_csv(found, compute_results(context.engine, found)))


def reader_study_or_404(context: WebContext, user: CurrentUser, reader_study_id: int) -> ReaderStudy:
    """Return a reader study that the user reads in or administers.

    Raises
    ------
    HTTPException
        404 when there is none.
    """
    found = ReaderStudies(context.engine).find(reader_study_id)
    if found is None or not (user.admin or user.name in found.readers):
        raise HTTPException(404)
    return found


def study_with_results(context: WebContext, user: CurrentUser, reader_study_id: int) -> ReaderStudy:
    """Return a reader study whose results the admin may see.

    Raises
    ------
    HTTPException
        404 when there is none.
    Blinded
        When the admin reads in it, or in another one over one of its cases, and that is open.
    """
    found = reader_study_or_404(context, user, reader_study_id)
    if withholds_results(context, user, found):
        raise Blinded(
            "You read such cases in an open reader study: the results are shown to you when it is closed."
        )
    return found


def withholds_results(context: WebContext, user: CurrentUser, found: ReaderStudy) -> bool:
    """Return whether results would tell a reader of an open reader study about the model and the others.

    It may be another reader study over the same cases.
    """
    if found.closed_at is None and user.name in found.readers:
        return True
    readings = CaseReadings(context.engine)
    return not readings.hidden_studies(user.name).isdisjoint(readings.studies_of(found.id))


def shown_progress(context: WebContext, user: CurrentUser, found: ReaderStudy) -> dict[str, int]:
    """Return the progress of all readers for an admin, else that of the user."""
    progress = CaseReadings(context.engine).progress(found)
    return progress if user.admin else {user.name: progress[user.name]}


def _file(found: ReaderStudy, what: str, lines: Iterator[str] | Sequence[str]) -> Response:
    name = f"reader-study-{found.id}-{what}-research-use-only.csv"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response("".join(lines), media_type="text/csv", headers=headers)
