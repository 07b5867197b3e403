"""Blinding of readers: what the model has said of a study that a reader is to read without it is not shown.

A study is hidden from a reader while it is a case of an open reader study of theirs, until it is displayed to
them for an aided reading. Every route of a study is refused then, but for those that show films alone; so are
the routes that join the answers of many studies. Lists leave the answers out.
"""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import Depends, HTTPException, Request
from pydantic import TypeAdapter, ValidationError
from sqlalchemy import select

from dicom_node.store import database
from dicom_node.store.case_readings import CaseReadings
from dicom_node.store.tables import study
from dicom_node.web.dependencies import Context, WebContext
from dicom_node.web.request_auth import CurrentUser, current_user

_API: Final = "/api/v1/studies/{study_id}"
FILM_ROUTES: Final = frozenset(
    {
        f"{_API}/viewer",  # leaves the heat maps out by itself
        f"{_API}/images/{{image_id}}/pixels",
        f"{_API}/images/{{image_id}}/overlay",
        f"{_API}/images/{{image_id}}/thumbnail",
    }
)
"""Routes of a study that show its films alone."""
MAP_ROUTES: Final = frozenset({f"{_API}/maps/{{number}}"})
"""Routes that show the model's answer on a study, and nothing of its comparison with the prior."""
JOINED_ROUTES: Final = frozenset(
    {
        *("/cohort", "/api/v1/cohort", "/api/v1/cohort.csv", "/api/v1/cohort/drift"),
        *("/api/v1/feedback.csv", "/api/v1/feedback.fhir.json"),
        *("/api/v1/trials", "/api/v1/trials/example", "/try/example"),
    }
)
"""Routes that join the answers of many studies, or let the model read any film."""

_NUMBER: Final = TypeAdapter(int)
_STUDY: Final = "What the model says of this study is hidden from you while you read it in a reader study."
_JOINED: Final = "This shows what the model says of studies that you read in a reader study; read them first."


class Blinded(HTTPException):
    """HTTP error 403 of what is hidden from a reader; its detail is the reason in one sentence."""

    def __init__(self, sentence: str) -> None:
        super().__init__(403, sentence)


def hidden_studies(
    context: Context, user: Annotated[CurrentUser | None, Depends(current_user)]
) -> frozenset[int]:
    """Return the numbers of the studies whose model answer must not be shown to the user."""
    return frozenset() if user is None else CaseReadings(context.engine).hidden_studies(user.name)


Hidden = Annotated[frozenset[int], Depends(hidden_studies)]


def hidden_with_comparisons(context: WebContext, hidden: frozenset[int]) -> frozenset[int]:
    """Return hidden studies with those whose reports say what has changed since one of them."""
    return hidden | CaseReadings(context.engine).compared_with(hidden)


def check_blinding(
    request: Request, context: Context, user: Annotated[CurrentUser | None, Depends(current_user)]
) -> None:
    """Refuse what would show the user an answer of the model that is hidden from them.

    Raises
    ------
    Blinded
        When it is.
    """
    route = getattr(request.scope.get("route"), "path", "")
    of_study = "study_id" in request.path_params or "study" in request.path_params
    if route in FILM_ROUTES or not (of_study or route in JOINED_ROUTES):
        return
    if not (hidden := hidden_studies(context, user)):
        return
    if route in JOINED_ROUTES:
        raise Blinded(_JOINED)
    if route not in MAP_ROUTES:
        hidden = hidden_with_comparisons(context, hidden)
    if _asked_study(request, context) in hidden:
        raise Blinded(_STUDY)


def _asked_study(request: Request, context: WebContext) -> int | None:
    """Return the number of the study that a path names by its number or UID; None when there is none."""
    if (number := request.path_params.get("study_id")) is not None:
        try:
            return _NUMBER.validate_python(number)  # as the route itself does: 1.0 is the study 1
        except ValidationError:
            return None
    query = select(study.c.id).where(study.c.study_instance_uid == request.path_params["study"])
    with database.reading(context.engine) as connection:
        return connection.execute(query).scalar_one_or_none()
