"""The document of the benchmarks says what the runs beside it say, and nothing of quick tries."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.bench import report
from tests.support.benchmarks import BenchmarkRow, BenchmarkRun, Machine, Target, p99, use_of

RUN = BenchmarkRun(
    date="2024-03-01T12:30:15+00:00",
    commit="0123abcd",
    version="0.1.0",
    load=0.1,
    machine=Machine(2, "A processor", 8.0, "6.1", "3.11.2", versions={"numpy": "2.0"}),
    quick=False,
    rows=(
        BenchmarkRow.measured(
            "receive",
            "10 MB, 4 senders",
            "films/s",
            [30.0, 50.0, 40.0],
            peer="Orthanc",
            peer_samples=[10.0, 12.0],
            target=Target("at least", 2, "ratio"),
        ),
        BenchmarkRow.measured("commands", "help", "s", 0.5, n=9, target=Target("at most", 0.3)),
        BenchmarkRow.measured("results", "bytes", "MB", 1.5),
    ),
)
EMPTY = f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n"


def test_the_document_is_what_the_runs_say() -> None:
    """Mend it with `python -m tests.bench.report`."""
    text = report.DOCUMENT.read_text(encoding="utf-8")
    assert text == report.document(text, report.read_runs())


def test_no_committed_run_was_a_quick_one_and_each_has_its_name() -> None:
    for path in report.RUNS.glob("*.json"):
        run = BenchmarkRun.read(path)
        assert not run.quick
        assert path.name.startswith(run.date[:10])


def test_a_run_is_read_as_it_was_written(tmp_path: Path) -> None:
    RUN.write(tmp_path / "run.json")
    assert BenchmarkRun.read(tmp_path / "run.json") == RUN


def test_a_row_says_its_median_its_spread_its_ratio_and_whether_it_is_met() -> None:
    first, second, third = RUN.rows
    assert (first.value, first.low, first.high, first.n, first.peer_value) == (40, 30, 50, 3, 11)
    assert first.ratio == pytest.approx(40 / 11)
    assert (first.met, second.met, third.met) == (True, False, None)
    assert (second.n, second.low) == (9, None)
    assert BenchmarkRow.measured("g", "p99", "s", list(range(101)), statistic=p99).value == 99


def test_two_rows_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="two rows 'help' beside no peer"):
        RUN.with_row(BenchmarkRow.measured("commands", "help", "s", 1))


def test_a_quick_run_is_not_taken(tmp_path: Path) -> None:
    replace(RUN, quick=True).write(tmp_path / "run.json")
    with pytest.raises(ValueError, match="BENCH_QUICK enters no document"):
        report.take(tmp_path / "run.json", tmp_path)
    replace(RUN, commit="0123abcd+").write(tmp_path / "run.json")
    assert report.take(tmp_path / "run.json", tmp_path).name == "2024-03-01-0123abcd.json"


def test_the_tables_show_rows_verdicts_machine_and_history() -> None:
    older = replace(RUN, date="2024-02-01T00:00:00+00:00", commit="99999999", rows=RUN.rows[1:])
    text = report.document(EMPTY, [RUN, older])
    assert text.startswith(f"before\n{report.BEGIN}\n")
    assert text.endswith(f"\n{report.END}\nafter\n")
    assert "old" not in text
    row = "| 10 MB, 4 senders | 40 films/s | 30 to 50 | 3 | Orthanc | 11 | 3.64 | at least 2 x: met |"
    assert row in text
    assert "| help | 0.5 s |  | 9 |  |  |  | at most 0.3: **missed** |" in text
    assert "| processor | A processor, 2 cores |" in text
    assert "| measured | 2024-03-01 0123abcd | 2024-02-01 99999999 |" in text
    assert "| 10 MB, 4 senders, beside Orthanc | 3.64 x |  |" in text
    assert "| help | 0.5 s | 0.5 s |" in text
    assert "Not measured: no run had a GPU." in text
    assert "not quiet" not in text


def test_a_busy_machine_a_changed_tree_and_failures_are_said() -> None:
    text = report.document(EMPTY, [replace(RUN, load=3.5, commit="0123abcd+", failed=("bench_a.py::b",))])
    assert "The machine was not quiet: load average 3.5 at the start." in text
    assert "The working tree differed" in text
    assert "Failed: `bench_a.py::b`." in text


def test_without_runs_nothing_is_measured() -> None:
    assert "Not measured: no run is here yet." in report.document(EMPTY, [])


def test_the_gpu_s_table_is_that_of_the_newest_run_that_had_one() -> None:
    row = BenchmarkRow.measured("gpu", "network, bf16, batch of 8", "films/s", 900.0)
    machine = replace(RUN.machine, gpu="A GPU")
    older = replace(RUN, date="2024-02-01T00:00:00+00:00", machine=machine, rows=(row,))
    text = report.document(EMPTY, [RUN, older])
    assert (
        f"Of the run of 2024-02-01 00:00 UTC, commit 0123abcd, load average {RUN.load:g}, on A GPU." in text
    )
    assert "| network, bf16, batch of 8 | 900 films/s |" in text


def test_use_counts_a_program_s_own_time_and_children_and_wants_success() -> None:
    busy = "import time\nwhile time.process_time() < 0.2: pass\n"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {busy!r}], check=True)"
    assert use_of([sys.executable, "-c", child]).cpu >= 0.2
    with pytest.raises(AssertionError, match="ended with 3"):
        use_of([sys.executable, "-c", "raise SystemExit(3)"])


def test_the_memory_of_a_program_is_its_own_and_not_that_of_who_asks() -> None:
    held = bytearray(300 * 2**20)
    held[::4096] = b"x" * len(held[::4096])
    assert 1 < use_of([sys.executable, "-c", "pass"]).peak < 100
    del held
