"""Studies of thousands of films, one after another: memory and descriptors of a node stay as they were.

Run: ``python -m pytest tests/chaos -s -o python_files='chaos_*.py' -k large_study``. It prints memory and
descriptors of the worker and the receiver while each study was received and read. ``CHAOS_FILMS`` is the
number of films in a study.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.support import factories
from tests.support.conservation import NodeState
from tests.support.dicom_tools import storescu
from tests.support.kills import destination_of
from tests.support.peers import Node, StoreSCP, until
from tests.support.process_use import ProcessUse
from tests.support.tiny_bundle import write_served_bundle

FILMS = int(os.environ.get("CHAOS_FILMS", "2000"))
STUDIES = 3
KIB_A_FILM = 80
"""Most memory for each film while its study is read, in KiB: its header, and its entry in the report."""
KIB_AFTER = 40_960
"""Most memory that a later study of the same size takes beyond the first one, in KiB."""


def write_study(folder: Path, number: int, films: int = FILMS) -> list[Path]:
    """Write the films of a study; apart from their UIDs they are one film."""
    film = factories.film(rows=64, columns=64, study=f"large-{number}", series=number)
    content, uid = factories.encoded(film), str(film.SOPInstanceUID).encode()
    folder.mkdir()
    paths = [folder / f"{each}.dcm" for each in range(films)]
    for each, path in enumerate(paths):
        path.write_bytes(content.replace(uid, uid[:-5] + b"%05d" % each))
    return paths


@pytest.mark.peer
@pytest.mark.timeout(3600)
def test_a_large_study_takes_memory_for_itself_and_gives_it_back(tmp_path: Path) -> None:
    bundle = write_served_bundle(tmp_path / "bundle")
    settings = {"worker__bundle": bundle, "study__quiet_seconds": "15"}
    state = NodeState(tmp_path / "node")
    peaks: dict[str, list[int]] = {"worker": [], "scp": []}
    with (
        StoreSCP(tmp_path / "pacs") as pacs,
        Node(tmp_path / "node", [destination_of(pacs)], ready_seconds=180, parallel=True, **settings) as node,
    ):
        # The first film of all starts the decoder and makes the network take its working memory.
        assert storescu(node.port, write_study(tmp_path / "small", STUDIES, films=1)).returncode == 0
        until(lambda: state.at_rest(1), 120, "the first film has an outcome")
        for number in range(STUDIES):
            paths = write_study(tmp_path / f"study-{number}", number)
            begun = time.monotonic()
            with ProcessUse(node) as use:
                for first in range(0, FILMS, 250):
                    assert storescu(node.port, paths[first : first + 250]).returncode == 0
                received = time.monotonic() - begun
                until(lambda count=number: state.at_rest(count + 2), 900, "the study has an outcome")
            print(f"study {number + 1} of {FILMS} films: received in {received:.0f} s", end="")
            print(f", reported after {time.monotonic() - begun:.0f} s")
            for part, before in peaks.items():
                memory, opened = use.memory[part], use.descriptors[part]
                before.append(max(memory))
                print(f"  {part}: {min(memory) // 1024} to {max(memory) // 1024} MiB", end="")
                print(f", {min(opened)} to {max(opened)} descriptors")
                assert max(memory) - min(memory) < KIB_A_FILM * FILMS + KIB_AFTER
                assert max(opened) - min(opened) <= 40
        assert node.stop() == 0
    assert state.studies() == {"REPORTED": STUDIES + 1}
    for part, (first, *later) in peaks.items():
        assert max(later) - first < KIB_AFTER, (part, first, later)
    state.check_audit()
