"""``analyze``: analyses DICOM files without a server."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer
from rich.progress import track
from rich.table import Table

from dicom_node.cli.context import settings_of
from dicom_node.cli.options import AsJson, ConfiguredBundle, ConfiguredDevice
from dicom_node.cli.output import Terminal, counted, stderr_console
from dicom_node.errors import ConfigurationError, NodeError, StoppedByUser
from dicom_node.imaging import value_representations

if TYPE_CHECKING:
    from dicom_node.analysis.score_table import ScoreTables
    from dicom_node.analysis.studies import StudyCollection, StudyFilms
    from dicom_node.results.report import Finding, SimilarCases
    from models.processing.types import Identity
    from worker.study_reader import StudyAnalysis, StudyReader

_LEGEND = (
    "score: output of the network, 0 to 1, and no probability. A label that is not calibrated has nothing "
    "else, and its threshold is a score too."
)

_NAMED = 4
"""Most files of a study that are named."""

_Paths: TypeAlias = Annotated[
    list[Path],
    typer.Argument(metavar="PATH", help="films: DICOM files, PNG or JPEG files, or folders of them"),
]
_Out: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        help="new or empty folder for the result files: a folder named by its UID for each study",
    ),
]
_Csv: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--csv", help="file for a table of all scores, a row for each finding of each study (docs/results.md)"
    ),
]
_Parquet: TypeAlias = Annotated[
    Path | None, typer.Option("--parquet", help="file for the same table as Parquet, written at the end")
]
_Resume: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--resume", help="go on with --csv or --parquet of an earlier run: what is in it is not read again"
    ),
]


def analyze(
    ctx: typer.Context,
    paths: _Paths,
    *,
    out: _Out = None,
    table: _Csv = None,
    parquet: _Parquet = None,
    resume: _Resume = False,
    bundle: ConfiguredBundle = None,
    device: ConfiguredDevice = None,
    as_json: AsJson = False,
) -> None:
    """Analyse films without a server: print the findings and, with --out, write the result files.

    The DICOM films of one study are analysed together; an image file is a study of its own. Exit code 1 when
    a file or a study could not be analysed. RESEARCH USE ONLY.
    """
    from worker.processes import PROCESS_ENVIRONMENT

    for name, value in PROCESS_ENVIRONMENT.items():  # before NumPy reads them
        os.environ.setdefault(name, value)

    from dicom_node.analysis.bundle import chosen_settings
    from dicom_node.analysis.model_errors import translated_model_errors
    from dicom_node.analysis.score_table import opened_tables
    from dicom_node.analysis.studies import StudyCollection
    from dicom_node.analysis.table_files import check_parquet
    from worker.study_reader import StudyReader

    if resume and table is None and parquet is None:
        raise ConfigurationError("--resume needs the table to go on with: give --csv or --parquet too")
    if parquet is not None:
        check_parquet()
    settings = chosen_settings(settings_of(ctx), bundle=bundle, device=device)
    if out is not None and not resume:
        _check_empty(out)
    if not resume:
        _check_new({"--csv": table, "--parquet": parquet})
    films = StudyCollection.of(paths)
    if not films.studies:
        raise NodeError(
            f"no film among {', '.join(map(str, paths))}; name files or folders that hold DICOM or images"
        )
    answers = _Answers(as_json=as_json, unreadable=films.unreadable)
    try:
        with StudyReader.open(settings) as reader:
            with translated_model_errors():
                model = reader.first_predictor
            answers.begin(model.identity)
            with opened_tables(
                table,
                parquet,
                findings=len(model.labels),
                model=(model.identity.name, model.identity.version),
                resume=resume,
            ) as scores:
                _read(films, reader, scores, answers, out, replace=resume)
                scores.add_unreadable(films.unreadable)
    except KeyboardInterrupt:
        advice = ": the same command with --resume goes on" if table or parquet else ""
        raise StoppedByUser(
            f"interrupted after {answers.count} of {len(films.studies)} studies{advice}"
        ) from None
    answers.end()
    if answers.incomplete or any(state != "REPORTED" for state in scores.done.values()):
        raise typer.Exit(1)


def _read(
    films: StudyCollection,
    reader: StudyReader,
    scores: ScoreTables,
    answers: _Answers,
    out: Path | None,
    *,
    replace: bool,
) -> None:
    """Read the studies that the tables do not hold; what was done of each is written before the next."""
    from dicom_node.analysis.bundle import read_studies

    waiting = [study for uid, study in films.studies.items() if uid not in scores.done]
    if passed_over := len(films.studies) - len(waiting):
        stderr_console.print(f"{counted(passed_over, 'study', 'studies')} in the table: not read again")
    shown = track(
        waiting, "analysing", console=stderr_console, transient=True, disable=len(films.studies) < 2
    )
    for study, analysis in read_studies(reader, shown, answers.unreadable):
        if out is not None:
            _write(analysis, out / _folder_name(study.study_instance_uid), replace=replace)
        scores.add(study, analysis)
        answers.add(study, analysis)


class _Answers:
    """Answers of a run: printed as they come, or as one JSON object at the end."""

    def __init__(self, *, as_json: bool, unreadable: dict[str, str]) -> None:
        self.unreadable = unreadable
        self._states: Counter[str] = Counter()
        self._failed = False
        self._begun = 0.0
        self._studies: list[dict[str, object]] | None = [] if as_json else None
        self._console = Terminal(highlight=False)
        self._legend = False

    def begin(self, model: Identity) -> None:
        """Print what reads the films; the time of the run counts from now."""
        self._begun = time.monotonic()
        if self._studies is None:
            self._console.print("RESEARCH USE ONLY: not for diagnosis", style="bold")
            self._console.print(f"bundle {model.name} {model.version}", markup=False)

    @property
    def count(self) -> int:
        """Number of the studies that were analysed."""
        return self._states.total()

    @property
    def incomplete(self) -> bool:
        """Whether a file or a study could not be analysed."""
        return self._failed or bool(self.unreadable)

    def add(self, study: StudyFilms, analysis: StudyAnalysis) -> None:
        """Print a study, or keep it for JSON."""
        self._failed |= bool(analysis.reason)
        self._states[str(analysis.state)] += 1
        if self._studies is not None:
            self._studies.append(_as_json(study, analysis))
        else:
            self._legend |= _print(self._console, study, analysis)

    def end(self) -> None:
        """Print what was not analysed and the legend, or all as JSON."""
        if self._studies is not None:
            typer.echo(json.dumps({"studies": self._studies, "unreadable": self.unreadable}, indent=2))
            return
        for path, reason in self.unreadable.items():
            self._console.print(f"\n{path}: {reason}", markup=False, soft_wrap=True)
        if self._legend:
            self._console.print(f"\n{_LEGEND}", soft_wrap=True)
        if self.count + len(self.unreadable) > 1:
            self._sum_up()

    def _sum_up(self) -> None:
        """Print to standard error how many studies came out how."""
        parts = [f"{number} {state}" for state, number in self._states.most_common()]
        if self.unreadable:
            parts.append(f"{counted(len(self.unreadable), 'file')} unreadable")
        stderr_console.print(
            f"{counted(self.count, 'study', 'studies')} in {time.monotonic() - self._begun:.1f} s: "
            f"{', '.join(parts)}",
            highlight=False,
        )


def _check_new(tables: Mapping[str, Path | None]) -> None:
    """Refuse to write over a table, which may hold the scores of many hours."""
    for option, path in tables.items():
        if path is not None and path.is_file() and path.stat().st_size:
            raise ConfigurationError(
                f"{option} {path} exists: add --resume to go on with it, or name another file"
            )


def _check_empty(out: Path) -> None:
    """Refuse a folder that holds anything: results of another call, perhaps of another patient.

    Raises
    ------
    ConfigurationError
        When the folder is not empty.
    """
    try:
        used = out.exists() and (not out.is_dir() or any(out.iterdir()))
    except OSError as error:
        raise NodeError(f"{out}: {error.strerror}; name a readable folder with --out") from None
    if used:
        raise ConfigurationError(f"--out {out}: it is not an empty folder; name a new or an empty one")


def _folder_name(study_instance_uid: str) -> str:
    """Return the study's UID where it can name a folder, else a hash of it."""
    digest = hashlib.sha256(study_instance_uid.encode()).hexdigest()
    return value_representations.uid(study_instance_uid) or f"study-{digest[:16]}"


