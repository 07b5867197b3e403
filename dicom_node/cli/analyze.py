"""The command that reads films without a server."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from dicom_node.cli.context import settings_of
from dicom_node.errors import NodeError, NotAnalysable

if TYPE_CHECKING:
    from dicom_node.results.report import SimilarCases
    from worker.study_reader import Reading


def analyze(
    ctx: typer.Context,
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="DICOM files, or folders of them")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="folder for the SR and SC files")] = None,
    bundle: Annotated[
        str | None, typer.Option("--bundle", "-b", help="name or folder of a model bundle")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="for scripts")] = False,
) -> None:
    """Read films without a server: print the findings and, with --out, write the SR and SC files.

    The films of one study are read together. Exit code 1 when a file or a study could not be analysed.
    RESEARCH USE ONLY.
    """
    from worker.study_reader import StudyReader, StudyRevision

    settings = settings_of(ctx)
    if bundle is not None:
        settings = settings.model_copy(
            update={"worker": settings.worker.model_copy(update={"bundle": bundle})}
        )
    studies, bad = _by_study(paths)
    if not studies:
        raise NodeError(
            f"no DICOM file among {', '.join(map(str, paths))}; name files or folders that hold films"
        )
    created = datetime.now(UTC)
    results: list[tuple[str, list[Path], Reading]] = []
    with StudyReader.open(settings) as reader:
        for uid, files in track(
            studies.items(), "reading", console=Console(stderr=True), transient=True, disable=len(studies) < 2
        ):
            reading = reader.read(StudyRevision(uid, 1, created), files)
            if out is not None:
                _write(reading, out / f"study-{len(results) + 1:04d}")
            results.append((uid, files, reading))
    if as_json:
        typer.echo(
            json.dumps({"studies": [_as_json(*result) for result in results], "unreadable": bad}, indent=2)
        )
    else:
        _print(results, bad)
    if bad or any(reading.reason for _, _, reading in results):
        raise typer.Exit(1)


def _by_study(paths: Sequence[Path]) -> tuple[dict[str, list[Path]], dict[str, str]]:
    """Return the readable files by Study Instance UID, and why the others are not."""
    from dicom_node.imaging.pixels import read_header

    studies: dict[str, list[Path]] = {}
    bad: dict[str, str] = {}
    for path in _files(paths):
        try:
            header = read_header(path)
        except (NotAnalysable, NodeError) as error:
            bad[str(path)] = str(error)
            continue
        uid = str(header.get("StudyInstanceUID") or "")
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
            raise NodeError(f"{path}: no such file or folder")


def _write(reading: Reading, folder: Path) -> None:
    from dicom_node.results.encoding.part10 import encoded

    try:
        folder.mkdir(parents=True, exist_ok=True)
        for number, (kind, ds) in enumerate(reading.objects, start=1):
            (folder / f"{number:02d}-{kind}.dcm").write_bytes(encoded(ds))
    except OSError as error:
        raise NodeError(f"{folder}: {error.strerror}; name a writable folder with --out") from None


def _as_json(uid: str, files: Sequence[Path], reading: Reading) -> dict[str, object]:
    report = reading.report
    return {
        "study_instance_uid": uid,
        "files": [str(path) for path in files],
        "state": str(reading.state),
        "reason": reading.reason,
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


def _print(results: Sequence[tuple[str, list[Path], Reading]], bad: dict[str, str]) -> None:
    console = Console(highlight=False)
    console.print("RESEARCH USE ONLY: not for diagnosis", style="bold")
    for uid, files, reading in results:
        console.print(f"\nstudy {uid}: {len(files)} files, {reading.state}", markup=False, soft_wrap=True)
        if reading.reason:
            console.print(f"  {reading.reason}", markup=False, soft_wrap=True)
        if reading.report is None or not reading.report.findings:
            continue
        for source in reading.report.sources:
            if source.exclusion:
                console.print(f"  not read: {source.exclusion}", markup=False, soft_wrap=True)
        table = Table("finding", "certainty", "95 %", "threshold", "presence", box=None, pad_edge=False)
        for column in table.columns[1:4]:
            column.justify = "right"
        ranked = sorted(reading.report.findings, key=lambda entry: -(entry.certainty or 0))
        for entry in ranked:
            certainty = "-" if entry.certainty is None else f"{100 * entry.certainty:.1f} %"
            threshold = (
                f"{100 * entry.threshold:.1f} %" if entry.certainty is not None else f"{entry.threshold:.3f}"
            )
            interval = (
                "-"
                if entry.interval is None
                else "{:.1f} to {:.1f} %".format(*(100 * end for end in entry.interval))
            )
            style = "bold" if entry.presence.value == "present" else "dim"
            table.add_row(entry.name, certainty, interval, threshold, entry.presence.value, style=style)
        console.print(table)
    for path, reason in bad.items():
        console.print(f"\n{path}: {reason}", markup=False, soft_wrap=True)
