"""Films of similar cases from a public reference set, in the folder that ``retrieval.films`` names.

The node keeps no copy of them, and none goes into a result. A request names a film by the study, the rank of
the case and the film's place among those of the case. The file name comes only from a listing of the folder,
so that no request and no identifier can lead out of it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Annotated, Final

from fastapi import APIRouter, Depends, HTTPException
from fastapi import Path as PathParameter
from fastapi.responses import FileResponse, Response

from dicom_node.store.analysis_records import SimilarCaseRecord
from dicom_node.web.api.parameters import StudyNumber, study_or_404
from dicom_node.web.api.schemas import PREFIX, error_responses
from dicom_node.web.dependencies import Context, WebContext
from dicom_node.web.read_models.study import StudyView
from dicom_node.web.request_auth import Reader, require_reader

router = APIRouter(prefix=PREFIX, dependencies=[Depends(require_reader)])

_LOG = logging.getLogger(__name__)
_TYPES: Final = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png"}
_CONTENT: Final = {name: {"schema": {"type": "string", "format": "binary"}} for name in set(_TYPES.values())}

Rank = Annotated[int, PathParameter(ge=1, le=50, description="rank of the case; 1 is the most similar")]
FilmNumber = Annotated[int, PathParameter(ge=1, le=50, description="number of the film in its case, from 1")]


@router.get(
    "/studies/{study_id}/similar/{rank}/films/{number}",
    response_class=Response,
    responses={
        200: {"description": "the film as the reference set has it", "content": _CONTENT},
        **error_responses(404),
    },
)
def case_film(
    context: Context, _user: Reader, study_id: StudyNumber, rank: Rank, number: FilmNumber
) -> Response:
    """Return one film of a similar case."""
    folder = context.settings.retrieval.films
    films = case_film_names(context, study_or_404(context, study_id))[rank - 1 : rank]
    names = films[0][number - 1 : number] if films else []
    if folder is None or not names or not (folder / names[0]).is_file():
        raise HTTPException(404)
    media_type = _TYPES[PurePath(names[0]).suffix.lower()]
    # The browser must not cache it: after another analysis the same rank can be another case.
    return FileResponse(folder / names[0], media_type=media_type)


def case_film_names(context: WebContext, view: StudyView) -> list[list[str]]:
    """Return the names of the films of each of a study's similar cases."""
    return film_names(context.settings.retrieval.films, similar_cases(view))


def similar_cases(view: StudyView) -> Sequence[SimilarCaseRecord]:
    """Return the similar cases of a study, by rank."""
    similar = None if view.reading is None else view.reading.record.similar
    return () if similar is None else similar.cases


def film_names(folder: Path | None, cases: Sequence[SimilarCaseRecord]) -> list[list[str]]:
    """Return the sorted names of each case's films in a folder; empty when the folder cannot be read.

    The name of a film starts with the case number, the part of the identifier after the colon, followed by
    ``_`` or the file extension: ``1000_IM-0003-1001.jpg`` and ``1000.png`` belong to ``openi:1000``.
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
