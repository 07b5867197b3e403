"""Request parameters: path and query parameters that several routes share, and the objects that they name."""

from __future__ import annotations

import contextlib
from datetime import date
from typing import Annotated, Final

from fastapi import Depends, HTTPException, Path, Query
from pydantic import BaseModel, ConfigDict, Field

from dicom_node.config.served_models import ModelRole
from dicom_node.errors import NodeError
from dicom_node.store.states import StudyState
from dicom_node.web.blinding import Hidden
from dicom_node.web.dependencies import WebContext
from dicom_node.web.notes import TAG_LENGTH
from dicom_node.web.read_models.study import Image, StudyView, read_image, read_study
from dicom_node.web.read_models.worklist_query import Read, Sort, WorklistQuery
from dicom_node.web.request_auth import CurrentUser, current_user

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

_LOW: Final = "least certainty, or else score, of the finding, whether it is present or not"
_HIGH: Final = "certainty, or else score, that the finding is below"


class SearchIn(BaseModel):
    """Search of the worklist: a request body, because no address may contain the name of a patient."""

    model_config = ConfigDict(extra="forbid")

    q: str = Field("", max_length=200, description="words that a study must contain, all of them")
    state: StudyState | None = Field(None, description="only studies in this state")
    finding: str = Field("", max_length=64, description="key of a finding that is present")
    tag: str = Field("", max_length=TAG_LENGTH, description="only studies with this tag")
    read: Read | None = Field(None, description="unread by anybody or by you, or read by you")
    low: float | None = Field(None, ge=0, le=1, description=_LOW)
    high: float | None = Field(None, ge=0, le=1, description=_HIGH)
    since: date | None = Field(None, description="first day of the analysis (UTC)")
    until: date | None = Field(None, description="day that the analysis is before (UTC)")
    sort: Sort = Field(Sort.CHANGED, description="order of the list")
    after: str = Field("", max_length=400, description="`next` of the page before this one")
    before: str = Field("", max_length=400, description="`previous` of the page after this one")

    def query(self, hidden: frozenset[int], reader: str) -> WorklistQuery:
        """Return the query of a reader, in which the answers on `hidden` studies are left out."""
        text, key, tag = (part.replace("\0", " ") for part in (self.q, self.finding, self.tag))
        return WorklistQuery(
            state=self.state,
            text=text,
            finding=key,
            tag=tag.strip().lower(),  # as tags are stored
            read=self.read,
            reader=reader,
            low=self.low,
            high=self.high,
            since=self.since.isoformat() if self.since else "",
            until=self.until.isoformat() if self.until else "",
            sort=self.sort,
            after=self.after,
            before=self.before,
            hidden=hidden,
        )


def worklist_parameters(
    *,
    hidden: Hidden,
    user: Annotated[CurrentUser | None, Depends(current_user)],
    state: Annotated[StudyState | None, Query(description="only studies in this state")] = None,
    finding: Annotated[str, Query(max_length=64, description="key of a finding that is present")] = "",
    tag: Annotated[str, Query(max_length=TAG_LENGTH, description="only studies with this tag")] = "",
    read: Annotated[Read | None, Query(description="unread by anybody or by you, or read by you")] = None,
    low: Annotated[float | None, Query(ge=0, le=1, description=_LOW)] = None,
    high: Annotated[float | None, Query(ge=0, le=1, description=_HIGH)] = None,
    since: Annotated[date | None, Query(description="first day of the analysis (UTC)")] = None,
    until: Annotated[date | None, Query(description="day that the analysis is before (UTC)")] = None,
    sort: Annotated[Sort, Query(description="order of the list")] = Sort.CHANGED,
    after: Annotated[str, Query(max_length=400, description="`next` of the page before this one")] = "",
    before: Annotated[str, Query(max_length=400, description="`previous` of the page after this one")] = "",
) -> WorklistQuery:
    """Build the query of a worklist from the query parameters of a request."""
    said = SearchIn(
        state=state,
        finding=finding,
        tag=tag,
        read=read,
        low=low,
        high=high,
        since=since,
        until=until,
        sort=sort,
        after=after,
        before=before,
    )
    return said.query(hidden, "" if user is None else user.name)


WorklistParameters = Annotated[WorklistQuery, Depends(worklist_parameters)]


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
    if not found.patient:  # the event stream, which lists the headers, has not come to it yet
        with contextlib.suppress(NodeError):
            context.event_stream.study_headers.update([study_id])
            found = read_study(context.engine, study_id, model) or found
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
