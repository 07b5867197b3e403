"""Tables of a node's studies: studies, findings and feedback, with pseudonyms where nobody is to be known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from dicom_node.analysis.finding_columns import FINDING, FINDING_COLUMNS
from dicom_node.analysis.table_files import TableColumn, TableWriter
from dicom_node.errors import NodeError, NotAnalysable
from dicom_node.imaging import attributes
from dicom_node.imaging.deidentification import patient_of
from dicom_node.imaging.pixels import read_header

if TYPE_CHECKING:
    from dicom_node.imaging.pseudonyms import Pseudonyms
    from dicom_node.store.files import Spool
    from dicom_node.store.study_export import ExportedAnalysis, ExportedStudy

_TIME: Final = "ISO 8601 in UTC; with pseudonyms moved as the dates, or empty without --retain dates"
_STUDY: Final = TableColumn(
    "study_instance_uid", "text", "Study Instance UID (0020,000D), or its pseudonym; joins the tables"
)
_REVISION: Final = TableColumn(
    "revision", "whole", "number of times that the set of the study's films was complete, from 1"
)
_MODEL: Final = (
    TableColumn("model", "text", "name of the model"),
    TableColumn("model_version", "text", "version of the model"),
    TableColumn("role", "text", "primary, or shadow for a model whose results are not sent"),
)

TABLES: Final[Mapping[str, Sequence[TableColumn]]] = {
    "studies": (
        _STUDY,
        TableColumn(
            "patient_id", "text", "Patient ID (0010,0020), or its pseudonym; empty when the films were purged"
        ),
        TableColumn("accession_number", "text", "Accession Number (0008,0050); empty with pseudonyms"),
        TableColumn("study_date", "text", f"Study Date (0008,0020), YYYYMMDD; {_TIME.partition('; ')[2]}"),
        TableColumn("films", "whole", "number of films that were received"),
        TableColumn("state", "text", "RECEIVING, COMPLETE, ANALYSING, REPORTED, SKIPPED or FAILED"),
        TableColumn("reason", "text", "why it was not read, a text; empty with pseudonyms"),
        _REVISION,
        TableColumn("model", "text", "name of the model of the latest analysis, the first of several"),
        TableColumn("model_version", "text", "version of that model"),
        TableColumn("normality", "text", "present for a normal study, absent for another, or undetermined"),
        TableColumn("first_received_at", "text", f"receipt of the first film of this revision, {_TIME}"),
        TableColumn("last_received_at", "text", f"receipt of the last film, {_TIME}"),
        TableColumn("completed_at", "text", f"time when the study was taken as complete, {_TIME}"),
        TableColumn("analysed_at", "text", f"end of the analysis of this revision, {_TIME}"),
        TableColumn("first_sent_at", "text", f"first answer Success of a destination, {_TIME}"),
        TableColumn("last_sent_at", "text", f"last answer Success of a destination, {_TIME}"),
        TableColumn("completed_after", "number", "seconds after the first film when the study was complete"),
        TableColumn("analysed_after", "number", "seconds after the first film when it was analysed"),
        TableColumn(
            "first_sent_after", "number", "seconds after the first film when a result was sent first"
        ),
        TableColumn("last_sent_after", "number", "seconds after the first film when a result was sent last"),
    ),
    "findings": (
        _STUDY,
        _REVISION,
        *_MODEL,
        TableColumn("position", "whole", "place among the labels of the bundle, from 0"),
        *FINDING_COLUMNS,
    ),
    "feedback": (
        _STUDY,
        _REVISION,
        *_MODEL,
        FINDING,
        TableColumn("reader", "text", "account of the reader, or its pseudonym"),
        TableColumn("verdict", "text", "agree, disagree or unsure; none for a comment alone"),
        TableColumn("comment", "text", "comment, a text; empty with pseudonyms"),
        TableColumn("given_at", "text", f"time of the opinion, {_TIME}"),
        TableColumn("given_after", "number", "seconds from the first film of the study until the opinion"),
    ),
}
"""Columns of the tables by their names."""


@dataclass(frozen=True, slots=True)
class Pseudonymised:
    """Pseudonyms in place of identity.

    Attributes
    ----------
    pseudonyms
        Source of the pseudonyms.
    uids
        Whether Study Instance UIDs are kept.
    dates
        Whether dates and times are kept, moved by the patient's own number of days.
    """

    pseudonyms: Pseudonyms
    uids: bool = False
    dates: bool = False


class StudyTables:
    """Tables that grow study by study.

    Parameters
    ----------
    writers
        Writers by the names of :data:`TABLES`.
    spool
        Folder of the received files, from whose headers patients are read.
    identity
        Pseudonyms; None to write identity as it is.

    Attributes
    ----------
    counts
        Number of rows by table.
    """

    def __init__(
        self, writers: Mapping[str, TableWriter], spool: Spool, identity: Pseudonymised | None
    ) -> None:
        self._writers = writers
        self._spool = spool
        self._identity = identity
        self.counts = dict.fromkeys(TABLES, 0)

    def add(self, study: ExportedStudy) -> None:
        """Write the rows of a study.

        Raises
        ------
        NodeError
            If a table cannot be written.
        """
        header, patient = self._header(study)
        uid = study.study_instance_uid
        if self._identity is not None and not self._identity.uids:
            uid = self._identity.pseudonyms.uid(uid)
        self._write("studies", [self._study_row(study, patient) | header | {"study_instance_uid": uid}])
        for analysis in study.analyses:
            shared = {
                "study_instance_uid": uid,
                "revision": analysis.revision,
                "model": analysis.model,
                "model_version": analysis.model_version,
                "role": analysis.role,
            }
            self._write("findings", [shared | row for row in _finding_rows(analysis)])
            self._write("feedback", [shared | row for row in self._opinion_rows(study, analysis, patient)])

    def _write(self, table: str, rows: list[dict[str, Any]]) -> None:
        self._writers[table].write(rows)
        self.counts[table] += len(rows)

    def _header(self, study: ExportedStudy) -> tuple[dict[str, Any], str]:
        """Return what the header of the first film says, and the text that stands for the patient."""
        try:
            header = read_header(self._spool.path(study.file)) if study.file else None
        except (NodeError, NotAnalysable):
            header = None  # its file is damaged or gone: `dicom-node status` says so
        if header is None:
            return {}, study.study_instance_uid
        patient, taken = patient_of(header), attributes.text(header, "StudyDate")
        if self._identity is None:
            return {
                "patient_id": attributes.whole_text(header, "PatientID"),
                "accession_number": attributes.whole_text(header, "AccessionNumber"),
                "study_date": taken,
            }, patient
        moved = self._identity.pseudonyms.shifted(patient, taken) if self._identity.dates else ""
        return {
            "patient_id": self._identity.pseudonyms.patient(patient),
            "study_date": moved or None,
        }, patient

    def _time(self, seconds: float | None, patient: str) -> str | None:
        if seconds is None:
            return None
        time = datetime.fromtimestamp(seconds, UTC)
        text = time.isoformat(timespec="microseconds")
        if self._identity is None:
            return text
        if not self._identity.dates:
            return None
        day = self._identity.pseudonyms.shifted(patient, f"{time:%Y%m%d}")
        return f"{day[:4]}-{day[4:6]}-{day[6:]}{text[10:]}" if day else None

    def _study_row(self, study: ExportedStudy, patient: str) -> dict[str, Any]:
        latest = next((each for each in reversed(study.analyses) if each.place == 0), None)
        analysed = latest.created_at if latest and latest.revision == study.revision else None
        times = {
            "completed": study.completed_at,
            "analysed": analysed,
            "first_sent": study.first_sent_at,
            "last_sent": study.last_sent_at,
        }
        return {
            "films": study.films,
            "state": study.state,
            "reason": study.reason if self._identity is None else None,
            "revision": study.revision,
            "model": latest.model if latest else None,
            "model_version": latest.model_version if latest else None,
            "normality": latest.normality if latest else None,
            "first_received_at": self._time(study.first_received_at, patient),
            "last_received_at": self._time(study.last_received_at, patient),
            **{f"{name}_at": self._time(value, patient) for name, value in times.items()},
            **{
                f"{name}_after": None if value is None else value - study.first_received_at
                for name, value in times.items()
            },
        }

    def _opinion_rows(
        self, study: ExportedStudy, analysis: ExportedAnalysis, patient: str
    ) -> list[dict[str, Any]]:
        identity = self._identity
        return [
            {
                "finding": each.key,
                "reader": each.reader if identity is None else identity.pseudonyms.reader(each.reader),
                "verdict": each.verdict,
                "comment": each.comment if identity is None else None,
                "given_at": self._time(each.at, patient),
                "given_after": each.at - study.first_received_at,
            }
            for each in analysis.opinions
        ]


def _finding_rows(analysis: ExportedAnalysis) -> list[dict[str, Any]]:
    return [
        {
            "position": position,
            "finding": each.key,
            "name": each.name,
            "score": each.score,
            "certainty": each.certainty,
            "low": each.low,
            "high": each.high,
            "threshold": each.threshold,
            "presence": each.presence,
            "above": None if each.presence == "undetermined" else each.presence == "present",
        }
        for position, each in enumerate(analysis.findings)
    ]
