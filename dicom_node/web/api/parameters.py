"""Request parameters: path and query parameters that several routes share, and the objects that they name."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import Depends, HTTPException, Path, Query

from dicom_node.config.served_models import ModelRole
from dicom_node.store.states import StudyState
from dicom_node.web.blinding import Hidden
from dicom_node.web.dependencies import WebContext
from dicom_node.web.read_models import worklist
from dicom_node.web.read_models.study import Image, StudyView, read_image, read_study
from dicom_node.web.read_models.worklist import Sort
from dicom_node.web.request_auth import CurrentUser

LARGEST_NUMBER: Final = 2**31 - 1
"""Largest value of an integer column in PostgreSQL."""

StudyNumber = Annotated[int, Path(ge=1, le=LARGEST_NUMBER, description="number of the study in this node")]
ImageNumber = Annotated[int, Path(ge=1, le=LARGEST_NUMBER, description="number of the image in this node")]
ModelPosition = Annotated[
    int,
    Query(
        alias="model",
        ge=0,
        le=1000,
        description="position of the model among those that read the study; 0 for the first",
    ),
]
FindingKey = Annotated[str, Path(max_length=64, pattern=r"^[a-z0-9_]+$", description="key of a finding")]


def worklist_parameters(
    hidden: Hidden,
    state: Annotated[StudyState | None, Query(description="only studies in this state")] = None,
    finding: Annotated[str, Query(max_length=64, description="key of a finding that is present")] = "",
    sort: Annotated[Sort, Query(description="order of the list")] = Sort.CHANGED,
    after: Annotated[str, Query(max_length=400, description="`next` of the page before this one")] = "",
    before: Annotated[str, Query(max_length=400, description="`previous` of the page after this one")] = "",
) -> worklist.WorklistQuery:
    """Build the query of a worklist from the query parameters of a request."""
    key = finding.replace("\0", " ")
    return worklist.WorklistQuery(
        state=state, finding=key, sort=sort, after=after, before=before, hidden=hidden
    )


WorklistParameters = Annotated[worklist.WorklistQuery, Depends(worklist_parameters)]


def cohort_parameters(
    finding: Annotated[str, Query(max_length=64, description="key of a finding; the first when absent")] = "",
    days: Annotated[int, Query(ge=1, le=3650, description="largest age of an analysis, in days")] = 365,
) -> tuple[str, int]:
    """Return the finding and the number of days that a cohort is asked for."""
    return finding.replace("\0", " "), days


CohortParameters = Annotated[tuple[str, int], Depends(cohort_parameters)]


def study_or_404(
    context: WebContext, study_id: int, model: int = 0, user: CurrentUser | None = None
) -> StudyView:
    """Return a study with the analysis of one model.

    Parameters
    ----------
    model
        Position of the model among those that read the study.
    user
        Reader who asks; required unless `model` is 0. Only an admin sees a shadow's answers.

    Raises
    ------
    HTTPException
        404 when no study has this number, or there is no such model for this user.
    """
    if (found := read_study(context.engine, study_id, model)) is None:
        raise HTTPException(404)
    admin = user is not None and user.admin
    if model and (found.reading is None or not (admin or found.reading.record.role == ModelRole.PRIMARY)):
        raise HTTPException(404)
    return found


def image_or_404(context: WebContext, study_id: int, image_id: int) -> Image:
    """Return one image of a study.

    Raises
    ------
    HTTPException
        404 when the study has no image of this number, 410 when its file was purged.
    """
    if (found := read_image(context.engine, study_id, image_id)) is None:
        raise HTTPException(404)
    if (purged := found.purged) is not None:
        raise HTTPException(410, f"The film was {purged}.")
    return found
