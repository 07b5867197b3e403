"""Similar studies of this node: off unless the setting ``retrieval.own_studies`` is true.

The studies belong to other patients. Therefore each search is recorded with the name of the reader, the
studies have a page of their own, and none of this goes into a result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Query

from dicom_node.store.study_embeddings import SimilarStudy, StudyEmbeddings
from dicom_node.web.api.parameters import StudyNumber, study_or_404
from dicom_node.web.api.schemas import INTENDED_USE, PREFIX, error_responses
from dicom_node.web.blinding import Hidden
from dicom_node.web.dependencies import Context, WebContext
from dicom_node.web.request_auth import CurrentUser, Reader, check_csrf, require_reader

router = APIRouter(prefix=PREFIX, dependencies=[Depends(require_reader), Depends(check_csrf)])

Limit = Annotated[int, Query(ge=1, le=50, description="largest number of studies")]


@dataclass(frozen=True, slots=True)
class OwnStudies:
    """Studies of this node similar to one study, the most similar first; `similarity` is a cosine."""

    intended_use: str
    studies: Sequence[SimilarStudy]


@router.get("/studies/{study_id}/own-studies", responses=error_responses(404))
def own_studies(
    context: Context, user: Reader, hidden: Hidden, study_id: StudyNumber, k: Limit = 10
) -> OwnStudies:
    """Find the studies of other patients in this node that are most similar to a study."""
    return OwnStudies(INTENDED_USE, search_similar_studies(context, user, study_id, k, hidden))


def search_similar_studies(
    context: WebContext, user: CurrentUser, study_id: int, k: int, hidden: frozenset[int]
) -> list[SimilarStudy]:
    """Search for similar studies without the `hidden` ones; the search is recorded in the access log first.

    Raises
    ------
    HTTPException
        404 when the search is switched off, or when the study does not exist or has no embedding.
    """
    study_or_404(context, study_id)
    if not context.settings.retrieval.own_studies:
        raise HTTPException(404)
    context.access_log.record(user.name, user.address, "search of own studies", study_id, always=True)
    if (found := StudyEmbeddings(context.engine).nearest(study_id, k)) is None:
        raise HTTPException(404)
    return [each for each in found if each.study_id not in hidden]
