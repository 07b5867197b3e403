"""REST API of notes and tags: what readers write on a study, apart from its findings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Path
from pydantic import BaseModel, ConfigDict, Field

from dicom_node.web.api.parameters import LARGEST_NUMBER, StudyNumber, study_or_404
from dicom_node.web.api.schemas import PREFIX, error_responses
from dicom_node.web.dependencies import Context, WebContext
from dicom_node.web.notes import NOTE_LENGTH, TAG_LENGTH, Note, Tag
from dicom_node.web.request_auth import CurrentUser, Reader, check_csrf, require_reader

router = APIRouter(prefix=PREFIX, dependencies=[Depends(require_reader), Depends(check_csrf)])

TagWord = Annotated[str, Path(min_length=1, max_length=TAG_LENGTH, description="one word")]
NoteNumber = Annotated[int, Path(ge=1, le=LARGEST_NUMBER, description="number of the note")]


@dataclass(frozen=True, slots=True)
class Written:
    """Notes and tags of one study; times in seconds since the epoch."""

    tags: Sequence[Tag]
    notes: Sequence[Note]


class NoteIn(BaseModel):
    """Note on a study."""

    model_config = ConfigDict(extra="forbid")

    text: str = Field(min_length=1, max_length=NOTE_LENGTH, pattern=r"\S")


@router.get("/tags", responses=error_responses())
def tags(context: Context) -> Sequence[str]:
    """List the tags that studies of this node have."""
    return context.notes.all_tags()


@router.get("/studies/{study_id}/notes", responses=error_responses(404))
def written(context: Context, _user: Reader, study_id: StudyNumber) -> Written:
    """Return the notes and tags of a study."""
    study_or_404(context, study_id)
    return Written(context.notes.tags_of(study_id), context.notes.notes_of(study_id))


@router.put("/studies/{study_id}/tags/{tag}", responses=error_responses(404, 422))
def tag_study(context: Context, user: Reader, study_id: StudyNumber, tag: TagWord) -> Written:
    """Give a study a tag; 422 when it is no single word."""
    change_tag(context, user, study_id, tag, given=True)
    return written(context, user, study_id)


@router.delete("/studies/{study_id}/tags/{tag}", responses=error_responses(404, 422))
def untag_study(context: Context, user: Reader, study_id: StudyNumber, tag: TagWord) -> Written:
    """Take a tag back from a study."""
    change_tag(context, user, study_id, tag, given=False)
    return written(context, user, study_id)


@router.post("/studies/{study_id}/notes", status_code=201, responses=error_responses(404, 413, 415))
def write_note(context: Context, user: Reader, study_id: StudyNumber, said: NoteIn) -> Note:
    """Write a note on a study."""
    study_or_404(context, study_id)
    context.access_log.record(user.name, user.address, "note", study_id, always=True)
    return context.notes.write(study_id, user.name, said.text)


@router.delete("/studies/{study_id}/notes/{note}", responses=error_responses(404))
def take_note_back(context: Context, user: Reader, study_id: StudyNumber, note: NoteNumber) -> Written:
    """Take your note back, or as an admin anybody's; 404 when there is none."""
    remove_note(context, user, study_id, note)
    return written(context, user, study_id)


def change_tag(context: WebContext, user: CurrentUser, study_id: int, word: str, *, given: bool) -> None:
    """Give a tag to a study, or take it back.

    Raises
    ------
    HTTPException
        404 when there is no such study, 422 when the word is no tag.
    """
    study_or_404(context, study_id)
    try:
        (context.notes.tag if given else context.notes.untag)([study_id], word, user.name)
    except ValueError as error:
        raise HTTPException(422, sentence(error)) from None
    context.access_log.record(user.name, user.address, "tag", study_id, always=True)


def remove_note(context: WebContext, user: CurrentUser, study_id: int, note: int) -> None:
    """Take a note back: one's own, or as an admin anybody's.

    Raises
    ------
    HTTPException
        404 when there is no such note.
    """
    if not context.notes.take_back(study_id, note, None if user.admin else user.name):
        raise HTTPException(404)
    context.access_log.record(user.name, user.address, "note", study_id, always=True)


def sentence(error: Exception) -> str:
    """Return the text of an error as a sentence for readers."""
    return f"{str(error)[:1].upper()}{str(error)[1:]}."
