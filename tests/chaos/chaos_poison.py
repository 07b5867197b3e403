"""One study that harms its worker, in each of some ways, among innocent ones: they are reported, and it ends.

Run: ``python -m pytest tests/chaos -s -o python_files='chaos_*.py' -k poison``. It prints one line for each
way: the seconds until the innocent ones were reported, and until the harmful one had failed.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from pydicom import dcmread

from dicom_node.store.audit import IndexQueries
from tests.support.conservation import NodeState
from tests.support.dicom_tools import storescu
from tests.support.film_file import read_by_study, write_films
from tests.support.kills import destination_of
from tests.support.peers import Node, StoreSCP, until
from tests.support.poison import HARM, poisoned
from tests.support.sr_content import text_of
from tests.support.tiny_bundle import write_served_bundle

INNOCENT = 6
TRIES = 3


@pytest.mark.peer
@pytest.mark.timeout(600)
@pytest.mark.parametrize("harm", HARM)
def test_one_study_that_harms_its_worker_fails_and_the_others_are_reported_beside_this_poison(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    first, *others = write_films(tmp_path / "films", INNOCENT + 1, rows=160, columns=144)
    uid = str(dcmread(first).StudyInstanceUID)
    for name, value in poisoned(tmp_path / "site", uid, harm).items():
        monkeypatch.setenv(name, value)
    bundle = write_served_bundle(tmp_path / "bundle")
    settings = {"worker__bundle": bundle, "worker__study_seconds": "10"}
    state = NodeState(tmp_path / "node")
    with (
        StoreSCP(tmp_path / "pacs") as pacs,
        Node(tmp_path / "node", [destination_of(pacs)], ready_seconds=180, parallel=True, **settings) as node,
    ):
        begun = time.monotonic()
        assert storescu(node.port, [first]).returncode == 0
        until(lambda: state.studies()["ANALYSING"], 30, "the study that harms is being read")
        assert storescu(node.port, others).returncode == 0
        until(lambda: state.studies()["REPORTED"] == INNOCENT, 240, "the innocent ones are reported")
        reported = time.monotonic() - begun
        until(lambda: state.at_rest(INNOCENT + 1), 240, "all have an outcome")
        failed = time.monotonic() - begun
        assert node.stop() == 0
    (row,) = [each for each in IndexQueries(state.index.engine).studies() if each.study_instance_uid == uid]
    print(f"a study that {harm}: others after {reported:.0f} s, it failed after {failed:.0f} s: {row.reason}")
    assert (row.state, row.attempts) == ("FAILED", TRIES + 1)
    assert f"{TRIES} times" in row.reason
    reports = read_by_study(pacs.files())
    assert len(reports) == INNOCENT + 1
    assert row.reason in text_of(reports[uid][0])
    state.check_audit()
