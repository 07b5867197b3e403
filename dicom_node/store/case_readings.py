"""Case readings: what readers of reader studies are shown and answer, and what is hidden from them."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, and_, delete, exists, func, select, update

from dicom_node.store import database
from dicom_node.store.reader_studies import Case, InvalidReaderStudy, ReaderStudies, ReaderStudy, is_reader
from dicom_node.store.tables import (
    case_answer,
    case_box,
    case_reading,
    prior,
    reader_study,
    reader_study_case,
    study,
)

COMMENT_LENGTH: Final = 2000
MOST_CONFIDENT: Final = 100


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer of a reader for one finding.

    Attributes
    ----------
    confidence
        Confidence in the answer, 0 to 100.
    """

    present: bool
    confidence: int

    @property
    def rating(self) -> int:
        """Rating of the finding, -100 (surely absent) to 100 (surely present)."""
        return self.confidence if self.present else -self.confidence


@dataclass(frozen=True, slots=True)
class CaseReading:
    """Case as one reader reads it; times in seconds since the epoch.

    Attributes
    ----------
    aided
        Whether the model's answer is shown.
    answered_at
        None until the reader has answered.
    visible_seconds
        Time that the page was visible until the answer, as the browser says.
    answers
        Answers by the key of the finding; empty until the reader has answered.
    """

    id: int
    case_id: int
    reader: str
    aided: bool
    displayed_at: float
    answered_at: float | None
    visible_seconds: float | None
    comment: str
    answers: Mapping[str, Answer]

    @property
    def seconds(self) -> float | None:
        """Time from the first display to the answer, as the node measures it; None without an answer."""
        return None if self.answered_at is None else max(0.0, self.answered_at - self.displayed_at)


@dataclass(frozen=True, slots=True)
class Turn:
    """Case reading that is the reader's next; `number` of `total`, counted from 1."""

    case: Case
    aided: bool
    number: int
    total: int


