"""Study list of a reader study: from a CSV file with optional reference columns, or from the worklist."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Engine

from dicom_node.store.reader_studies import MOST_CASES, InvalidReaderStudy, NewCase
from dicom_node.web.read_models.worklist import read_study_uids
from dicom_node.web.read_models.worklist_query import WorklistQuery

_UID_COLUMN: Final = "studyinstanceuid"
_KEY_LENGTH: Final = 64
_PRESENCE: Final = {"1": True, "0": False}


@dataclass(frozen=True, slots=True)
class StudyList:
    """Cases, and the findings that a reference is known of.

    Attributes
    ----------
    findings
        Names of the findings by their keys, in the order of the columns.
    """

    cases: Sequence[NewCase]
    findings: Mapping[str, str]


def parse_study_list(text: str, known: Mapping[str, str]) -> StudyList:
    """Parse a CSV file: a column Study Instance UID, and one for each finding with 0, 1 or nothing.

    Parameters
    ----------
    text
        The file, with a line of headings. Fields are separated by commas, semicolons or tabs.
    known
        Names of the model's findings by their keys. A column is headed by either; any other heading is a
        finding that the model does not know.

    Raises
    ------
    InvalidReaderStudy
        With the number of the line that is wrong.
    """
    lines = text.lstrip("\ufeff").strip()
    heading = lines.partition("\n")[0]
    separator = max(",;\t", key=heading.count)
    rows = list(csv.reader(io.StringIO(lines), delimiter=separator))
    columns = [each.strip() for each in rows[0]] if rows else []
    uid_columns = [
        number for number, each in enumerate(columns) if re.sub(r"[\W_]", "", each).casefold() == _UID_COLUMN
    ]
    if len(uid_columns) != 1:
        raise InvalidReaderStudy("line 1: name one column Study Instance UID")
    findings = {
        number: _finding(each, known) for number, each in enumerate(columns) if number != uid_columns[0]
    }
    if len({key for key, _ in findings.values()}) < len(findings):
        raise InvalidReaderStudy("line 1: two columns are for the same finding")
    cases = [
        _case(number, row, len(columns), uid_columns[0], findings)
        for number, row in enumerate(rows[1:], 2)
        if any(each.strip() for each in row)
    ]
    return StudyList(cases, dict(findings.values()))


def worklist_studies(engine: Engine, query: WorklistQuery) -> StudyList:
    """Return the studies of a worklist's filter that have films; no reference is known of them.

    Raises
    ------
    InvalidReaderStudy
        When they are more than a reader study may have.
    """
    uids = read_study_uids(engine, query, MOST_CASES + 1)
    if len(uids) > MOST_CASES:
        raise InvalidReaderStudy(f"the list has more than {MOST_CASES} studies; filter it first")
    return StudyList([NewCase(uid, {}) for uid in uids], {})


def _finding(heading: str, known: Mapping[str, str]) -> tuple[str, str]:
    """Return key and name of the finding that heads a column."""
    wanted = heading.casefold()
    for key, name in known.items():
        if wanted in (key, name.casefold()):
            return key, name
    key = re.sub(r"[^a-z0-9]+", "_", wanted).strip("_")
    if not 0 < len(key) <= _KEY_LENGTH:
        raise InvalidReaderStudy(f"line 1: {heading!r} cannot be the name of a finding")
    return key, " ".join(heading.split())


def _case(
    number: int, row: Sequence[str], width: int, uid_column: int, findings: Mapping[int, tuple[str, str]]
) -> NewCase:
    if len(row) != width:
        raise InvalidReaderStudy(f"line {number}: {len(row)} fields, and the first line has {width}")
    uid = row[uid_column].strip()
    if not re.fullmatch(r"[0-9.]{1,64}", uid):
        raise InvalidReaderStudy(f"line {number}: not a Study Instance UID")
    reference = {}
    for column, (key, name) in findings.items():
        if (said := row[column].strip()) == "":
            continue
        if said not in _PRESENCE:
            raise InvalidReaderStudy(f"line {number}: {name} must be 0, 1 or empty")
        reference[key] = _PRESENCE[said]
    return NewCase(uid, reference)
