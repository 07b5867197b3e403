"""The films of similar cases, which are of a public reference set: ``retrieval.films`` says where they lie.

The node holds none of them, and nothing of them goes into a result. A film is asked for by the study, the
rank of the case and its place among the case's films; its name comes from a listing of the folder alone, so
that no request and no identifier leads out of it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Annotated, Final

from fastapi import APIRouter, Depends, HTTPException
from fastapi import Path as InPath
from fastapi.responses import FileResponse, Response

from dicom_node.store.analysis_records import KeptCase
from dicom_node.web.api.schemas import PREFIX, StudyNumber, answers, study_or_404
from dicom_node.web.dependencies import Room, RoomOf
from dicom_node.web.read_models.study import StudyView
from dicom_node.web.request_auth import Reader, reader

router = APIRouter(prefix=PREFIX, dependencies=[Depends(reader)])

_LOG = logging.getLogger(__name__)
_TYPES: Final = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png"}
_CONTENT: Final = {name: {"schema": {"type": "string", "format": "binary"}} for name in set(_TYPES.values())}

Rank = Annotated[int, InPath(ge=1, le=50, description="of the case, from 1, the most similar first")]
FilmNumber = Annotated[int, InPath(ge=1, le=50, description="of the case's films, from 1")]


def film_names(folder: Path | None, cases: Sequence[KeptCase]) -> list[list[str]]:
    """Return the names of each case's films in a folder, in order; none when the folder cannot be read.

    A film is called by its case, which is what stands behind the colon of the identifier, and goes on with
    ``_`` or with its type: ``1000_IM-0003-1001.jpg`` and ``1000.png`` are of ``openi:1000``.
    """
    if folder is None or not cases:
        return [[] for _ in cases]
    try:
        names = sorted(path.name for path in folder.iterdir() if path.suffix.lower() in _TYPES)
    except OSError as error:
        _LOG.warning("retrieval.films cannot be read: %s", error.strerror)
        names = []
    keys = [case.identifier.rpartition(":")[2] for case in cases]
    return [[name for name in names if key and name.startswith((f"{key}_", f"{key}."))] for key in keys]


def cases_of(view: StudyView) -> Sequence[KeptCase]:
    """Return the similar cases of a study, by rank."""
    similar = None if view.reading is None else view.reading.kept.similar
    return () if similar is None else similar.cases


def films_of(room: Room, view: StudyView) -> list[list[str]]:
    """Return the names of the films of each of a study's similar cases."""
    return film_names(room.settings.retrieval.films, cases_of(view))


@router.get(
    "/studies/{study_id}/similar/{rank}/films/{number}",
    response_class=Response,
    responses={
        200: {"description": "the film as the reference set has it", "content": _CONTENT},
        **answers(404),
    },
)
def case_film(room: RoomOf, _who: Reader, study_id: StudyNumber, rank: Rank, number: FilmNumber) -> Response:
    """Return one film of a similar case."""
    folder = room.settings.retrieval.films
    films = films_of(room, study_or_404(room, study_id))[rank - 1 : rank]
    names = films[0][number - 1 : number] if films else []
    if folder is None or not names or not (folder / names[0]).is_file():
        raise HTTPException(404)
    kind = _TYPES[PurePath(names[0]).suffix.lower()]
    # Not to be kept by the browser: after another analysis the rank is another case's.
    return FileResponse(folder / names[0], media_type=kind)
