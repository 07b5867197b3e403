"""Steady load on a whole node: films, results, pages and DICOMweb, and what its processes take meanwhile."""

from __future__ import annotations

import contextlib
import random
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import httpx
import numpy as np
import pytest

from tests.support.conservation import NodeState
from tests.support.film_stream import FilmStream
from tests.support.kills import destination_of
from tests.support.peers import Node, StoreSCP, until
from tests.support.process_use import ProcessUse
from tests.support.tiny_bundle import write_served_bundle

_SAMPLE_SECONDS = 1.0
_GROWTH, _GROWTH_KIB = 0.10, 24 << 10
"""What memory may grow by in the second half: a share of it, and allocators' noise, in KiB."""
_MORE = 6
"""Descriptors and threads that the last quarter may have more than the second."""


class Readers:
    """Thread that asks for pages, pictures and DICOMweb until the end of the block.

    Attributes
    ----------
    statuses
        Number of answers by status.
    """

    def __init__(self, node: Node, pause: float = 0.2) -> None:
        self.statuses: Counter[int] = Counter()
        self._page = node.page
        self._pause = pause
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        with httpx.Client(trust_env=False, timeout=60) as client:
            while not self._stop.is_set():
                studies = self._get(client, "dicom-web/instances?limit=20").json() or [{}]
                for each in studies[::5]:
                    found = {tag: value["Value"][0] for tag, value in each.items() if value.get("Value")}
                    for path in self._paths(found):
                        self._get(client, path)
                        self._stop.wait(self._pause)

    @staticmethod
    def _paths(found: dict[str, str]) -> list[str]:
        paths = ["", "healthz", "readyz", "api/v1/status", "api/v1/studies", "metrics"]
        if "00080018" in found:
            of_study = f"dicom-web/studies/{found['0020000D']}"
            of_instance = f"{of_study}/series/{found['0020000E']}/instances/{found['00080018']}"
            paths += [of_instance + end for end in ("", "/metadata", "/rendered", "/thumbnail")]
        return paths

    def _get(self, client: httpx.Client, path: str) -> httpx.Response:
        answer = client.get(self._page + path)
        self.statuses[answer.status_code] += 1
        return answer

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(120)


@contextlib.contextmanager
def _own_temporary_files() -> Iterator[Path]:
    """Folder for the temporary files of what is started in the block.

    It is not in the folder of a test, whose path may be too long for the socket of the broker.
    """
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as environment:
        environment.setenv("TMPDIR", folder)
        yield Path(folder)


def soak(folder: Path, seconds: float) -> dict[str, str]:
    """Run a node under a steady load, and assert that it takes no more in the end than in the beginning.

    Parameters
    ----------
    folder
        Empty folder.
    seconds
        Length of the load.

    Returns
    -------
    dict
        One line for each part of the node: memory at first and at last, descriptors, threads.
    """
    bundle = write_served_bundle(folder / "bundle")
    settings = {
        "worker__bundle": bundle,
        "worker__threads": "1",
        "results__saliency_limit": "1",
        "web__patient": "name",
        "web__requests_per_minute": "1000000",
        "log_level": "WARNING",
    }
    temporary: list[int] = []
    with (
        _own_temporary_files() as temporary_files,
        StoreSCP(folder / "pacs") as pacs,
        Node(folder / "node", [destination_of(pacs)], ready_seconds=180, parallel=True, **settings) as node,
    ):
        before = node.children()
        films = FilmStream(folder / "films", node.port, random.Random(1), pause=2, chests=0.3)
        with films, Readers(node) as readers, ProcessUse(node, _SAMPLE_SECONDS) as use:
            stop = threading.Event()
            while len(temporary) < seconds / _SAMPLE_SECONDS:
                temporary.append(_files_in(temporary_files, folder / "node"))
                stop.wait(_SAMPLE_SECONDS)
        state = NodeState(folder / "node")
        until(lambda: state.at_rest(len(films.acknowledged)), 60 + seconds, "every study has an outcome")
        assert node.children() == before, "a process has ended"
        assert node.cli("status", "--audit", "--read-files").returncode == 0
        assert node.stop(seconds=60) == 0
    assert "Traceback" not in node.output
    assert not list((folder / "node" / "spool" / "incoming").iterdir())
    state.check_films(films.acknowledged)
    assert set(readers.statuses) <= {200, 404, 503}, readers.statuses
    assert readers.statuses[200] > seconds / 2
    found = {}
    for part, memory in use.memory.items():
        at_first, at_last = _ends(memory)
        found[part] = (
            f"{at_first / 1024:.0f} to {at_last / 1024:.0f} MiB, {max(use.descriptors[part])} descriptors, "
            f"{max(use.threads[part])} threads"
        )
        assert at_last - at_first < _GROWTH * at_first + _GROWTH_KIB, (part, found[part], memory)
        for counted in (use.descriptors[part], use.threads[part]):
            assert _grown(counted) <= _MORE, (part, found[part], counted)
    assert _grown(temporary) <= _MORE, temporary
    found["load"] = f"{len(films.acknowledged)} films, {sum(readers.statuses.values())} requests"
    return found


def _ends(samples: list[int]) -> tuple[float, float]:
    """Begin and end of a straight line through the second half."""
    half = samples[len(samples) // 2 :]
    slope, at_first = np.polyfit(np.arange(len(half)), half, 1)
    return float(at_first), float(at_first + slope * (len(half) - 1))


def _grown(samples: list[int]) -> int:
    """How much more the last quarter has than the second, each at most."""
    quarter = len(samples) // 4
    return max(samples[-quarter:]) - max(samples[quarter : 2 * quarter])


def _files_in(temporary: Path, data_dir: Path) -> int:
    return sum(1 for folder in (temporary, data_dir / "spool" / "incoming") for _ in folder.rglob("*"))
