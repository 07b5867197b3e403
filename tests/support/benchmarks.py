"""Records of benchmarks: rows with their peers and targets, and the machine that they ran on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import TypeAdapter

from tests.support.peers import ROOT

PACKAGES = ("numpy", "onnxruntime", "pydicom", "pynetdicom", "torch")
QUICK = os.environ.get("BENCH_QUICK", "") not in ("", "0")
"""Whether this is a try of the benchmarks: few measurements, whose results enter no document."""

Statistic = Callable[[Sequence[float]], float]


def few(full: int, quick: int) -> int:
    """Number of measurements: the second where BENCH_QUICK is set."""
    return quick if QUICK else full


def p50(samples: Sequence[float]) -> float:
    return statistics.median(samples)


def p99(samples: Sequence[float]) -> float:
    return float(np.percentile(samples, 99))


@dataclass(frozen=True, slots=True)
class Target:
    """Bound that a row should keep, on its value or on its ratio to the peer."""

    kind: Literal["at least", "at most"]
    bound: float
    of: Literal["value", "ratio"] = "value"

    def met(self, found: float) -> bool:
        return found >= self.bound if self.kind == "at least" else found <= self.bound

    def __str__(self) -> str:
        return f"{self.kind} {self.bound:g}{' x' if self.of == 'ratio' else ''}"


@dataclass(frozen=True, slots=True)
class BenchmarkRow:
    """One measured quantity.

    Attributes
    ----------
    group
        Benchmark that measured it, such as ``receive``.
    name, unit
        Name within the group, unique together with the peer, and the unit of the value.
    value
        Statistic of `n` measurements.
    low, high
        Least and greatest measurement; None of a single one.
    peer, peer_value
        What was measured beside it in the same run, and its value in the same unit; empty and None without.
    target
        Bound that the documents state; None without.
    """

    group: str
    name: str
    unit: str
    value: float
    n: int
    low: float | None = None
    high: float | None = None
    peer: str = ""
    peer_value: float | None = None
    target: Target | None = None

    @property
    def ratio(self) -> float | None:
        """Value divided by that of the peer."""
        return self.value / self.peer_value if self.peer_value else None

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without one."""
        if self.target is None:
            return None
        found = self.value if self.target.of == "value" else self.ratio
        return found is not None and self.target.met(found)

    @classmethod
    def measured(
        cls,
        group: str,
        name: str,
        unit: str,
        samples: float | Sequence[float],
        *,
        statistic: Statistic = p50,
        n: int | None = None,
        peer: str = "",
        peer_samples: float | Sequence[float] = (),
        target: Target | None = None,
    ) -> BenchmarkRow:
        """Make a row of measurements; `n` says how many stand behind a single number."""
        ours, theirs = (
            [float(samples)] if isinstance(samples, (int, float)) else [float(one) for one in samples],
            [float(peer_samples)] if isinstance(peer_samples, (int, float)) else list(peer_samples),
        )
        several = len(ours) > 1
        return cls(
            group,
            name,
            unit,
            _rounded(statistic(ours)),
            n or len(ours),
            _rounded(min(ours)) if several else None,
            _rounded(max(ours)) if several else None,
            peer,
            _rounded(statistic(theirs)) if theirs else None,
            target,
        )


def _rounded(value: float) -> float:
    """Four significant digits: no benchmark is better than that."""
    return float(f"{value:.4g}")


@dataclass(frozen=True, slots=True)
class Machine:
    """Machine and programs of a run."""

    cores: int
    cpu: str
    memory_gib: float
    kernel: str
    python: str
    gpu: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def this(cls) -> Machine:
        found = {name: _version(name) for name in PACKAGES}
        found |= {
            "Orthanc": _first_number("Orthanc", "--version"),
            "DCMTK": _first_number("storescp", "--version"),
        }
        return cls(
            cores=len(os.sched_getaffinity(0)),
            cpu=_proc("cpuinfo", r"model name\s*:\s*(.+)"),
            memory_gib=round(int(_proc("meminfo", r"MemTotal:\s*(\d+)")) / 2**20, 1),
            kernel=platform.release(),
            python=platform.python_version(),
            gpu=_gpu(),
            versions={name: version for name, version in found.items() if version},
        )


