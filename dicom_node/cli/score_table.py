"""Table of scores: a CSV file with a row for each finding of each study, written as the studies are read."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO

from dicom_node.errors import NodeError
from dicom_node.imaging import attributes
from dicom_node.imaging.pixels import read_header

if TYPE_CHECKING:
    from worker.study_reader import StudyAnalysis

COLUMNS: Final = {
    "study_instance_uid": "Study Instance UID (0020,000D)",
    "patient_id": "Patient ID (0010,0020) of the first file",
    "accession_number": "Accession Number (0008,0050) of the first file",
    "study_date": "Study Date (0008,0020) of the first file, YYYYMMDD",
    "films": "number of files of the study",
    "state": "REPORTED; or SKIPPED or FAILED, with a reason and one row without a finding",
    "reason": "why the study was not read",
    "model": "name and version of the bundle",
    "finding": "key of the finding",
    "name": "its name",
    "score": "output of the network for it, 0 to 1; no probability",
    "certainty": "calibrated probability, 0 to 1; empty where the label is not calibrated",
    "low": "lower end of the 95 % interval of the certainty",
    "high": "upper end of it",
    "threshold": "value from which it counts as present: of the certainty, or of the score without one",
    "presence": "present, absent or undetermined: above, below or at the threshold",
}
"""Columns and what they hold."""


class ScoreTable:
    """Writer of a table of scores.

    Parameters
    ----------
    stream
        Text stream; each study is flushed, so that an interrupted run leaves whole studies.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._rows = csv.DictWriter(stream, list(COLUMNS), restval="", lineterminator="\n")
        self._rows.writeheader()

    def add(self, study_instance_uid: str, files: Sequence[Path], analysis: StudyAnalysis) -> None:
        """Write the rows of a study."""
        header = read_header(files[0])
        report = analysis.report
        study = {
            "study_instance_uid": study_instance_uid,
            "patient_id": attributes.whole_text(header, "PatientID"),
            "accession_number": attributes.whole_text(header, "AccessionNumber"),
            "study_date": attributes.text(header, "StudyDate"),
            "films": len(files),
            "state": str(analysis.state),
            "reason": analysis.reason,
        }
        findings = report.findings if report else ()
        if report and report.algorithm:
            study["model"] = f"{report.algorithm.name} {report.algorithm.version}"
        rows: list[dict[str, Any]] = [
            {
                "finding": entry.key,
                "name": entry.name,
                "score": entry.score,
                "certainty": "" if entry.certainty is None else entry.certainty,
                **dict(zip(("low", "high"), entry.interval or (), strict=False)),
                "threshold": entry.threshold,
                "presence": entry.presence.value,
            }
            for entry in findings
        ]
        self._rows.writerows(study | row for row in rows or [{}])
        self._stream.flush()


@contextmanager
def opened_table(path: Path | None) -> Iterator[ScoreTable | None]:
    """Open a table of scores for writing; None where no file is named.

    Raises
    ------
    NodeError
        When the file cannot be written.
    """
    if path is None:
        yield None
        return
    try:
        with path.open("w", encoding="utf-8", newline="") as stream:
            yield ScoreTable(stream)
    except OSError as error:
        raise NodeError(f"{path}: {error.strerror}; name a writable file with --csv") from error
