"""SCP processes that share a port: what they acknowledged is there, however they end."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dicom_node.config.data_dir import DataDir
from tests.support.film_file import FilmFile
from tests.support.film_senders import assert_all_kept, load
from tests.support.peers import until
from tests.support.scp_processes import ScpProcesses

MakeFilm = Callable[..., FilmFile]


@pytest.fixture
def small(film: MakeFilm) -> FilmFile:
    return film(rows=300, columns=300)


def test_both_processes_serve_and_one_may_die(tmp_path: Path, small: FilmFile) -> None:
    with ScpProcesses(tmp_path, 2) as scp:
        with load(scp.port, small, 8) as senders:
            until(lambda: all(sender.acknowledged for sender in senders), 30, "all senders are served")
        assert all(Path(f"/proc/{pid}").exists() for pid in scp.pids)
        os.kill(scp.pids[0], signal.SIGKILL)
        scp.processes[0].wait(10)
        with load(scp.port, small, 2) as senders:
            until(lambda: all(sender.acknowledged for sender in senders), 30, "the other one serves")


def test_who_was_too_late_for_a_connection_does_not_wait_for_the_next_and_ends(
    tmp_path: Path, small: FilmFile
) -> None:
    with ScpProcesses(tmp_path, 4) as scp:
        with load(scp.port, small, 8) as senders:
            until(lambda: all(sender.acknowledged for sender in senders), 30, "all senders are served")
        # The flag is of the socket that all of them share.
        assert not os.get_blocking(scp.listening.fileno())
        assert scp.stop(5) == [0] * 4


def test_sigterm_under_load_finishes_what_was_begun_and_exits_0(tmp_path: Path, small: FilmFile) -> None:
    with ScpProcesses(tmp_path, 2) as scp:
        with load(scp.port, small) as senders:
            until(lambda: sum(len(sender.acknowledged) for sender in senders) > 20, 30, "load")
            begun = time.monotonic()
            assert scp.stop() == [0, 0]
            assert time.monotonic() - begun < 20
            for sender in senders:
                sender.join(10)
        assert_all_kept(scp.settings, [uid for sender in senders for uid in sender.acknowledged])
        assert list(DataDir(scp.settings).spool.incoming.iterdir()) == []
        assert "Traceback" not in scp.log.read_text()


def test_a_log_that_cannot_be_written_loses_nothing(tmp_path: Path, small: FilmFile) -> None:
    """Every write to /dev/full fails as it does on a full disk."""
    with ScpProcesses(tmp_path, 2, log=Path("/dev/full"), log_level="DEBUG") as scp:
        with load(scp.port, small) as senders:
            until(lambda: sum(len(sender.acknowledged) for sender in senders) > 60, 60, "load")
        assert not any(sender.aborted for sender in senders)
        assert scp.stop() == [0, 0]
        assert_all_kept(scp.settings, [uid for sender in senders for uid in sender.acknowledged])
    assert list(DataDir(scp.settings).spool.incoming.iterdir()) == []


@pytest.mark.parametrize("attempt", range(3))
def test_what_was_acknowledged_survives_a_kill(tmp_path: Path, small: FilmFile, attempt: int) -> None:
    with ScpProcesses(tmp_path, 2) as scp:
        with load(scp.port, small) as senders:
            until(lambda: sum(len(one.acknowledged) for one in senders) > 5 + 7 * attempt, 30, "load")
            for pid in scp.pids:
                os.kill(pid, signal.SIGKILL)
            for sender in senders:
                sender.join(10)
        acknowledged = [uid for sender in senders for uid in sender.acknowledged]
        assert_all_kept(scp.settings, acknowledged)
        DataDir(scp.settings).spool.prepare(alone=True)
        assert list(DataDir(scp.settings).spool.incoming.iterdir()) == []


def test_a_process_stays_small_under_many_large_films(tmp_path: Path, film: MakeFilm) -> None:
    large = film(rows=1800, columns=1500)
    with ScpProcesses(tmp_path, 1) as scp:
        with load(scp.port, large, 16) as senders:
            until(
                lambda: all(len(sender.acknowledged) > 1 for sender in senders), 90, "all senders are served"
            )
        status = Path(f"/proc/{scp.pids[0]}/status").read_text()
        peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
        assert peak < 200 * 1024, f"{peak / 1024:.0f} MiB"