def _proc(name: str, pattern: str) -> str:
    found = re.search(pattern, Path("/proc", name).read_text())
    return found.group(1).strip() if found else "0"


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _first_number(*command: str) -> str:
    if shutil.which(command[0]) is None:
        return ""
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    found = re.search(r"\d+(?:\.\d+)+", said)
    return found.group(0) if found else ""


def _gpu() -> str:
    command = ("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")
    if shutil.which(command[0]) is None:
        return ""
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    return said.stdout.strip().splitlines()[0] if said.returncode == 0 and said.stdout.strip() else ""


@dataclass(frozen=True, slots=True)
class BenchmarkRun:
    """Everything that one run measured.

    Attributes
    ----------
    date
        Start of the run, UTC, as ISO 8601.
    commit
        Short hash of the commit, with ``+`` behind it where the working tree differs; empty without git.
    load
        Load average of the last minute at the start: above about a tenth of the cores, others were working.
    quick
        True for a try with few measurements.
    failed
        Benchmarks that failed.
    """

    date: str
    commit: str
    version: str
    load: float
    machine: Machine
    quick: bool = False
    failed: tuple[str, ...] = ()
    rows: tuple[BenchmarkRow, ...] = ()

    @classmethod
    def begin(cls) -> BenchmarkRun:
        return cls(
            date=datetime.now(UTC).isoformat(timespec="seconds"),
            commit=_git("rev-parse", "--short=8", "HEAD")
            + ("+" if _git("status", "--porcelain", "--untracked-files=no") else ""),
            version=_version("dicom-node"),
            load=round(os.getloadavg()[0], 2),
            machine=Machine.this(),
            quick=QUICK,
        )

    def with_row(self, row: BenchmarkRow) -> BenchmarkRun:
        if any((one.group, one.name, one.peer) == (row.group, row.name, row.peer) for one in self.rows):
            raise ValueError(f"{row.group} has two rows {row.name!r} beside {row.peer or 'no peer'}")
        return replace(self, rows=(*self.rows, row))

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_RUN.dump_json(self, indent=1, exclude_defaults=True) + b"\n")

    @classmethod
    def read(cls, path: Path) -> BenchmarkRun:
        return _RUN.validate_json(path.read_bytes())


_RUN = TypeAdapter(BenchmarkRun)


def _git(*words: str) -> str:
    ended = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=False)
    return ended.stdout.strip()


def number(value: float | None) -> str:
    """Number with three significant digits, for a table."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def seconds_of(work: Callable[[], object], runs: int, *, warm_up: int = 1) -> list[float]:
    """Seconds of each of several runs, after some that are not counted."""
    taken = []
    for each in range(warm_up + runs):
        before = time.perf_counter()
        work()
        if each >= warm_up:
            taken.append(time.perf_counter() - before)
    return taken


@dataclass(frozen=True, slots=True)
class Use:
    """What a program used until it ended, its children included: seconds, and peak memory in MiB."""

    wall: float
    cpu: float
    peak: float


# A program counts the memory of what starts it as its own: so a small one starts it.
_LAUNCHER = """
import resource, subprocess, sys, time
before = time.perf_counter()
code = subprocess.run(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=sys.stderr).returncode
wall, used = time.perf_counter() - before, resource.getrusage(resource.RUSAGE_CHILDREN)
print(wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)
sys.exit(code)
"""


def use_of(argv: Sequence[str], environment: Mapping[str, str] | None = None) -> Use:
    """Run a program to its end, which must be a success."""
    done = subprocess.run(
        [sys.executable, "-S", "-c", _LAUNCHER, *argv],
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{argv} ended with {done.returncode}: {done.stderr}"
    return Use(*map(float, done.stdout.split()))


Record = Callable[..., Any]
"""Fixture ``record``: takes the arguments of :meth:`BenchmarkRow.measured` without the group."""
