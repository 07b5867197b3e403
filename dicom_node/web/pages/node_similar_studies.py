"""Which other studies of this node a study is like: off unless ``retrieval.own_studies`` asks for it.

They are other patients' studies, so they stand on a page of their own, each search is written down with the
reader's name, and nothing of it goes into a result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Query, Request
from fastapi.responses import HTMLResponse

from dicom_node.store.study_embeddings import OwnCase, Places
from dicom_node.web.api.schemas import INTENDED_USE, PREFIX, StudyNumber, answers, study_or_404
from dicom_node.web.dependencies import Room, RoomOf
from dicom_node.web.pages.routes import page
from dicom_node.web.read_models.study import read_study
from dicom_node.web.request_auth import Reader, Visitor, reader, unforged

router = APIRouter(dependencies=[Depends(reader), Depends(unforged)])

Most = Annotated[int, Query(ge=1, le=50, description="how many studies at most")]


@dataclass(frozen=True, slots=True)
class OwnStudies:
    """Studies of this node that one is like, the most similar first; `similarity` is a cosine."""

    intended_use: str
    studies: Sequence[OwnCase]


def _search(room: Room, who: Visitor, study_id: int, k: int) -> list[OwnCase]:
    """Search for a reader, who is written down first.

    Raises
    ------
    HTTPException
        404 when the node keeps no such index, or the study has no place in it.
    """
    study_or_404(room, study_id)
    if not room.settings.retrieval.own_studies:
        raise HTTPException(404)
    room.accesses.record(who.name, who.address, "search of own studies", study_id, repeats=True)
    if (found := Places(room.engine).nearest(study_id, k)) is None:
        raise HTTPException(404)
    return found


@router.get(f"{PREFIX}/studies/{{study_id}}/own-studies", responses=answers(404))
def own_studies(room: RoomOf, who: Reader, study_id: StudyNumber, k: Most = 10) -> OwnStudies:
    """Find the studies of other patients in this node that a study is most like."""
    return OwnStudies(INTENDED_USE, _search(room, who, study_id, k))


@router.get("/studies/{study_id}/own-studies", include_in_schema=False)
def show_own_studies(
    request: Request, room: RoomOf, who: Reader, study_id: StudyNumber, k: Most = 10
) -> HTMLResponse:
    """Show the same as a page."""
    found = [(case, read_study(room.engine, case.study_id)) for case in _search(room, who, study_id, k)]
    return page(request, room, "own.html", who, study=study_or_404(room, study_id), found=found)
