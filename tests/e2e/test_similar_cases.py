"""Report of similar cases: a fresh node sends it with the other results, from the index of the package."""

from __future__ import annotations

import json
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.uid import Comprehensive3DSRStorage

from dicom_node.results.validation import dciodvfy
from tests.support.dicom_tools import storescu
from tests.support.film_file import write_films
from tests.support.peers import Node, StoreSCP
from tests.support.sr_content import text_of


def test_a_study_comes_back_with_its_similar_cases(tmp_path: Path) -> None:
    sent = write_films(tmp_path / "films", 2)
    with (
        StoreSCP(tmp_path / "pacs") as pacs,
        Node(tmp_path / "node", [pacs.destination], retrieval__enabled="true") as node,
    ):
        assert storescu(node.port, sent).returncode == 0
        status = node.settled(2)
        assert status["audit"]["conserved"], status
        found = {
            str(ds.StudyInstanceUID): ds
            for path in pacs.files()
            if (ds := dcmread(path)).SOPClassUID == Comprehensive3DSRStorage and ds.SeriesNumber == 9907
        }
        assert set(found) == {str(dcmread(path).StudyInstanceUID) for path in sent}
        assert all(dciodvfy(path) == [] for path in pacs.files())
        for film in sent:
            said = json.loads(node.cli("analyze", "--json", str(film)).stdout)["studies"][0]
            report = found[said["study_instance_uid"]]
            # The same film has the same neighbours in the node and without it.
            assert ranked(report) == [entry["case"] for entry in said["similar"]["cases"]]
            assert len(ranked(report)) == 5
            assert all(name.startswith("openi:") for name in ranked(report))
            assert "RESEARCH USE ONLY" in text_of(report)


def ranked(report: Dataset) -> list[str]:
    """Identifiers of the reported cases, by rank."""
    named = [line.rsplit(" rank ", 1) for line in text_of(report).splitlines() if " rank " in line]
    return [identifier for identifier, _ in sorted(named, key=lambda entry: int(entry[1]))]
