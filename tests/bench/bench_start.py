"""Start of a node, and the memory of its worker after some films."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.benchmarks import Record, Target, few
from tests.support.film_traffic import DEFAULTS, REPORTS, Films, reports, send
from tests.support.peers import Node, StoreSCP, until
from tests.support.process_use import peak


@pytest.fixture
def pacs(tmp_path: Path) -> Iterator[StoreSCP]:
    with StoreSCP(tmp_path / "pacs") as running:
        yield running


@pytest.mark.peer
@pytest.mark.parametrize(
    ("runtime", "ready", "memory"),
    [
        ("onnx", Target("at most", 6), Target("at most", 350)),
        ("torch", Target("at most", 12), Target("at most", 900)),
    ],
)
def test_start_and_memory(
    runtime: str, ready: Target, memory: Target, tmp_path: Path, pacs: StoreSCP, record: Record
) -> None:
    films = Films("10 MB", tmp_path)
    count = few(12, 4)
    starts = []
    for _ in range(few(5, 1)):
        with Node(
            tmp_path / "node", parallel=True, worker__runtime=runtime, retrieval__enabled="true"
        ) as node:
            starts.append(node.seconds_to_ready)
    settings = DEFAULTS | {"worker__runtime": runtime}
    with Node(tmp_path / "node", [pacs.destination], parallel=True, **settings) as node:
        send(node.port, "DICOM_NODE", [films.film(number)[1:] for number in range(count)])
        until(lambda: len(reports(pacs)) == REPORTS * count, 300, "all reports")
        peaks = {part: max(map(peak, pids)) for part, pids in node.children().items()}
    record(f"serve until it is ready, {runtime}", "s", starts, target=ready)
    record(f"peak memory of the worker, 10 MB, {runtime}", "MiB", peaks["worker"], n=count, target=memory)
