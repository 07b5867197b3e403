"""``analyze``: analyses DICOM files without a server."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer
from rich.progress import track
from rich.table import Table

from dicom_node.cli.context import settings_of
from dicom_node.cli.options import AsJson, ConfiguredBundle
from dicom_node.cli.output import Terminal
from dicom_node.errors import ConfigurationError, EncodingFailed, NodeError, NotAnalysable
from dicom_node.imaging import value_representations

if TYPE_CHECKING:
    from dicom_node.results.report import Finding, SimilarCases
    from worker.study_reader import StudyAnalysis


_Paths: TypeAlias = Annotated[
    list[Path], typer.Argument(metavar="PATH", help="DICOM files, or folders of DICOM files")
]
_Out: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        help="new or empty folder for the result files: a folder named by its UID for each study",
    ),
]

_Table: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--csv", help="file for a table of all scores, a row for each finding of each study (docs/results.md)"
    ),
]


def analyze(
    ctx: typer.Context,
    paths: _Paths,
    out: _Out = None,
    table: _Table = None,
    bundle: ConfiguredBundle = None,
    as_json: AsJson = False,
) -> None:
    """Analyse films without a server: print the findings and, with --out, write the result files.

    The films of one study are analysed together. Exit code 1 when a file or a study could not be analysed.
    RESEARCH USE ONLY.
    """
    from dicom_node.cli.score_table import opened_table
    from worker.study_reader import StudyReader
    from worker.study_revision import StudyRevision

    settings = settings_of(ctx).with_one_model(bundle)
    if out is not None:
        _check_empty(out)
    studies, bad = _by_study(paths)
    if not studies:
        raise NodeError(
            f"no DICOM file among {', '.join(map(str, paths))}; name files or folders that hold films"
        )
    created = datetime.now(UTC)
    results: list[tuple[str, list[Path], StudyAnalysis]] = []
    with StudyReader.open(settings) as reader, opened_table(table) as scores:
        for uid, files in track(
            studies.items(),
            "analysing",
            console=Terminal(stderr=True),
            transient=True,
            disable=len(studies) < 2,
        ):
            try:
                analysis = reader.read(StudyRevision(uid, 1, created), files)
            except EncodingFailed as error:
                bad[f"study {uid}"] = str(error)
                continue
            if out is not None:
                _write(analysis, out / _folder_name(uid))
            if scores is not None:
                scores.add(uid, files, analysis)
            results.append((uid, files, analysis))
    if as_json:
        typer.echo(
            json.dumps({"studies": [_as_json(*result) for result in results], "unreadable": bad}, indent=2)
        )
    else:
        _print(results, bad)
    if bad or any(analysis.reason for _, _, analysis in results):
        raise typer.Exit(1)


def _by_study(paths: Sequence[Path]) -> tuple[dict[str, list[Path]], dict[str, str]]:
    """Return the readable files by Study Instance UID, and the reason for each unreadable one."""
    from dicom_node.imaging import attributes
    from dicom_node.imaging.pixels import read_header

    studies: dict[str, list[Path]] = {}
    bad: dict[str, str] = {}
    for path in _files(paths):
        try:
            header = read_header(path)
        except (NotAnalysable, NodeError) as error:
            bad[str(path)] = str(error)
            continue
        uid = attributes.text(header, "StudyInstanceUID")
        if uid:
            studies.setdefault(uid, []).append(path)
        else:
            bad[str(path)] = f"the file {path.name} has no Study Instance UID"
    return studies, bad


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(
                entry for entry in path.rglob("*") if entry.is_file() and entry.name != "DICOMDIR"
            )
        elif path.exists():
            yield path
        else:
            raise ConfigurationError(f"{path}: no such file or folder")


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


def _write(analysis: StudyAnalysis, folder: Path) -> None:
    from dicom_node.results.encoding.part10 import encoded

    try:
        folder.mkdir(parents=True)
        for number, (kind, ds) in enumerate(analysis.objects, start=1):
            (folder / f"{number:02d}-{kind}.dcm").write_bytes(encoded(ds))
    except OSError as error:
        raise NodeError(f"{folder}: {error.strerror}; name a writable folder with --out") from None


def _as_json(uid: str, files: Sequence[Path], analysis: StudyAnalysis) -> dict[str, object]:
    report = analysis.report
    return {
        "study_instance_uid": uid,
        "files": [str(path) for path in files],
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


def _print(results: Sequence[tuple[str, list[Path], StudyAnalysis]], bad: dict[str, str]) -> None:
    console = Terminal(highlight=False)
    console.print("RESEARCH USE ONLY: not for diagnosis", style="bold")
    for uid, files, analysis in results:
        console.print(f"\nstudy {uid}: {len(files)} files, {analysis.state}", markup=False, soft_wrap=True)
        if analysis.reason:
            console.print(f"  {analysis.reason}", markup=False, soft_wrap=True)
        if analysis.report is None or not analysis.report.findings:
            continue
        for source in analysis.report.sources:
            if source.exclusion:
                console.print(f"  not analysed: {source.exclusion}", markup=False, soft_wrap=True)
        console.print(_findings_table(analysis.report.findings))
    for path, reason in bad.items():
        console.print(f"\n{path}: {reason}", markup=False, soft_wrap=True)


def _value(entry: Finding) -> float:
    return entry.score if entry.certainty is None else entry.certainty


def _findings_table(findings: Sequence[Finding]) -> Table:
    """Return the findings as a table, highest first; a finding without a certainty has its score there."""
    from dicom_node.results.report import THRESHOLD_WORDS, Presence

    table = Table("finding", "certainty", "95 % interval", "threshold", box=None, pad_edge=False)
    for column in table.columns[1:3]:
        column.justify = "right"
    for entry in sorted(findings, key=_value, reverse=True):
        certainty = (
            f"score {entry.score:.3f}" if entry.certainty is None else f"{100 * entry.certainty:.1f} %"
        )
        threshold = (
            f"{100 * entry.threshold:.1f} %" if entry.certainty is not None else f"{entry.threshold:.3f}"
        )
        interval = (
            "-"
            if entry.interval is None
            else "{:.1f} to {:.1f} %".format(*(100 * end for end in entry.interval))
        )
        style = "dim" if entry.presence is Presence.ABSENT else "bold"
        compared = f"{THRESHOLD_WORDS[entry.presence]} {threshold}"
        table.add_row(entry.name, certainty, interval, compared, style=style)
    return table
