"""REST API of bulk actions: the same done to several studies, each with its own outcome."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Final

from fastapi import APIRouter, Depends, HTTPException
from pydantic import BaseModel, ConfigDict, Field

from dicom_node.web.api.admin_routes import REASON_LENGTH, RetractIn, withdraw_study
from dicom_node.web.api.note_routes import change_tag, sentence
from dicom_node.web.api.parameters import LARGEST_NUMBER
from dicom_node.web.api.schemas import PREFIX, error_responses
from dicom_node.web.api.study_routes import retry_study
from dicom_node.web.blinding import Hidden, hidden_with_comparisons
from dicom_node.web.dependencies import Context, WebContext
from dicom_node.web.notes import TAG_LENGTH, as_tag
from dicom_node.web.request_auth import CurrentUser, Reader, check_csrf, require_reader

router = APIRouter(prefix=PREFIX, dependencies=[Depends(require_reader), Depends(check_csrf)])

MOST_STUDIES: Final = 200
"""Most studies of one request."""


class BulkAction(enum.StrEnum):
    """Action on several studies."""

    RETRY = "retry"
    RETRACT = "retract"
    TAG = "tag"
    UNTAG = "untag"


ADMIN_ACTIONS: Final = frozenset({BulkAction.RETRY, BulkAction.RETRACT})
"""Actions of admins alone."""


class BulkIn(BaseModel):
    """Action and studies; `tag` for ``tag`` and ``untag``, `reason` and `quality` for ``retract``."""

    model_config = ConfigDict(extra="forbid")

    action: BulkAction
    studies: list[Annotated[int, Field(ge=1, le=LARGEST_NUMBER)]] = Field(
        min_length=1, max_length=MOST_STUDIES, description="numbers of the studies in this node"
    )
    tag: str = Field("", max_length=TAG_LENGTH)
    reason: str = Field("", max_length=REASON_LENGTH, description="one sentence")
    quality: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """Outcome of the action on one study; `error` is a sentence, empty when it was done."""

    study: int
    error: str


@router.post("/studies/bulk", responses=error_responses(413, 415, 422))
def bulk(context: Context, user: Reader, hidden: Hidden, said: BulkIn) -> Sequence[Outcome]:
    """Tag or untag studies, or, as an admin, analyse them again or withdraw their results."""
    return act(context, user, hidden, said)


def act(context: WebContext, user: CurrentUser, hidden: frozenset[int], said: BulkIn) -> list[Outcome]:
    """Do the same to several studies; what cannot be done to one of them does not stop the others.

    Raises
    ------
    HTTPException
        403 when the action is not the user's; 422 when the tag is none, or the reason of a withdrawal is
        missing.
    """
    if said.action in ADMIN_ACTIONS and not user.admin:
        raise HTTPException(403)
    if said.action in (BulkAction.TAG, BulkAction.UNTAG):
        try:
            as_tag(said.tag)
        except ValueError as error:
            raise HTTPException(422, sentence(error)) from None
    if said.action is BulkAction.RETRACT and not said.reason.strip():
        raise HTTPException(422, "Give the reason of the withdrawal, in one sentence.")
    withheld = hidden_with_comparisons(context, hidden)
    return [Outcome(each, _done(context, user, each, said, withheld)) for each in dict.fromkeys(said.studies)]


def _done(
    context: WebContext, user: CurrentUser, study_id: int, said: BulkIn, withheld: frozenset[int]
) -> str:
    """Do the action to one study, and return why it was not done, or nothing."""
    if study_id in withheld:
        return "You read this study in a reader study."
    try:
        match said.action:
            case BulkAction.RETRY:
                retry_study(context, user, study_id)
            case BulkAction.RETRACT:
                withdraw_study(context, user, study_id, RetractIn(reason=said.reason, quality=said.quality))
            case BulkAction.TAG | BulkAction.UNTAG:
                change_tag(context, user, study_id, said.tag, given=said.action is BulkAction.TAG)
    except HTTPException as error:
        missing = error.status_code == HTTPStatus.NOT_FOUND
        return "There is no such study." if missing else str(error.detail)
    return ""
