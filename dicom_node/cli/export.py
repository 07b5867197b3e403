"""``export``: writes tables of a node's studies, their scores, timings and feedback."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import typer

from dicom_node.cli.context import open_index, settings_of
from dicom_node.cli.options import AsJson
from dicom_node.cli.output import say, translated_write_errors
from dicom_node.errors import ConfigurationError

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from dicom_node.analysis.study_tables import Pseudonymised, StudyTables
    from dicom_node.config.settings import Settings

_DICTIONARY = "dictionary.csv"

_Out: TypeAlias = Annotated[
    Path, typer.Option("--out", "-o", help="new or empty folder for the tables and their data dictionary")
]
_From: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--since", metavar="DATE", help="first day of receipt, YYYY-MM-DD in UTC; the beginning if absent"
    ),
]
_To: TypeAlias = Annotated[
    str | None,
    typer.Option("--until", metavar="DATE", help="last day of receipt, YYYY-MM-DD in UTC; today if absent"),
]
_Format: TypeAlias = Annotated[
    Literal["csv", "parquet"], typer.Option("--format", help="format of the tables: csv or parquet")
]
_Identified: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--identified", help="write identifiers, times, readers and comments as they are, without pseudonyms"
    ),
]
_Retain: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--retain",
        help="with pseudonyms: keep uids, dates (moved); deidentification.retain of the settings if absent",
    ),
]


def export(
    ctx: typer.Context,
    *,
    out: _Out = Path("export"),
    since: _From = None,
    until: _To = None,
    format_: _Format = "csv",
    identified: _Identified = False,
    retain: _Retain = None,
    as_json: AsJson = False,
) -> None:
    """Write tables of a node's studies of a period: scores, certainties, model, timings and feedback.

    Four files: studies, findings, feedback, and a data dictionary. Patients, studies and readers bear the
    pseudonyms that `dicom-node deidentify` gives them. The node may run. RESEARCH USE ONLY.
    """
    from dicom_node.analysis.study_tables import TABLES, StudyTables
    from dicom_node.analysis.table_files import check_parquet, opened_csv, opened_parquet, write_dictionary
    from dicom_node.config.data_dir import DataDir
    from dicom_node.store.study_export import export_studies

    begin, end = _period(since, until)
    if identified and retain is not None:
        raise ConfigurationError("--identified keeps everything: leave out --retain")
    if format_ == "parquet":
        check_parquet()
    settings = settings_of(ctx)
    identity = None if identified else _pseudonymised(settings, retain)
    with translated_write_errors("--out", out):
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise ConfigurationError(f"--out {out}: it is not an empty folder; name a new or an empty one")
        out.mkdir(parents=True, exist_ok=True)
    index = open_index(settings)
    opened = opened_parquet if format_ == "parquet" else opened_csv
    try:
        with ExitStack() as stack:
            writers = {
                name: stack.enter_context(opened(out / f"{name}.{format_}", columns))
                for name, columns in TABLES.items()
            }
            tables = StudyTables(writers, DataDir(settings).spool, identity)
            for study in export_studies(index.engine, begin, end):
                tables.add(study)
        write_dictionary(out / _DICTIONARY, TABLES)
        _record(settings, index.engine, tables, out, identified=identified)
    finally:
        index.close()
    if as_json:
        answer = {**tables.counts, "out": str(out), "intended_use": "RESEARCH USE ONLY"}
        typer.echo(json.dumps(answer, indent=2))
    else:
        counts = ", ".join(f"{count} rows of {name}" for name, count in tables.counts.items())
        say(f"{out}: {counts}; {_DICTIONARY} says what the columns hold. RESEARCH USE ONLY")


def _period(since: str | None, until: str | None) -> tuple[float, float]:
    """Return begin and end of a period of whole days, in seconds since the epoch; the end is not in it."""
    first = _day("--since", since) if since is not None else None
    last = _day("--until", until) if until is not None else None
    if first is not None and last is not None and last < first:
        raise ConfigurationError(f"--until {until}: it is before --since {since}")
    begin = 0.0 if first is None else _midnight(first)
    return begin, float("inf") if last is None else _midnight(last + timedelta(days=1))


def _day(option: str, text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(f"{option} {text}: give a day as YYYY-MM-DD, such as 2026-01-31") from None


def _midnight(day: date) -> float:
    return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()


def _pseudonymised(settings: Settings, retain: Sequence[str] | None) -> Pseudonymised:
    from dicom_node.analysis.study_tables import Pseudonymised
    from dicom_node.config.data_dir import DataDir
    from dicom_node.imaging.deidentification import Retention
    from dicom_node.imaging.pseudonyms import Pseudonyms

    known = (Retention.UIDS, Retention.DATES)
    for word in retain or ():
        if word not in known:
            raise ConfigurationError(f"--retain {word}: use {', '.join(known)}")
    kept = settings.deidentification.retain if retain is None else retain
    return Pseudonymised(
        Pseudonyms(DataDir(settings).deidentification_secret()),
        uids=Retention.UIDS in kept,
        dates=Retention.DATES in kept,
    )


def _record(settings: Settings, engine: Engine, tables: StudyTables, out: Path, *, identified: bool) -> None:
    """Record in the audit trail that tables left the node."""
    from dicom_node.audit_trail import events
    from dicom_node.audit_trail.trail import AuditTrail

    trail = AuditTrail.open(settings, engine)
    kind = "with identity" if identified else "with pseudonyms"
    what = f"tables of {tables.counts['studies']} studies {kind} to {out}"
    trail.record(events.exported(events.operator(), what))
    trail.close()