class CaseReadings(database.Repository):
    """Repository of the case readings."""

    def readings(self, found: ReaderStudy, reader: str | None = None) -> list[CaseReading]:
        """Return the case readings of a reader study, in the order of their first display."""
        of_study = reader_study_case.c.reader_study_id == found.id
        joined = case_reading.join(reader_study_case, reader_study_case.c.id == case_reading.c.case_id)
        whose = of_study if reader is None else and_(of_study, case_reading.c.reader == reader)
        query = select(case_reading).select_from(joined).where(whose)
        answered = (
            select(case_answer)
            .select_from(joined.join(case_answer, case_answer.c.case_reading_id == case_reading.c.id))
            .where(whose)
        )
        answers: dict[int, dict[str, Answer]] = {}
        with database.reading(self._engine) as connection:
            ordered = query.order_by(case_reading.c.displayed_at, case_reading.c.id)
            rows = connection.execute(ordered).mappings().all()
            for reading_id, key, present, confidence in connection.execute(answered):
                answers.setdefault(reading_id, {})[key] = Answer(present, confidence)
        return [CaseReading(**row, answers=answers.get(row["id"], {})) for row in rows]

    def progress(self, found: ReaderStudy) -> dict[str, int]:
        """Return the number of answered case readings by reader."""
        query = (
            select(case_reading.c.reader, func.count())
            .join(reader_study_case, reader_study_case.c.id == case_reading.c.case_id)
            .where(reader_study_case.c.reader_study_id == found.id, case_reading.c.answered_at.is_not(None))
            .group_by(case_reading.c.reader)
        )
        with database.reading(self._engine) as connection:
            counts = database.as_mapping(connection, query)
        return {each: counts.get(each, 0) for each in found.readers}

    def next_turn(self, found: ReaderStudy, reader: str) -> Turn | None:
        """Return what a reader is to read next; None when there is nothing left."""
        answered = {
            (each.case_id, each.aided)
            for each in self.readings(found, reader)
            if each.answered_at is not None
        }
        order = reading_order(found, ReaderStudies(self._engine).cases(found), reader)
        for case, aided in order:
            if (case.id, aided) not in answered:
                return Turn(case, aided, len(answered) + 1, len(order))
        return None

    def display(self, turn: Turn, reader: str) -> CaseReading:
        """Record that a case is displayed to a reader; only the first time counts."""
        same = and_(
            case_reading.c.case_id == turn.case.id,
            case_reading.c.reader == reader,
            case_reading.c.aided == turn.aided,
        )
        values = {
            "case_id": turn.case.id,
            "reader": reader,
            "aided": turn.aided,
            "displayed_at": self._clock(),
        }
        # Another window of the reader may insert the row first.
        with contextlib.suppress(database.KeyConflict), database.writing(self._engine) as connection:
            if not connection.execute(select(case_reading.c.id).where(same)).first():
                connection.execute(case_reading.insert().values(**values))
        with database.reading(self._engine) as connection:
            row = connection.execute(select(case_reading).where(same)).mappings().one()
        return CaseReading(**row, answers={})

    def answer(
        self,
        found: ReaderStudy,
        reading_id: int,
        reader: str,
        answers: Mapping[str, Answer],
        *,
        comment: str = "",
        visible_seconds: float | None = None,
    ) -> None:
        """Store the answers of a reader to a displayed case; they cannot be changed afterwards.

        Boxes around what is answered as absent are removed.

        Raises
        ------
        InvalidReaderStudy
            When the reader study is closed, the case was not displayed to the reader or has been answered, or
            not exactly its findings are answered.
        """
        if set(answers) != set(found.findings):
            raise InvalidReaderStudy("answer for every finding, absent or present")
        if not all(0 <= each.confidence <= MOST_CONFIDENT for each in answers.values()):
            raise InvalidReaderStudy("a confidence is a whole number from 0 to 100")
        with database.writing(self._engine) as connection:
            check_open(connection, found, reading_id, reader)
            absent = [key for key, each in answers.items() if not each.present]
            connection.execute(
                delete(case_box).where(case_box.c.case_reading_id == reading_id, case_box.c.key.in_(absent))
            )
            connection.execute(
                update(case_reading)
                .where(case_reading.c.id == reading_id)
                .values(
                    answered_at=self._clock(),
                    visible_seconds=visible_seconds,
                    comment=comment.strip()[:COMMENT_LENGTH],
                )
            )
            connection.execute(
                case_answer.insert(),
                [
                    {
                        "case_reading_id": reading_id,
                        "key": key,
                        "present": each.present,
                        "confidence": each.confidence,
                    }
                    for key, each in answers.items()
                ],
            )

    def studies_of(self, reader_study_id: int) -> frozenset[int]:
        """Return the numbers of the studies that are cases of a reader study."""
        query = select(reader_study_case.c.study_id).where(
            reader_study_case.c.reader_study_id == reader_study_id
        )
        with database.reading(self._engine) as connection:
            return frozenset(connection.execute(query).scalars())

    def hidden_studies(self, reader: str) -> frozenset[int]:
        """Return the numbers of the studies whose model answer must not be shown to a reader.

        These are the cases of their open reader studies, but for those that have been displayed to them for
        an aided reading.
        """
        displayed = exists().where(
            case_reading.c.case_id == reader_study_case.c.id,
            case_reading.c.reader == reader,
            case_reading.c.aided,
        )
        query = (
            select(reader_study_case.c.study_id)
            .join(reader_study, reader_study.c.id == reader_study_case.c.reader_study_id)
            .where(
                is_reader(reader),
                reader_study.c.closed_at.is_(None),
                ~displayed.correlate(reader_study_case),
            )
        )
        with database.reading(self._engine) as connection:
            return frozenset(connection.execute(query).scalars())

    def compared_with(self, study_ids: Collection[int]) -> frozenset[int]:
        """Return the numbers of the studies whose reports compare them with one of these as their prior."""
        if not study_ids:
            return frozenset()
        query = (
            select(prior.c.study_id)
            .join(study, study.c.study_instance_uid == prior.c.prior_uid)
            .where(study.c.id.in_(study_ids))
        )
        with database.reading(self._engine) as connection:
            return frozenset(connection.execute(query).scalars())


def check_open(connection: Connection, found: ReaderStudy, reading_id: int, reader: str) -> None:
    """Check that a reader may answer a case reading now, and lock it until the end of the transaction.

    Raises
    ------
    InvalidReaderStudy
        When the reader study is closed, the case was not displayed to the reader, or has been answered.
    """
    asked = connection.execute(
        select(case_reading.c.answered_at, reader_study.c.closed_at)
        .join(reader_study_case, reader_study_case.c.id == case_reading.c.case_id)
        .join(reader_study, reader_study.c.id == reader_study_case.c.reader_study_id)
        .where(
            case_reading.c.id == reading_id,
            case_reading.c.reader == reader,
            reader_study.c.id == found.id,
        )
        .with_for_update(of=case_reading)
    ).first()
    if asked is None:
        raise InvalidReaderStudy("this case was not displayed to you; open the reader study again")
    if asked.closed_at is not None:
        raise InvalidReaderStudy("the reader study is closed; it takes no more answers")
    if asked.answered_at is not None:
        raise InvalidReaderStudy("you have answered this case; answers cannot be changed")


def reading_order(found: ReaderStudy, cases: Sequence[Case], reader: str) -> list[tuple[Case, bool]]:
    """Return all case readings of a reader in their order, each with whether it is aided.

    In each session the cases are sorted by the SHA-256 of seed, reader, session and Study Instance UID: an
    order that anybody can compute again, and that differs between readers and sessions.
    """
    order = []
    for session, aids in enumerate(found.design.sessions):

        def place(case: Case, session: int = session) -> bytes:
            words = f"{found.seed}\n{reader}\n{session}\n{case.study_instance_uid}"
            return hashlib.sha256(words.encode()).digest()

        order += [(case, aided) for case in sorted(cases, key=place) for aided in aids]
    return order
