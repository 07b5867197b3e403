"""What a node prints from its start to its end: its own log, line by line, and nobody's name."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.support import factories
from tests.support.kills import destination_of
from tests.support.peers import Node, StoreSCP
from tests.support.tiny_bundle import write_served_bundle

LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (?P<level>[A-Z]+) +\S+\[\d+\] \S+ .+|ready: .+")
IDENTIFYING = {
    "patient_name": "Quagmire^Zebedee",
    "patient_id": "QX-77123",
    "StudyDescription": "Vermillion thorax",
    "AccessionNumber": "ACC-990017",
    "InstitutionName": "Saint Elsewhere",
}


@pytest.mark.peer
@pytest.mark.timeout(300)
def test_every_line_is_one_of_the_log_and_none_names_a_patient(tmp_path: Path) -> None:
    bundle = write_served_bundle(tmp_path / "bundle")
    film = factories.film(**IDENTIFYING)
    factories.write(film, tmp_path / "film.dcm")
    with (
        StoreSCP(tmp_path / "pacs") as pacs,
        Node(tmp_path / "node", [destination_of(pacs)], worker__bundle=bundle) as node,
    ):
        sent = node.cli("send", str(tmp_path / "film.dcm"), "--to", f"DICOM_NODE@127.0.0.1:{node.port}")
        assert sent.returncode == 0, sent.stderr
        assert node.settled(1)["studies"]["REPORTED"] == 1
        assert not (tmp_path / "node" / "broker").exists()
    read = {line: LINE.fullmatch(line) for line in node.output.splitlines()}
    assert [line for line, found in read.items() if not found] == []
    warned = [line for line, found in read.items() if found and found["level"] not in ("INFO", None)]
    rooted = [line for line in warned if "running as root" in line]
    assert len(rooted) == (os.geteuid() == 0)
    assert warned == rooted
    for word in (
        *IDENTIFYING.values(),
        film.StudyInstanceUID,
        film.SeriesInstanceUID,
        film.SOPInstanceUID,
    ):
        assert word not in node.output
