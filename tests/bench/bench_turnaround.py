"""From the release of the association to the report at the destination, and films a second on that way.

The report is there when storescp has written the last byte of its file. The peer of a film's way is storescp
itself: the time in which the same sender stores the same film there.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import Comprehensive3DSRStorage

from tests.support.benchmarks import Record, Target, few, p50, p99
from tests.support.film_traffic import DEFAULTS, REPORTS, SIDES, Films, reports, send
from tests.support.peers import Node, StoreSCP, until
from tests.support.process_use import cpu_seconds

RUNS = few(200, 5)
PEER_RUNS = few(40, 3)
SUSTAINED = few(200, 20)
PAUSE = {"0.5 MB": 1.0, "10 MB": 2.0}
"""Seconds from one study to the next where each waits for its quiet time, so that several wait at once."""
TARGETS = {"0.5 MB": Target("at most", 0.2), "10 MB": Target("at most", 0.5)}


def arrived(pacs: StoreSCP) -> dict[str, float]:
    """Time at which the reports of each study were complete at the destination, by Study Instance UID."""
    found: dict[str, float] = {}
    for path in reports(pacs):
        ds = dcmread(path, specific_tags=["SOPClassUID", "StudyInstanceUID"])
        assert ds.SOPClassUID == Comprehensive3DSRStorage
        study = str(ds.StudyInstanceUID)
        found[study] = max(found.get(study, 0.0), path.stat().st_mtime)
    return found


def quiet(pacs: StoreSCP, seconds: float = 0.4) -> None:
    """Wait until nothing more arrives at the destination."""
    count, since = -1, time.monotonic()

    def still() -> bool:
        nonlocal count, since
        if (now := len(pacs.files())) != count:
            count, since = now, time.monotonic()
        return time.monotonic() - since > seconds

    until(still, 60, "quiet at the destination")


@pytest.fixture
def pacs(tmp_path: Path) -> Iterator[StoreSCP]:
    with StoreSCP(tmp_path / "pacs") as running:
        yield running


@pytest.mark.peer
@pytest.mark.parametrize("size", SIDES)
def test_release_to_report_of_a_lone_study(size: str, tmp_path: Path, pacs: StoreSCP, record: Record) -> None:
    films = Films(size, tmp_path)
    taken, peers = [], []
    with (
        Node(tmp_path / "node", [pacs.destination], parallel=True, **DEFAULTS) as node,
        StoreSCP(tmp_path / "plain", "PLAIN") as plain,
    ):
        for number in range(1 + RUNS):
            study, uid, data_set = films.film(number)
            if number < PEER_RUNS:
                before = time.time()
                peers.append(send(plain.port, "PLAIN", [(uid, data_set)]) - before)
            released = send(node.port, "DICOM_NODE", [(uid, data_set)])
            until(lambda: len(reports(pacs)) == REPORTS, 60, "the reports")
            quiet(pacs)
            if number:  # the first loads what a study needs
                taken.append(arrived(pacs)[study] - released)
            for path in pacs.files():
                path.unlink()
    name = f"release to report, {size}"
    peer = "storescp takes the film"
    record(f"{name}, p50", "s", taken, statistic=p50, peer=peer, peer_samples=peers, target=TARGETS[size])
    record(f"{name}, p99", "s", taken, statistic=p99, target=Target("at most", 1))


@pytest.mark.peer
@pytest.mark.parametrize("size", SIDES)
def test_release_to_report_with_the_default_quiet_time(
    size: str, tmp_path: Path, pacs: StoreSCP, record: Record
) -> None:
    films = Films(size, tmp_path)
    released = {}
    with Node(
        tmp_path / "node", [pacs.destination], parallel=True, **DEFAULTS | {"study__quiet_seconds": "5"}
    ) as node:
        began = time.monotonic()
        for number in range(1 + RUNS):
            study, uid, data_set = films.film(number)
            while time.monotonic() < began + number * PAUSE[size]:
                time.sleep(0.005)
            released[study] = send(node.port, "DICOM_NODE", [(uid, data_set)])
        until(lambda: len(reports(pacs)) == REPORTS * len(released), 120, "all reports")
        at = arrived(pacs)
    taken = [at[study] - when for study, when in list(released.items())[1:]]
    name = f"release to report, {size}, quiet time of 5 s, one study each {PAUSE[size]:g} s"
    record(f"{name}, p50", "s", taken, statistic=p50)
    record(f"{name}, p99", "s", taken, statistic=p99)


@pytest.mark.peer
@pytest.mark.parametrize("size", SIDES)
def test_films_a_second_sustained(size: str, tmp_path: Path, pacs: StoreSCP, record: Record) -> None:
    films = Films(size, tmp_path)
    count = SUSTAINED if size == "0.5 MB" else SUSTAINED // 2
    cores = len(os.sched_getaffinity(0))
    with Node(tmp_path / "node", [pacs.destination], parallel=True, **DEFAULTS) as node:
        _, uid, data_set = films.film(0)
        send(node.port, "DICOM_NODE", [(uid, data_set)])
        until(lambda: len(reports(pacs)) == REPORTS, 60, "the first reports")
        quiet(pacs)
        parts = node.children()
        before = {part: sum(map(cpu_seconds, pids)) for part, pids in parts.items()}
        many = [films.film(number)[1:] for number in range(1, 1 + count)]
        began = time.time()
        send(node.port, "DICOM_NODE", many)
        until(lambda: len(reports(pacs)) == REPORTS * (1 + count), 600, "all reports")
        rate = count / (max(arrived(pacs).values()) - began)
        quiet(pacs, 2)
        used = {part: (sum(map(cpu_seconds, pids)) - before[part]) / count for part, pids in parts.items()}
    allowed = cores / sum(used.values())
    record(
        f"receive, read and deliver, {size}",
        "films/s",
        rate,
        n=count,
        peer=f"{cores} cores / processor time of a film",
        peer_samples=allowed,
        target=Target("at least", 20) if size == "0.5 MB" else None,
    )
    for part in ("scp", "worker", "sender"):
        record(f"processor time of a film in the {part}, {size}", "ms", 1000 * used[part], n=count)
