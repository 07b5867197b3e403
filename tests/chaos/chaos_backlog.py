"""Thousands of studies that wait at once: all end, none is queued twice, and people are answered meanwhile.

Run: ``python -m pytest tests/chaos -s -o python_files='chaos_*.py' -k backlog``. It prints how long it took,
and the longest waits of ``status``, of the page and of C-ECHO meanwhile. ``CHAOS_STUDIES`` is the number of
studies: nine in ten hold a result of a node, which is kept and set aside, the others a film that is refused.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from dicom_node.config.settings import Settings
from dicom_node.store.index import Index
from tests.support import factories
from tests.support.conservation import NodeState
from tests.support.index_records import received_instance
from tests.support.kills import destination_of
from tests.support.peers import Node, StoreSCP
from tests.support.tiny_bundle import write_served_bundle

STUDIES = int(os.environ.get("CHAOS_STUDIES", "5000"))
SECONDS = 3000
PATIENCE = 10
"""Longest wait for an answer, in seconds."""


def receive(state: NodeState, index: Index) -> None:
    """Receive all studies, as the SCP does, before the node starts."""
    film = factories.film(rows=64, columns=64, body_part="HAND")
    content = factories.encoded(film)
    ours = [str(film[name].value).encode() for name in ("SOPInstanceUID", "StudyInstanceUID")]
    for number in range(STUDIES):
        own_result = number % 10 > 0
        sop, study = (uid[:-5] + b"%05d" % number for uid in ours)
        kept = state.folders.spool.keep(content.replace(ours[0], sop).replace(ours[1], study))
        fields = {"size": kept.size, "file": kept.name, "own_result": own_result}
        index.add_instance(received_instance(sop.decode(), study.decode(), kept.digest, **fields))


def timed(what: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    begun = time.monotonic()
    what()
    return time.monotonic() - begun


@pytest.mark.peer
@pytest.mark.timeout(SECONDS + 600)
def test_a_backlog_ends_and_people_are_answered_meanwhile(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "node")
    bundle = write_served_bundle(tmp_path / "bundle")
    settings.data_dir.mkdir()
    index = Index.open(settings.database)
    state = NodeState(settings.data_dir)
    state.folders.prepare(alone=True)
    receive(state, index)
    waits: dict[str, list[float]] = {"status": [], "page": [], "C-ECHO": []}
    with (
        StoreSCP(tmp_path / "pacs") as pacs,
        Node(
            settings.data_dir,
            [destination_of(pacs)],
            ready_seconds=180,
            parallel=True,
            worker__bundle=bundle,
            study__requeue_seconds="20",
        ) as node,
    ):
        echo = ["echoscu", "-to", "30", "-aec", "DICOM_NODE", "127.0.0.1", str(node.port)]
        begun = time.monotonic()
        while not state.at_rest(STUDIES):
            assert time.monotonic() - begun < SECONDS, state.studies()
            waits["status"].append(timed(node.status))
            waits["page"].append(timed(lambda: urllib.request.urlopen(node.page, timeout=60).read()))
            waits["C-ECHO"].append(timed(lambda: subprocess.run(echo, check=True, capture_output=True)))
        took = time.monotonic() - begun
        assert node.stop() == 0
    queued = Counter(re.findall(r"worker\.sweep\[\d+\] (\w+) revision 1 is complete and queued", node.output))
    print(
        f"{STUDIES} studies ended in {took:.0f} s; queued: {Counter(queued.values())}; longest waits: ",
        end="",
    )
    print(", ".join(f"{name} {max(each):.1f} s of {len(each)}" for name, each in waits.items()))
    assert sum(queued.values()) == STUDIES
    assert set(queued.values()) == {1}
    assert state.studies() == {"SKIPPED": STUDIES}
    assert max(max(each) for each in waits.values()) < PATIENCE
    state.check_audit()