def _write(analysis: StudyAnalysis, folder: Path, *, replace: bool) -> None:
    """Write the results of a study into its folder, in place of those of an interrupted run if it may be."""
    from dicom_node.results.encoding.part10 import encoded

    try:
        folder.mkdir(parents=True, exist_ok=replace)
        for left in folder.glob("*.dcm") if replace else ():
            left.unlink()
        for number, (kind, ds) in enumerate(analysis.objects, start=1):
            (folder / f"{number:02d}-{kind}.dcm").write_bytes(encoded(ds))
    except OSError as error:
        raise NodeError(f"{folder}: {error.strerror}; name a writable folder with --out") from None


def _as_json(study: StudyFilms, analysis: StudyAnalysis) -> dict[str, object]:
    report = analysis.report
    return {
        "study_instance_uid": study.study_instance_uid,
        "files": study.names,
        "state": str(analysis.state),
        "reason": analysis.reason,
        "algorithm": f"{report.algorithm.name} {report.algorithm.version}"
        if report and report.algorithm
        else None,
        "normality": report.normality.value if report else None,
        "findings": {
            entry.key: {
                "certainty": entry.certainty,
                "interval": entry.interval,
                "score": entry.score,
                "threshold": entry.threshold,
                "presence": entry.presence.value,
            }
            for entry in (report.findings if report else ())
        },
        "similar": _similar(report.similar) if report and report.similar else None,
        "intended_use": "RESEARCH USE ONLY",
    }


