"""``status`` and ``retry``: count studies and results by state, and try failed ones again."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from dicom_node.cli.context import open_index, settings_of
from dicom_node.cli.options import AsJson
from dicom_node.cli.output import Terminal, counted
from dicom_node.cli.study_list import counts, set_aside_lines, study_as_json, study_lines
from dicom_node.config.data_dir import DataDir
from dicom_node.config.settings import Settings
from dicom_node.errors import NodeError
from dicom_node.store.audit import Audit, IndexQueries, StudyRow
from dicom_node.store.delivery_queue import DeliveryQueue, DestinationBacklog
from dicom_node.store.disk_usage import Forecast
from dicom_node.store.states import ResultState, StudyState
from dicom_node.store.storage_check import StorageCheckSummary, read_summary
from dicom_node.store.stored_damage import Part


def status(
    ctx: typer.Context,
    as_json: AsJson = False,
    audit: Annotated[
        bool,
        typer.Option("--audit", help="check that no accepted instance was lost; exit code 1 if one was"),
    ] = False,
    studies: Annotated[
        bool,
        typer.Option(
            "--studies", help="list studies: state, reason, destinations, and what waits for what and why"
        ),
    ] = False,
    limit: Annotated[
        int,
        typer.Option("--limit", min=1, help="with --studies: most studies to list, the last changed first"),
    ] = 50,
    read_files: Annotated[
        bool, typer.Option("--read-files", help="with --audit: also read every file and compare its digest")
    ] = False,
) -> None:
    """Count studies and results by state; with --audit, check that nothing was lost.

    Kept results have no destination and stay on this node. The audit checks that received = delivered + kept
    + waiting + skipped + failed + withdrawn + set aside + prior + purged, with each accepted instance in
    exactly one of them. A study is confirmed when its destinations have confirmed that they store every
    result of it that was not withdrawn, and there is one.
    """
    settings = settings_of(ctx)
    index = open_index(settings)
    data_dir = DataDir(settings)
    overview = IndexQueries(index.engine)
    found = _Status(
        studies=overview.study_counts(),
        confirmed=overview.confirmed_studies(),
        results=overview.result_counts(),
        kept=overview.kept_results(),
        backlogs=DeliveryQueue(index.engine).backlogs(),
        rows=overview.studies(limit=limit) if studies else None,
        storage=read_summary(index.engine),
        forecast=data_dir.forecast(index.engine),
    )
    checked = overview.audit(data_dir.spool, data_dir.results, read_files=read_files) if audit else None
    index.close()
    if as_json:
        typer.echo(json.dumps(_as_json(found, checked, settings), indent=2))
    else:
        _print(Terminal(highlight=False), found, checked, settings)
    if checked is not None and not checked.conserved:
        raise typer.Exit(1)


_SHOWN_DAMAGES = 20
_REMEDIES = {
    Part.RECEIVED: "send the film again",
    Part.RESULTS: "`dicom-node replay --mend STUDY` writes it again",
    Part.INDEX: "make it anew with `dicom-node rebuild`",
}


@dataclass(frozen=True, slots=True)
class _Status:
    """Counts of studies, results and destinations, the outlook for the disk, and the list if wanted."""

    studies: Mapping[StudyState, int]
    confirmed: int
    results: Mapping[ResultState, int]
    kept: int
    backlogs: list[DestinationBacklog]
    rows: list[StudyRow] | None
    storage: StorageCheckSummary
    forecast: Forecast


def retry(
    ctx: typer.Context,
    studies: Annotated[
        list[str] | None,
        typer.Argument(metavar="STUDY", help="Study Instance UIDs; all failed studies if absent"),
    ] = None,
    skipped: Annotated[bool, typer.Option("--skipped", help="also analyse skipped studies again")] = False,
    reported: Annotated[bool, typer.Option("--reported", help="also analyse reported studies again")] = False,
    results: Annotated[
        bool,
        typer.Option(
            "--results/--no-results",
            help="without STUDY: also send at once the results that wait or were rejected",
        ),
    ] = True,
) -> None:
    """Analyse failed studies again, and send again the results that were not accepted."""
    from dicom_node.audit_trail.codes import Action
    from dicom_node.cli.audit import record_access

    states = [StudyState.FAILED]
    states += [StudyState.SKIPPED] if skipped else []
    states += [StudyState.REPORTED] if reported else []
    settings = settings_of(ctx)
    index = open_index(settings)
    again = index.retry(studies or (), states=states)
    sent_again = DeliveryQueue(index.engine).retry() if results and not studies else 0
    for uid in studies or ["all"]:
        record_access(settings, index, uid, Action.UPDATE, "retry")
    index.close()
    typer.echo(
        f"{counted(again, 'study', 'studies')} will be analysed again, "
        f"{counted(sent_again, 'result')} will be sent again"
    )
    if studies and again < len(set(studies)):
        raise NodeError(
            f"{len(set(studies)) - again} of the named studies are unknown, in another state, or their films "
            "were purged; see `dicom-node status`, and --skipped or --reported"
        )


def _as_json(found: _Status, audit: Audit | None, settings: Settings) -> dict[str, object]:
    table: dict[str, object] = {
        "studies": {str(state): count for state, count in found.studies.items()},
        "confirmed_studies": found.confirmed,
        "results": {str(state): count for state, count in found.results.items()},
        "kept_results": found.kept,
        "destinations": [
            {
                "name": entry.destination,
                "results": {str(state): count for state, count in entry.states.items()},
                "oldest_waiting": entry.oldest,
                "error": entry.error,
            }
            for entry in found.backlogs
        ],
    }
    table["storage"] = dataclasses.asdict(found.storage)
    table["disk"] = dataclasses.asdict(found.forecast)
    if found.rows is not None:
        table["study_list"] = [study_as_json(row, settings) for row in found.rows]
    if audit is not None:
        table["audit"] = {**dataclasses.asdict(audit), "conserved": audit.conserved}
    return table


def _print(console: Console, found: _Status, audit: Audit | None, settings: Settings) -> None:
    studies = {str(state): count for state, count in found.studies.items()}
    results = {str(state): count for state, count in found.results.items()} | {"kept here": found.kept}
    console.print(_count_table("studies", studies), _count_table("results", results))
    console.print(f"confirmed studies, of which each destination stores every result: {found.confirmed}")
    console.print(f"disk full: {found.forecast}")
    if found.backlogs:
        console.print(_destination_table(found.backlogs))
    _print_storage(console, found.storage)
    if found.rows is not None:
        for line in (line for row in found.rows for line in study_lines(row, settings)):
            console.print(line, markup=False, soft_wrap=True)
        if left := sum(found.studies.values()) - len(found.rows):
            console.print(f"{left} more studies: --limit lists them")
    if audit is not None:
        _print_audit(console, audit)


def _count_table(noun: str, counts: Mapping[str, int]) -> Table:
    table = Table(noun, "count", box=None, pad_edge=False)
    table.columns[1].justify = "right"
    for state, count in counts.items():
        table.add_row(state, str(count), style=None if count else "dim")
    return table


def _destination_table(backlogs: list[DestinationBacklog]) -> Table:
    table = Table("destination", "results", "last error", box=None, pad_edge=False)
    for entry in backlogs:
        table.add_row(entry.destination, counts(entry.states), entry.error)
    return table


def _print_storage(console: Console, storage: StorageCheckSummary) -> None:
    """Print what the checks of stored files found; nothing before the first."""
    if storage.files:
        console.print(f"{storage.files} stored files were read and compared with their hashes")
    for entry in storage.damages[:_SHOWN_DAMAGES]:
        line = f"damaged: {entry.part}/{entry.file}: {entry.reason}; {_REMEDIES[entry.part]}"
        console.print(line, markup=False, soft_wrap=True)
    if (left := len(storage.damages) - _SHOWN_DAMAGES) > 0:
        console.print(f"damaged: {left} more; see --json")


def _print_audit(console: Console, audit: Audit) -> None:
    terms = " + ".join(f"{count} {name.replace('_', ' ')}" for name, count in audit.fates.items())
    console.print(f"audit: {audit.received} received = {terms}")
    for line in set_aside_lines(audit.set_aside):
        console.print(f"  {line}", markup=False, soft_wrap=True)
    if audit.repaired:
        console.print(f"  {audit.repaired} damaged films were repaired when they were sent again")
    if audit.unused_results:
        console.print(f"  {audit.unused_results} result files belong to analyses that were given up")
    for violation in audit.violations:
        console.print(f"  violated: {violation}", markup=False, soft_wrap=True)
    console.print("audit: nothing was lost" if audit.conserved else "audit: FAILED")
