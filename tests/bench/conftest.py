"""Benchmarks give rows to one table, which is printed at the end and written as JSON.

BENCH_ONLY=receive,web chooses benchmarks by name, BENCH_QUICK=1 makes a try of few measurements, BENCH_OUT is
what is written.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from tests.support.benchmarks import BenchmarkRow, BenchmarkRun, Record, number

OUT = Path(os.environ.get("BENCH_OUT") or "build/benchmarks.json")
ONLY = {word.strip() for word in os.environ.get("BENCH_ONLY", "").split(",") if word.strip()}
_RUN = pytest.StashKey[BenchmarkRun]()


def _group(item: pytest.Item) -> str:
    return item.path.stem.removeprefix("bench_")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_RUN] = BenchmarkRun.begin()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    groups = {_group(item) for item in items}
    if unknown := ONLY - groups:
        raise pytest.UsageError(
            f"BENCH_ONLY names {', '.join(sorted(unknown))}; there are {', '.join(sorted(groups))}"
        )
    if ONLY:
        config.hook.pytest_deselected(items=[item for item in items if _group(item) not in ONLY])
        items[:] = [item for item in items if _group(item) in ONLY]


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Record:
    """Record a row of this benchmark; see :meth:`BenchmarkRow.measured`."""
    stash, group = request.config.stash, _group(request.node)

    def add(*arguments: object, **words: object) -> None:
        stash[_RUN] = stash[_RUN].with_row(BenchmarkRow.measured(group, *arguments, **words))  # type: ignore[arg-type]
        stash[_RUN].write(OUT)  # whatever becomes of the others

    return add


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    if report.failed:
        run = item.config.stash[_RUN]
        failed = (*run.failed, item.nodeid.removeprefix("tests/bench/"))
        item.config.stash[_RUN] = replace(run, failed=failed)
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    run = config.stash[_RUN]
    if not run.rows:
        return
    run.write(OUT)
    machine = run.machine
    table = Table(
        title=f"dicom-node {run.version} {run.commit}, {machine.cores} cores of {machine.cpu}, "
        f"load {run.load} at the start{', a quick try' if run.quick else ''}"
    )
    table.add_column("benchmark")
    table.add_column("measured")
    for name in ("value", "from", "to", "n"):
        table.add_column(name, justify="right")
    table.add_column("unit")
    table.add_column("peer")
    for name in ("peer's", "ratio"):
        table.add_column(name, justify="right")
    table.add_column("target")
    for row in run.rows:
        verdict = {None: "", True: " (met)", False: " (missed)"}[row.met]
        table.add_row(
            row.group, row.name, number(row.value), number(row.low), number(row.high), str(row.n), row.unit,
            row.peer, number(row.peer_value), number(row.ratio), f"{row.target or ''}{verdict}",
        )  # fmt: skip
    console = Console(width=max(150, Console().width))
    with console.capture() as drawn:
        console.print(table)
    terminalreporter.write_line(f"\n{drawn.get()}")
    if run.failed:
        terminalreporter.write_line(f"failed: {', '.join(run.failed)}")
    terminalreporter.write_line(f"written: {OUT}")
    if run.quick:
        terminalreporter.write_line("BENCH_QUICK: a try, which enters no document")
    else:
        terminalreporter.write_line(f"into the documents: python -m tests.bench.report {OUT}")
