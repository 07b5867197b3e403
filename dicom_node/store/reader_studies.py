"""Reader studies: several readers answer for the same findings on the same studies.

A *case* is a study within a reader study; a *case reading* (:mod:`dicom_node.store.case_readings`) is one
case as one reader reads it. The model's answer of a case is that of the latest analysis when the reader study
was made, so that all readers see the same one.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, exists, func, select, update

from dicom_node.errors import NodeError
from dicom_node.store import database
from dicom_node.store.analysis_records import FindingRecord
from dicom_node.store.tables import (
    finding,
    reader_study,
    reader_study_case,
    reader_study_finding,
    reader_study_reader,
    reader_study_reference,
    reading,
    study,
)

NAME_LENGTH: Final = 128
MOST_CASES: Final = 5000
MOST_FINDINGS: Final = 20
MOST_READERS: Final = 50


class Design(enum.StrEnum):
    """Design of a reader study: in which readings of a case the model's answer is shown."""

    UNAIDED = "unaided"  # in none
    AIDED = "aided"  # in the only one
    SEQUENTIAL = "sequential"  # each case without it, and at once again with it
    CROSSOVER = "crossover"  # all cases without it, and then all again with it

    @property
    def sessions(self) -> Sequence[Sequence[bool]]:
        """Sessions, each one pass through the cases: for each of a case's readings whether it is aided."""
        return {
            Design.UNAIDED: ((False,),),
            Design.AIDED: ((True,),),
            Design.SEQUENTIAL: ((False, True),),
            Design.CROSSOVER: ((False,), (True,)),
        }[self]

    @property
    def has_model(self) -> bool:
        """True when some readings are aided."""
        return self is not Design.UNAIDED

    @property
    def is_blinded(self) -> bool:
        """True when some readings are unaided."""
        return self is not Design.AIDED


class InvalidReaderStudy(NodeError):
    """Error of a reader study that cannot be made, or of an answer that it does not take."""


@dataclass(frozen=True, slots=True)
class NewCase:
    """Case of a reader study that is to be made.

    Attributes
    ----------
    reference
        Whether a finding is present by the reference standard, by its key; without those that are not known.
    """

    study_instance_uid: str
    reference: Mapping[str, bool]


@dataclass(frozen=True, slots=True)
class ReaderStudy:
    """One reader study; times in seconds since the epoch.

    Attributes
    ----------
    findings
        Names of the findings by their keys.
    readers
        Names of the accounts.
    cases
        Number of cases.
    closed_at
        Time when an admin closed it; None while readers may answer.
    boxes
        Whether readers may draw a box around what they find.
    """

    id: int
    name: str
    design: Design
    seed: int
    made_by: str
    made_at: float
    closed_at: float | None
    findings: Mapping[str, str]
    readers: Sequence[str]
    cases: int
    boxes: bool = False

    @property
    def readings_each(self) -> int:
        """Number of case readings that each reader is asked for."""
        return self.cases * sum(map(len, self.design.sessions))


@dataclass(frozen=True, slots=True)
class Case:
    """Study within a reader study.

    Attributes
    ----------
    reference
        As for :class:`NewCase`.
    """

    id: int
    study_id: int
    study_instance_uid: str
    reading_id: int | None
    reference: Mapping[str, bool]


