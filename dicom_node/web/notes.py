"""Notes and tags of readers on studies: a tag is one short word, a note is free text."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, select, update

from dicom_node.store import database
from dicom_node.store.tables import study_note, study_tag

NOTE_LENGTH: Final = 2000
TAG_LENGTH: Final = 32
TAG_PATTERN: Final = rf"^\w[\w.-]{{0,{TAG_LENGTH - 1}}}$"
"""Tag: one word of letters, digits, ``_``, ``.`` and ``-``."""


@dataclass(frozen=True, slots=True)
class Tag:
    """Tag of a study, and who gave it when; `at` in seconds since the epoch."""

    tag: str
    reader: str
    at: float


@dataclass(frozen=True, slots=True)
class Note:
    """Note on a study, and who wrote it when; `at` in seconds since the epoch."""

    id: int
    reader: str
    text: str
    at: float


def as_tag(word: str) -> str:
    """Return a tag as it is stored: without blanks around it, in lower case.

    Raises
    ------
    ValueError
        When it is no such word.
    """
    tag = word.strip().lower()
    if not re.fullmatch(TAG_PATTERN, tag):
        raise ValueError(
            f"a tag is one word of at most {TAG_LENGTH} letters, digits, hyphens, dots and underscores"
        )
    return tag


class Notes(database.Repository):
    """Repository of notes and tags."""

    def tag(self, study_ids: Iterable[int], word: str, reader: str) -> None:
        """Give a tag to studies; one that a study has already stays as it was given.

        Raises
        ------
        ValueError
            When `word` is no tag.
        """
        tag, numbers = as_tag(word), list(study_ids)
        with contextlib.suppress(database.KeyConflict):  # another reader gave it at the same moment
            self._give(numbers, tag, reader)
            return
        self._give(numbers, tag, reader)

    def _give(self, study_ids: Sequence[int], tag: str, reader: str) -> None:
        with database.writing(self._engine) as connection:
            for study_id in study_ids:
                row = {"reader": reader, "at": self._clock(), "held": True}
                known = self._held(connection, study_id, tag)
                if known is None:
                    connection.execute(study_tag.insert().values(study_id=study_id, tag=tag, **row))
                elif not known:
                    self._set(connection, study_id, tag, row)

    def untag(self, study_ids: Iterable[int], word: str, reader: str) -> None:
        """Take a tag back from studies.

        Raises
        ------
        ValueError
            When `word` is no tag.
        """
        tag = as_tag(word)
        with database.writing(self._engine) as connection:
            for study_id in study_ids:
                if self._held(connection, study_id, tag):
                    row = {"reader": reader, "at": self._clock(), "held": False}
                    self._set(connection, study_id, tag, row)

    @staticmethod
    def _held(connection: Connection, study_id: int, tag: str) -> bool | None:
        """Whether a study has a tag; None when it never had it."""
        query = select(study_tag.c.held).where(study_tag.c.study_id == study_id, study_tag.c.tag == tag)
        held: bool | None = connection.execute(query).scalar_one_or_none()
        return held

    @staticmethod
    def _set(connection: Connection, study_id: int, tag: str, row: Mapping[str, object]) -> None:
        same = (study_tag.c.study_id == study_id, study_tag.c.tag == tag)
        connection.execute(update(study_tag).where(*same).values(**row))

    def write(self, study_id: int, reader: str, text: str) -> Note:
        """Store a note.

        Raises
        ------
        ValueError
            When it is empty.
        """
        said = text.replace("\0", " ").strip()[:NOTE_LENGTH]
        if not said:
            raise ValueError("a note needs a text")
        at = self._clock()
        with database.writing(self._engine) as connection:
            key = connection.execute(
                study_note.insert().values(study_id=study_id, reader=reader, text=said, at=at)
            ).inserted_primary_key
        assert key is not None
        return Note(key[0], reader, said, at)

    def take_back(self, study_id: int, note: int, reader: str | None) -> bool:
        """Remove the text of a note; return False when there is no such note of this reader.

        Parameters
        ----------
        reader
            Its author; None for a note of anybody.
        """
        conditions = [study_note.c.id == note, study_note.c.study_id == study_id, study_note.c.text != ""]
        if reader is not None:
            conditions.append(study_note.c.reader == reader)
        with database.writing(self._engine) as connection:
            done = connection.execute(update(study_note).where(*conditions).values(text="", at=self._clock()))
        return done.rowcount > 0

    def tags_of(self, study_id: int) -> list[Tag]:
        """Return the tags of a study, by name."""
        query = (
            select(study_tag.c.tag, study_tag.c.reader, study_tag.c.at)
            .where(study_tag.c.study_id == study_id, study_tag.c.held)
            .order_by(study_tag.c.tag)
        )
        with database.reading(self._engine) as connection:
            return [Tag(*row) for row in connection.execute(query)]

    def notes_of(self, study_id: int) -> list[Note]:
        """Return the notes on a study, oldest first."""
        query = (
            select(study_note.c.id, study_note.c.reader, study_note.c.text, study_note.c.at)
            .where(study_note.c.study_id == study_id, study_note.c.text != "")
            .order_by(study_note.c.id)
        )
        with database.reading(self._engine) as connection:
            return [Note(*row) for row in connection.execute(query)]

    def all_tags(self) -> list[str]:
        """Return every tag that a study has, by name."""
        query = select(study_tag.c.tag).where(study_tag.c.held).distinct().order_by(study_tag.c.tag)
        with database.reading(self._engine) as connection:
            return list(connection.execute(query).scalars())
