"""Feedback: opinions of readers, one for each finding, analysis and reader; the last one counts."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import delete, select, true

from dicom_node.config.served_models import ModelRole
from dicom_node.results.codes import PRESENCES
from dicom_node.results.report import Code, Presence
from dicom_node.results.sr.feedback import VERDICTS
from dicom_node.runtime import logs
from dicom_node.store import database
from dicom_node.store.tables import feedback, finding, reading, study
from dicom_node.web.fhir import ReadReport, Statement
from dicom_node.web.read_models.worklist_query import OPINION_IS_HELD
from dicom_node.web.spreadsheets import csv_line
from dicom_node.web.templating import iso

COMMENT_LENGTH: Final = 2000
_COLUMNS: Final = (
    "intended_use",
    "study",
    "revision",
    "model",
    "model_version",
    "finding",
    "certainty",
    "score",
    "threshold",
    "presence",
    "reader",
    "verdict",
    "comment",
    "at",
)


class Verdict(enum.StrEnum):
    """Verdict of a reader on a finding."""

    AGREE = "agree"
    DISAGREE = "disagree"
    UNSURE = "unsure"
    NONE = "none"
    """No verdict: a comment alone, or, without a comment, an opinion that was taken back."""


@dataclass(frozen=True, slots=True)
class Opinion:
    """Opinion of one reader on one finding; `at` in seconds since the epoch."""

    key: str
    reader: str
    verdict: Verdict
    comment: str
    at: float


class Feedback(database.Repository):
    """Repository of the opinions."""

    def record(self, reading_id: int, key: str, reader: str, verdict: Verdict, comment: str) -> Opinion:
        """Store an opinion; it replaces an earlier one of the same reader."""
        opinion = Opinion(key, reader, verdict, comment.strip()[:COMMENT_LENGTH], self._clock())
        same = (feedback.c.reading_id == reading_id, feedback.c.key == key, feedback.c.reader == reader)
        with database.writing(self._engine) as connection:
            connection.execute(delete(feedback).where(*same))
            connection.execute(
                feedback.insert().values(
                    reading_id=reading_id,
                    **{name: getattr(opinion, name) for name in Opinion.__slots__},
                )
            )
        return opinion

    def for_reading(self, reading_id: int) -> Mapping[str, list[Opinion]]:
        """Return the opinions on an analysis, by finding, oldest first."""
        columns = [feedback.c[name] for name in Opinion.__slots__]
        found: dict[str, list[Opinion]] = {}
        with database.reading(self._engine) as connection:
            rows = connection.execute(
                select(*columns)
                .where(feedback.c.reading_id == reading_id, OPINION_IS_HELD)
                .order_by(feedback.c.at)
            )
            for key, who, verdict, comment, at in rows:
                found.setdefault(key, []).append(Opinion(key, who, Verdict(verdict), comment, at))
        return found

    def reports(self, names: Mapping[str, Code], *, shadows: bool) -> Iterator[ReadReport]:
        """Yield what each reader says of each analysis, for an export as FHIR.

        Parameters
        ----------
        names
            Code of each finding by its key.
        shadows
            Whether to include opinions on the answers of shadow models.
        """
        found: dict[tuple[str, str, str], list[Statement]] = {}
        for row in self._rows(shadows=shadows):
            occasion = f"feedback on analysis no. {row.revision} by {row.model} {row.model_version}"
            said = Statement(
                key=row.key,
                name=row.name,
                code=names.get(row.key),
                presence=_stated(Verdict(row.verdict), Presence(row.presence)),
                at=row.at,
                comment=row.comment,
                facts={
                    "verdict on the model's answer": VERDICTS.get(row.verdict),
                    "presence by the model": PRESENCES[Presence(row.presence)],
                    "certainty of the model": row.certainty,
                    "score of the model": row.score,
                    "threshold of the model": row.threshold,
                },
            )
            found.setdefault((logs.uid_hash(row.study_instance_uid), row.reader, occasion), []).append(said)
        for (digest, reader, occasion), statements in found.items():
            yield ReadReport(digest, reader, occasion, statements)

    def csv_lines(self, *, shadows: bool) -> Iterator[str]:
        """Yield all opinions with their findings as lines of CSV (RFC 4180), the header line first.

        Parameters
        ----------
        shadows
            Whether to include opinions on the answers of shadow models.
        """
        yield csv_line(_COLUMNS)
        for uid, *rest, at, _name in self._rows(shadows=shadows):
            yield csv_line(("research use only", logs.uid_hash(uid), *rest, iso(at)))

    def _rows(self, *, shadows: bool) -> Sequence[Any]:
        """Return all opinions that stand, each with its finding, in the order of :data:`_COLUMNS`."""
        query = (
            select(
                study.c.study_instance_uid,
                reading.c.revision,
                reading.c.model,
                reading.c.model_version,
                finding.c.key,
                finding.c.certainty,
                finding.c.score,
                finding.c.threshold,
                finding.c.presence,
                feedback.c.reader,
                feedback.c.verdict,
                feedback.c.comment,
                feedback.c.at,
                finding.c.name,
            )
            .join(reading, feedback.c.reading_id == reading.c.id)
            .join(study, reading.c.study_id == study.c.id)
            .join(finding, (finding.c.reading_id == reading.c.id) & (finding.c.key == feedback.c.key))
            .where(OPINION_IS_HELD, true() if shadows else reading.c.role == ModelRole.PRIMARY)
            .order_by(feedback.c.id)
        )
        with database.reading(self._engine) as connection:
            return connection.execute(query).all()


def _stated(verdict: Verdict, by_model: Presence) -> Presence | None:
    """Return the presence that a verdict on the model's answer states; None when it states none."""
    match verdict:
        case Verdict.AGREE:
            return by_model
        case Verdict.UNSURE:
            return Presence.UNDETERMINED
        case Verdict.DISAGREE:
            return {Presence.PRESENT: Presence.ABSENT, Presence.ABSENT: Presence.PRESENT}.get(by_model)
        case Verdict.NONE:
            return None