class ReaderStudies(database.Repository):
    """Repository of the reader studies."""

    def add(
        self,
        name: str,
        design: Design,
        *,
        findings: Mapping[str, str],
        readers: Sequence[str],
        cases: Sequence[NewCase],
        seed: int,
        made_by: str,
        boxes: bool = False,
    ) -> int:
        """Make a reader study, pin its studies, and return its number.

        Parameters
        ----------
        findings
            Names of the findings by their keys, in the order in which they are asked for.
        boxes
            Whether readers may draw a box around what they find.

        Raises
        ------
        InvalidReaderStudy
            When a part is missing or too large, the name is taken, or a study is unknown or named twice.
        """
        name = name.strip()
        _check(name, findings, readers, cases)
        with database.writing(self._engine) as connection:
            if connection.execute(select(reader_study.c.id).where(reader_study.c.name == name)).first():
                raise InvalidReaderStudy(f"a reader study {name!r} already exists; choose another name")
            known = _analyses(connection, [each.study_instance_uid for each in cases])
            if missing := [uid for each in cases if (uid := each.study_instance_uid) not in known]:
                raise InvalidReaderStudy(
                    f"{len(missing)} of {len(cases)} studies are not on this node, the first: {missing[0]}"
                )
            key = _insert(
                connection,
                reader_study,
                {
                    "name": name,
                    "design": design,
                    "seed": seed,
                    "made_by": made_by,
                    "made_at": self._clock(),
                    "boxes": boxes,
                },
            )
            connection.execute(
                reader_study_finding.insert(),
                [
                    {"reader_study_id": key, "key": each, "position": position, "name": findings[each]}
                    for position, each in enumerate(findings)
                ],
            )
            connection.execute(
                reader_study_reader.insert(),
                [{"reader_study_id": key, "reader": each} for each in dict.fromkeys(readers)],
            )
            for each in cases:
                study_id, reading_id = known[each.study_instance_uid]
                row = {"reader_study_id": key, "study_id": study_id, "reading_id": reading_id}
                case_id = _insert(connection, reader_study_case, row)
                reference = [
                    {"case_id": case_id, "key": finding_key, "present": present}
                    for finding_key, present in each.reference.items()
                    if finding_key in findings
                ]
                if reference:
                    connection.execute(reader_study_reference.insert(), reference)
            # A film that is purged can be read by nobody.
            named = study.c.id.in_([study_id for study_id, _ in known.values()])
            connection.execute(
                update(study).where(named, study.c.pinned_at.is_(None)).values(pinned_at=self._clock())
            )
        return key

    def all(self, reader: str | None = None) -> list[ReaderStudy]:
        """Return the reader studies, the newest first; with `reader` only those of that reader."""
        query = select(reader_study).order_by(reader_study.c.id.desc())
        if reader is not None:
            query = query.where(is_reader(reader))
        with database.reading(self._engine) as connection:
            return [_read(connection, row) for row in connection.execute(query).all()]

    def find(self, reader_study_id: int) -> ReaderStudy | None:
        """Return a reader study; None when there is none of this number."""
        query = select(reader_study).where(reader_study.c.id == reader_study_id)
        with database.reading(self._engine) as connection:
            row = connection.execute(query).first()
            return None if row is None else _read(connection, row)

    def cases(self, found: ReaderStudy) -> list[Case]:
        """Return the cases of a reader study, in the order in which they were given."""
        query = (
            select(reader_study_case, study.c.study_instance_uid)
            .join(study, study.c.id == reader_study_case.c.study_id)
            .where(reader_study_case.c.reader_study_id == found.id)
            .order_by(reader_study_case.c.id)
        )
        known = (
            select(reader_study_reference)
            .join(reader_study_case, reader_study_case.c.id == reader_study_reference.c.case_id)
            .where(reader_study_case.c.reader_study_id == found.id)
        )
        reference: dict[int, dict[str, bool]] = {}
        with database.reading(self._engine) as connection:
            rows = connection.execute(query).all()
            for case_id, key, present in connection.execute(known):
                reference.setdefault(case_id, {})[key] = present
        return [
            Case(row.id, row.study_id, row.study_instance_uid, row.reading_id, reference.get(row.id, {}))
            for row in rows
        ]

    def model_answers(self, cases: Iterable[Case]) -> dict[int, dict[str, FindingRecord]]:
        """Return the model's answers by case and by the key of the finding."""
        by_reading = {each.reading_id: each.id for each in cases if each.reading_id is not None}
        columns = [finding.c[name] for name in FindingRecord.__slots__]
        query = select(finding.c.reading_id, *columns).where(finding.c.reading_id.in_(by_reading))
        found: dict[int, dict[str, FindingRecord]] = {}
        with database.reading(self._engine) as connection:
            for reading_id, *entry in connection.execute(query):
                record = FindingRecord(*entry)
                found.setdefault(by_reading[reading_id], {})[record.key] = record
        return found

    def close(self, reader_study_id: int) -> None:
        """End a reader study: it takes no more answers, and hides nothing any more."""
        with database.writing(self._engine) as connection:
            connection.execute(
                update(reader_study)
                .where(reader_study.c.id == reader_study_id, reader_study.c.closed_at.is_(None))
                .values(closed_at=self._clock())
            )