def _similar(similar: SimilarCases) -> dict[str, object]:
    return {
        "index": similar.index_name,
        "agreement": similar.agreement,
        "disagrees": similar.disagrees,
        "cases": [
            {
                "case": case.identifier,
                "similarity": case.similarity,
                "labels": [name for name, _ in case.labels],
            }
            for case in similar.cases
        ],
    }


def _print(console: Terminal, study: StudyFilms, analysis: StudyAnalysis) -> bool:
    """Print a study; return whether a finding has no calibration."""
    head = f"\nstudy {study.study_instance_uid}: {counted(len(study.names), 'file')}, {analysis.state}"
    console.print(head, markup=False, soft_wrap=True)
    for name in study.names[:_NAMED]:
        console.print(f"  {name}", markup=False, soft_wrap=True)
    if len(study.names) > _NAMED:
        console.print(f"  and {len(study.names) - _NAMED} more")
    if analysis.reason:
        console.print(f"  {analysis.reason}", markup=False, soft_wrap=True)
    if analysis.report is None or not analysis.report.findings:
        return False
    for source in analysis.report.sources:
        if source.exclusion:
            console.print(f"  not analysed: {source.exclusion}", markup=False, soft_wrap=True)
    console.print(_findings_table(analysis.report.findings))
    return any(entry.certainty is None for entry in analysis.report.findings)


def _value(entry: Finding) -> float:
    return entry.score if entry.certainty is None else entry.certainty


def _findings_table(findings: Sequence[Finding]) -> Table:
    """Return the findings as a table, highest first."""
    from dicom_node.results.report import THRESHOLD_WORDS, Presence

    table = Table("finding", "score", "certainty", "95 % interval", "threshold", box=None, pad_edge=False)
    for column in table.columns[1:4]:
        column.justify = "right"
    for entry in sorted(findings, key=_value, reverse=True):
        calibrated = entry.certainty is not None
        certainty = f"{100 * entry.certainty:.1f} %" if entry.certainty is not None else "not calibrated"
        threshold = f"{100 * entry.threshold:.1f} %" if calibrated else f"a score of {entry.threshold:.3f}"
        interval = (
            ""
            if entry.interval is None
            else "{:.1f} to {:.1f} %".format(*(100 * end for end in entry.interval))
        )
        style = "dim" if entry.presence is Presence.ABSENT else "bold"
        compared = f"{THRESHOLD_WORDS[entry.presence]} {threshold}"
        table.add_row(entry.name, f"{entry.score:.3f}", certainty, interval, compared, style=style)
    return table
