"""Table of scores: a row for each finding of each study, written as CSV or Parquet while studies are read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dicom_node.analysis.finding_columns import FINDING_COLUMNS
from dicom_node.analysis.table_files import (
    TableColumn,
    TableWriter,
    opened_csv,
    opened_parquet,
    read_csv,
    read_parquet,
)
from dicom_node.errors import ConfigurationError

if TYPE_CHECKING:
    from dicom_node.analysis.studies import StudyFilms
    from worker.study_reader import StudyAnalysis

COLUMNS: Final = (
    TableColumn("study_instance_uid", "text", "Study Instance UID (0020,000D)"),
    TableColumn("patient_id", "text", "Patient ID (0010,0020) of the first film"),
    TableColumn("accession_number", "text", "Accession Number (0008,0050) of the first film"),
    TableColumn("study_date", "text", "Study Date (0008,0020) of the first film, YYYYMMDD"),
    TableColumn("film", "text", "file of the first film, as it was named"),
    TableColumn("films", "whole", "number of files of the study"),
    TableColumn(
        "state",
        "text",
        "REPORTED; or SKIPPED, FAILED or, of a file that is no film, UNREADABLE, with a reason and one row "
        "without a finding",
    ),
    TableColumn("reason", "text", "why the study or file was not read"),
    TableColumn("model", "text", "name of the bundle"),
    TableColumn("model_version", "text", "version of the bundle"),
    *FINDING_COLUMNS,
)
"""Columns of the table."""

_REPORTED: Final = "REPORTED"
_UNREADABLE: Final = "UNREADABLE"
"""State of a file that belongs to no study."""


def score_rows(films: StudyFilms, analysis: StudyAnalysis) -> list[dict[str, Any]]:
    """Return the rows of a study; a value that is missing is None or left out."""
    from dicom_node.imaging import attributes
    from dicom_node.results.report import Presence

    report = analysis.report
    study: dict[str, Any] = {
        "study_instance_uid": films.study_instance_uid,
        "film": films.names[0],
        "films": len(films.paths) or 1,
        "state": str(analysis.state),
        "reason": analysis.reason or None,
    }
    if report:
        header = report.sources[0].header
        study |= {
            "patient_id": attributes.whole_text(header, "PatientID") or None,
            "accession_number": attributes.whole_text(header, "AccessionNumber") or None,
            "study_date": attributes.text(header, "StudyDate") or None,
        }
    if report and report.algorithm:
        study |= {"model": report.algorithm.name, "model_version": report.algorithm.version}
    rows = []
    for entry in report.findings if report else ():
        low, high = entry.interval or (None, None)
        rows.append(
            study
            | {
                "finding": entry.key,
                "name": entry.name,
                "score": entry.score,
                "certainty": entry.certainty,
                "low": low,
                "high": high,
                "threshold": entry.threshold,
                "presence": entry.presence.value,
                "above": entry.presence is Presence.PRESENT,
            }
        )
    return rows or [study]


def unreadable_rows(reasons: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the rows of files that could not be read, from the reason for each."""
    return [
        {"film": name, "films": 1, "state": _UNREADABLE, "reason": reason} for name, reason in reasons.items()
    ]


class ScoreTables:
    """Tables of scores that grow study by study.

    Attributes
    ----------
    done
        States by Study Instance UID of the studies that every table held when it was opened.
    """

    def __init__(self) -> None:
        self.done: dict[str, str] = {}
        self._tables: list[tuple[TableWriter, dict[str, str]]] = []

    def open_with(self, writer: TableWriter, held: dict[str, str]) -> None:
        """Add a table, which holds some studies already."""
        self.done = {uid: state for uid, state in held.items() if not self._tables or uid in self.done}
        self._tables.append((writer, held))

    def add(self, films: StudyFilms, analysis: StudyAnalysis) -> None:
        """Write the rows of a study into every table that does not hold it.

        Raises
        ------
        NodeError
            If a table cannot be written.
        """
        rows: list[dict[str, Any]] = []
        for writer, held in self._tables:
            if films.study_instance_uid not in held:
                rows = rows or score_rows(films, analysis)
                writer.write(rows)

    def add_unreadable(self, reasons: Mapping[str, str]) -> None:
        """Write a row for each file that could not be read.

        Raises
        ------
        NodeError
            If a table cannot be written.
        """
        for writer, _ in self._tables:
            writer.write(unreadable_rows(reasons))


@contextmanager
def opened_tables(
    csv: Path | None, parquet: Path | None, *, findings: int, model: tuple[str, str], resume: bool
) -> Iterator[ScoreTables]:
    """Open tables of scores for writing.

    A study that an interrupted run left in parts is dropped, so that it is read again; so is a file that
    could not be read.

    Parameters
    ----------
    csv, parquet
        Files; None for none.
    findings
        Number of findings of the bundle, by which a whole study is known.
    model
        Name and version of the bundle.
    resume
        True to go on with tables that are there; False to write them anew.

    Raises
    ------
    ConfigurationError
        If a table that is to be continued has scores of another bundle.
    NodeError
        If a table cannot be read or written.
    """
    tables = ScoreTables()
    with ExitStack() as stack:
        if csv is not None:
            known = csv.exists() and csv.stat().st_size > 0 if resume else False
            held = _kept_csv(csv, findings, model) if known else {}
            tables.open_with(stack.enter_context(opened_csv(csv, COLUMNS, append=known)), held)
        if parquet is not None:
            held = {}
            groups = list(_whole(_parquet_rows(parquet), findings)) if resume and parquet.exists() else []
            writer = stack.enter_context(opened_parquet(parquet, COLUMNS))
            for rows in groups:
                _check_model("--parquet", parquet, rows[0], model)
                held[rows[0]["study_instance_uid"]] = rows[0]["state"]
                writer.write(rows)
            tables.open_with(writer, held)
        yield tables


def _parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    for group in read_parquet(path, COLUMNS):
        yield from group


def _kept_csv(path: Path, findings: int, model: tuple[str, str]) -> dict[str, str]:
    """Drop the rows of studies that are not whole from a table, and return the states of the others."""
    held: dict[str, str] = {}
    draft = path.with_name(f".{path.name}.resumed")
    try:
        with opened_csv(draft, COLUMNS) as writer:
            for rows in _whole(read_csv(path, COLUMNS), findings):
                _check_model("--csv", path, rows[0], model)
                held[rows[0]["study_instance_uid"]] = rows[0]["state"]
                writer.write(rows)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return held


def _whole(rows: Iterator[dict[str, Any]], findings: int) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of each study that has all of them."""
    studies = (row for row in rows if row["state"] != _UNREADABLE)
    for _, found in groupby(studies, key=lambda row: row["study_instance_uid"]):
        study = list(found)
        if len(study) == (findings if study[0]["state"] == _REPORTED else 1):
            yield study


def _check_model(option: str, path: Path, row: dict[str, Any], model: tuple[str, str]) -> None:
    theirs = (row["model"] or "", row["model_version"] or "")
    if theirs not in (model, ("", "")):
        raise ConfigurationError(
            f"{option} {path}: its scores are of {' '.join(theirs)} and not of {' '.join(model)}; "
            "name another file, or the same --bundle"
        )