def is_reader(reader: str) -> ColumnElement[bool]:
    """Return the SQL condition that somebody is a reader of a reader study."""
    among = exists().where(
        reader_study_reader.c.reader_study_id == reader_study.c.id, reader_study_reader.c.reader == reader
    )
    return among.correlate(reader_study)


def _check(name: str, findings: Mapping[str, str], readers: Sequence[str], cases: Sequence[NewCase]) -> None:
    if not 0 < len(name) <= NAME_LENGTH or not name.isprintable():
        raise InvalidReaderStudy(f"give the reader study a name of 1 to {NAME_LENGTH} printable characters")
    for what, given, most in (
        ("finding", findings, MOST_FINDINGS),
        ("reader", readers, MOST_READERS),
        ("study", cases, MOST_CASES),
    ):
        if not 0 < len(given) <= most:
            raise InvalidReaderStudy(
                f"choose at least one {what}, and at most {most}; there are {len(given)}"
            )
    times = Counter(each.study_instance_uid for each in cases)
    if twice := next((uid for uid, count in times.items() if count > 1), None):
        raise InvalidReaderStudy(f"the study {twice} is named twice")


def _read(connection: Connection, row: Any) -> ReaderStudy:
    findings = (
        select(reader_study_finding.c.key, reader_study_finding.c.name)
        .where(reader_study_finding.c.reader_study_id == row.id)
        .order_by(reader_study_finding.c.position)
    )
    readers = (
        select(reader_study_reader.c.reader)
        .where(reader_study_reader.c.reader_study_id == row.id)
        .order_by(reader_study_reader.c.reader)
    )
    count = select(func.count()).where(reader_study_case.c.reader_study_id == row.id)
    return ReaderStudy(
        row.id,
        row.name,
        Design(row.design),
        row.seed,
        row.made_by,
        row.made_at,
        row.closed_at,
        database.as_mapping(connection, findings),
        connection.execute(readers).scalars().all(),
        connection.execute(count.select_from(reader_study_case)).scalar_one(),
        row.boxes,
    )


def _analyses(connection: Connection, uids: Sequence[str]) -> dict[str, tuple[int, int | None]]:
    """Return the number of each known study, and of its latest analysis, by Study Instance UID."""
    newest = (
        select(reading.c.study_id, func.max(reading.c.id).label("reading_id"))
        .where(reading.c.position == 0)
        .group_by(reading.c.study_id)
        .subquery()
    )
    found: dict[str, tuple[int, int | None]] = {}
    for start in range(0, len(uids), 500):
        rows = connection.execute(
            select(study.c.study_instance_uid, study.c.id, newest.c.reading_id)
            .outerjoin(newest, newest.c.study_id == study.c.id)
            .where(study.c.study_instance_uid.in_(uids[start : start + 500]))
        )
        found |= {uid: (study_id, reading_id) for uid, study_id, reading_id in rows}
    return found


def _insert(connection: Connection, table: Any, values: Mapping[str, object]) -> int:
    key = connection.execute(table.insert().values(**values)).inserted_primary_key
    return int(key[0])  # type: ignore[index]
