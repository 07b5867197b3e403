"""Sources of figures: JSON of the bundles and of the benchmarks, and counts of the code."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sized
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tests.bench.report import read_runs
from tests.support.benchmarks import BenchmarkRow, BenchmarkRun, number
from tests.support.figures.passage import Figure
from tests.support.peers import ROOT

BUNDLES = ROOT / "models" / "bundles"
WORDS = (
    "no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
)  # fmt: skip

Format = Callable[[float], str]


def decimals(digits: int) -> Format:
    """Format with so many digits behind the point."""
    return lambda value: f"{value:.{digits}f}"


def thousandths(value: float) -> str:
    """Three digits behind the point."""
    return f"{value:.3f}"


def percent(digits: int) -> Format:
    """Format of a share as a percentage with so many digits behind the point, and none for 0 and 100."""

    def text(share: float) -> str:
        said = f"{100 * share:.{digits}f}"
        return f"{float(said):.0f}" if float(said) in (0, 100) else said

    return text


def whole(value: float) -> str:
    """Whole number with a comma between thousands."""
    return f"{value:,.0f}"


def word(value: float) -> str:
    """Word of a whole number up to twelve, digits of another."""
    rounded = round(value)
    return WORDS[rounded] if rounded < len(WORDS) else whole(value)


def all_or(value: float) -> str:
    """``all`` for a share of 1; another share needs another sentence, so its percentage is given."""
    return "all" if value == 1 else f"{percent(1)(value)}%"


@dataclass(frozen=True)
class BundleMetrics:
    """Metrics of a bundle, or of the gate, as the commands wrote them into its ``metrics.json``."""

    folder: Path
    values: Mapping[str, Any]

    @property
    def version(self) -> str:
        return self.folder.name.rpartition("-")[2]

    def figure(self, *keys: str, form: Format = thousandths) -> Figure:
        """Return the number under these keys."""
        found: Any = self.values
        for key in keys:
            found = found[key]
        return Figure(form(found), self._source(".".join(keys)))

    def count(self, *keys: str) -> Figure:
        """Return how many entries stand under these keys."""
        found: Any = self.values
        for key in keys:
            found = found[key]
        return Figure(str(len(found)), self._source(f"entries of {'.'.join(keys)}"))

    def ranged(self, *keys: str, form: Format = thousandths) -> tuple[Figure, ...]:
        """Return a number and its interval, which stand beside each other as ``auc_low`` and ``auc_high``."""
        *path, last = keys
        return tuple(self.figure(*path, f"{last}{end}", form=form) for end in ("", "_low", "_high"))

    def inner(self, *keys: str, of: str = "mean", form: Format = thousandths) -> tuple[Figure, ...]:
        """Return a number and its interval of an object that holds ``low`` and ``high`` beside it."""
        return tuple(self.figure(*keys, end, form=form) for end in (of, "low", "high"))

    def folder_name(self) -> Figure:
        return Figure(self.folder.name, "models/bundles")

    def version_figure(self) -> Figure:
        return Figure(self.version, f"models/bundles/{self.folder.name}")

    def _source(self, place: str) -> str:
        return f"models/bundles/{self.folder.name}/metrics.json: {place}"


@cache
def bundle(name: str) -> BundleMetrics:
    """Metrics of the newest bundle of a name."""
    path = max(
        BUNDLES.glob(f"{name}-*/metrics.json"),
        key=lambda each: [int(part) for part in each.parent.name.rpartition("-")[2].split(".")],
    )
    return BundleMetrics(path.parent, json.loads(path.read_text(encoding="utf-8")))


@cache
def runs() -> tuple[BenchmarkRun, ...]:
    """Runs of the benchmarks that the documents hold, newest first."""
    return tuple(read_runs())


def run_figure(of: str, group: str, form: Format = number) -> Figure:
    """Return a number of the newest run that has a group of benchmarks: its ``load`` or its ``cores``."""
    newest = next(run for run in runs() if any(each.group == group for each in run.rows))
    value = newest.load if of == "load" else newest.machine.cores
    return Figure(form(value), f"{_file(newest)}: {of}")


def row(group: str, name: str, peer: str | None = None) -> tuple[BenchmarkRow, str]:
    """Row of the newest run that measured it, and its file.

    Raises
    ------
    LookupError
        When no run has it.
    """
    for run in runs():
        for each in run.rows:
            if (each.group, each.name) == (group, name) and peer in (None, each.peer):
                return each, _file(run)
    raise LookupError(f"no run in docs/benchmarks has the row {name!r} of {group}; run `make bench`")


def measured(
    group: str, name: str, of: str = "value", peer: str | None = None, form: Format = number
) -> Figure:
    """Return a number of the benchmarks.

    Parameters
    ----------
    of
        Attribute of the row: ``value``, ``peer_value``, ``ratio`` or ``n``.
    peer
        Peer beside which it was measured; None for any.
    """
    found, file = row(group, name, peer)
    beside = f", beside {found.peer}" if of in ("peer_value", "ratio") else ""
    return Figure(form(getattr(found, of)), f"{file}: {group}, {name}{beside}, {of}")


def counted(things: Sized, source: str, form: Format = whole) -> Figure:
    """Return how many things there are, such as the entries of a table in the code."""
    return Figure(form(len(things)), f"entries of {source}")


def _file(run: BenchmarkRun) -> str:
    """Path of a run below the root of the project, as :func:`tests.bench.report.take` names it."""
    return f"docs/benchmarks/{run.date[:10]}-{run.commit.rstrip('+') or 'unknown'}.json"
