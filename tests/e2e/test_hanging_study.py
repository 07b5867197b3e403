"""A study that hangs, in a node whose log is JSON from its first line to its last, and one that crashes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydicom import dcmread

from tests.support.dicom_tools import storescu
from tests.support.film_file import write_films
from tests.support.peers import Node, StoreSCP
from tests.support.poison import poisoned
from tests.support.sr_content import text_of
from tests.support.tiny_bundle import write_served_bundle


@pytest.mark.timeout(420)
def test_a_study_that_hangs_fails_with_a_report_and_holds_up_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, *others = write_films(tmp_path / "films", 4)
    uid = str(dcmread(first).StudyInstanceUID)
    for name, value in poisoned(tmp_path / "site", uid, "hangs").items():
        monkeypatch.setenv(name, value)
    settings = {"worker__study_seconds": "20", "worker__max_attempts": "1", "log_format": "json"}
    with (
        StoreSCP(tmp_path / "pacs") as pacs,
        Node(tmp_path / "node", [pacs.destination], ready_seconds=170, parallel=True, **settings) as node,
    ):
        assert storescu(node.port, [first]).returncode == 0
        assert storescu(node.port, others).returncode == 0
        status = node.settled(4, seconds=300)
        assert status["audit"]["conserved"]
        assert status["studies"]["FAILED"] == 1
        assert status["studies"]["REPORTED"] == 3
        (report,) = [ds for ds in map(dcmread, pacs.files()) if ds.StudyInstanceUID == uid]
        assert "took longer than 20 s (worker.study_seconds)" in text_of(report)
        assert node.stop() == 0
    lines = [json.loads(line) for line in node.lines if not line.startswith("ready: ")]
    said = [line["message"] for line in lines if line["logger"] == "worker.pipeline"]
    assert sum("REPORTED" in message for message in said) == 3
    assert any("the worker ends" in message for message in said)
    assert any("FAILED" in message and "worker.study_seconds" in message for message in said)


@pytest.mark.peer
@pytest.mark.timeout(420)
def test_a_study_that_crashes_its_worker_fails_with_a_report_and_the_others_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, *others = write_films(tmp_path / "films", 3, rows=160, columns=144)
    uid = str(dcmread(first).StudyInstanceUID)
    for name, value in poisoned(tmp_path / "site", uid, "crashes").items():
        monkeypatch.setenv(name, value)
    bundle = write_served_bundle(tmp_path / "bundle")
    settings = {"worker__bundle": bundle, "worker__max_attempts": "1"}
    with (
        StoreSCP(tmp_path / "pacs") as pacs,
        Node(tmp_path / "node", [pacs.destination], ready_seconds=170, parallel=True, **settings) as node,
    ):
        assert storescu(node.port, [first, *others]).returncode == 0
        status = node.settled(3, seconds=200)
        assert status["audit"]["conserved"]
        assert (status["studies"]["FAILED"], status["studies"]["REPORTED"]) == (1, 2)
        (report,) = [ds for ds in map(dcmread, pacs.files()) if ds.StudyInstanceUID == uid]
        assert "ended its worker 1 times" in text_of(report)
        assert node.stop() == 0
