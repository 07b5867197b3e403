"""Document of the benchmarks: what docs/benchmarks.md says of the runs in docs/benchmarks.

``python -m tests.bench.report`` writes the document anew from those runs; with the file of a run, such as
``build/benchmarks.json``, it takes that among them first.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tests.support.benchmarks import BenchmarkRow, BenchmarkRun, number
from tests.support.peers import ROOT

DOCUMENT = ROOT / "docs" / "benchmarks.md"
RUNS = ROOT / "docs" / "benchmarks"
BEGIN, END = "<!-- begin: python -m tests.bench.report -->", "<!-- end -->"
SHOWN = 6
"""Newest runs that the history shows."""
TITLES = {
    "receive": "Receive: C-STORE, each film durable before its answer",
    "turnaround": "From release to report",
    "start": "Start, and memory of the worker",
    "commands": "Commands",
    "results": "Results",
    "runtimes": "Reading, heat maps included",
    "models": "Families and runtimes",
    "explain": "Heat maps",
    "viewer": "Page: films",
    "web": "Page: worklist and searches",
    "retrieval": "Similar cases",
    "gpu": "GPU",
}
QUIET = 0.25
"""Load average for each core up to which a machine counts as quiet."""


def take(path: Path, folder: Path = RUNS) -> Path:
    """Copy the file of a run among those of the documents; returns its place.

    Raises
    ------
    ValueError
        When the run was a quick one.
    """
    run = BenchmarkRun.read(path)
    if run.quick:
        raise ValueError(f"{path}: a run with BENCH_QUICK enters no document; run `make bench` without it")
    place = folder / f"{run.date[:10]}-{run.commit.rstrip('+') or 'unknown'}.json"
    run.write(place)
    return place


def read_runs(folder: Path = RUNS) -> list[BenchmarkRun]:
    """Runs of a folder, newest first."""
    return sorted(map(BenchmarkRun.read, folder.glob("*.json")), key=lambda run: run.date, reverse=True)


def document(before: str, runs: Sequence[BenchmarkRun]) -> str:
    """Return the text of the document with the tables of these runs between its marks."""
    start, stop = before.index(BEGIN) + len(BEGIN), before.index(END)
    return before[:start] + "\n" + "\n".join(_tables(runs)) + "\n" + before[stop:]


def _tables(runs: Sequence[BenchmarkRun]) -> Iterator[str]:
    if not runs:
        yield "Not measured: no run is here yet."
        return
    newest = runs[0]
    yield from _machine(newest)
    groups = dict.fromkeys([*TITLES, *(row.group for row in newest.rows)])
    for group in groups:
        run = next((run for run in runs if any(row.group == group for row in run.rows)), None)
        if run is None and group != "gpu":
            continue
        yield from ("", f"### {TITLES.get(group, group)}", "")
        if run is None:
            yield "Not measured: no run had a GPU."
            continue
        if run is not newest:  # of some benchmarks only
            gpu = f", on {run.machine.gpu}" if run.machine.gpu else ""
            date = run.date[:16].replace("T", " ")
            yield f"Of the run of {date} UTC, commit {run.commit}, load average {run.load:g}{gpu}."
            yield ""
        yield from _rows(row for row in run.rows if row.group == group)
    yield from ("", "### History", "", *_history(runs))


def _machine(run: BenchmarkRun) -> Iterator[str]:
    machine = run.machine
    date = run.date[:16].replace("T", " ")
    yield f"Run of {date} UTC, dicom-node {run.version}, commit {run.commit or 'unknown'}."
    if run.commit.endswith("+"):
        yield "The working tree differed from the commit (`+`)."
    if run.load > QUIET * machine.cores:
        yield f"**The machine was not quiet: load average {run.load:g} at the start.** Compare only ratios."
    if run.failed:
        yield f"Failed: {', '.join(f'`{name}`' for name in run.failed)}."
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    yield from (
        "",
        "| machine | |",
        "|---|---|",
        f"| processor | {machine.cpu}, {machine.cores} cores |",
        f"| memory | {machine.memory_gib:g} GiB |",
        f"| GPU | {machine.gpu or 'none'} |",
        f"| kernel | {machine.kernel} |",
        f"| Python | {machine.python} |",
        f"| versions | {versions} |",
        f"| load average at the start | {run.load:g} |",
    )


def _rows(rows: Iterable[BenchmarkRow]) -> Iterator[str]:
    yield "| measured | value | least to greatest | n | peer | its value | ratio | target |"
    yield "|---|---|---|---|---|---|---|---|"
    for row in rows:
        spread = "" if row.low is None else f"{number(row.low)} to {number(row.high)}"
        verdict = {None: "", True: f"{row.target}: met", False: f"{row.target}: **missed**"}[row.met]
        cells = (
            row.name, f"{number(row.value)} {row.unit}", spread, str(row.n), row.peer, number(row.peer_value),
            number(row.ratio), verdict,
        )  # fmt: skip
        yield f"| {' | '.join(cells)} |"


def _history(runs: Sequence[BenchmarkRun]) -> Iterator[str]:
    """Rows with a target, through the newest runs; the ratio where the target is one."""
    shown = runs[:SHOWN]
    yield f"Quantities with a target, newest run first; {len(runs)} in all are in [benchmarks](benchmarks)."
    yield ""
    yield f"| measured | {' | '.join(f'{run.date[:10]} {run.commit}' for run in shown)} |"
    yield f"|---|{'---|' * len(shown)}"
    yield f"| load average | {' | '.join(f'{run.load:g}' for run in shown)} |"
    yield f"| processor | {' | '.join(f'{run.machine.cpu}, {run.machine.cores} cores' for run in shown)} |"
    names = dict.fromkeys(
        (row.group, row.name, row.peer) for run in shown for row in run.rows if row.target is not None
    )
    for key in names:
        found = [
            next((row for row in run.rows if (row.group, row.name, row.peer) == key), None) for run in shown
        ]
        cells = [_point(row) if row is not None else "" for row in found]
        of_ratio = any(row is not None and row.target and row.target.of == "ratio" for row in found)
        yield f"| {key[1]}{f', beside {key[2]}' if of_ratio else ''} | {' | '.join(cells)} |"


def _point(row: BenchmarkRow) -> str:
    if row.target is not None and row.target.of == "ratio":
        return f"{number(row.ratio)} x"
    return f"{number(row.value)} {row.unit}"


def main(words: Sequence[str]) -> int:
    """Take the named runs and write the document."""
    try:
        for word in words:
            print(f"taken: {take(Path(word)).relative_to(ROOT)}")
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    DOCUMENT.write_text(document(DOCUMENT.read_text(encoding="utf-8"), read_runs()), encoding="utf-8")
    print(f"written: {DOCUMENT.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
