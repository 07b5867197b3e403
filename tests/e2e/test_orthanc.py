"""Orthanc forwards films to the node and gets results into the same studies, without a loop."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import Comprehensive3DSRStorage, SecondaryCaptureImageStorage

from dicom_node.results.validation import dciodvfy
from orthanc.harness import NodeAddress, Orthanc
from tests.support.film_file import read_by_study, write_openi_films
from tests.support.peers import Node, free_port, until
from tests.support.sr_content import scores


@pytest.mark.films
@pytest.mark.timeout(900)
def test_fifty_films_through_orthanc_and_back(films_root: Path, tmp_path: Path) -> None:
    films = write_openi_films(films_root, tmp_path / "films", 50)
    port = free_port()
    with Orthanc(tmp_path / "orthanc", node=NodeAddress("DICOM_NODE", port)) as orthanc:
        pacs = {
            "name": "orthanc",
            "kind": "dicom",
            "ae_title": orthanc.ae_title,
            "host": "127.0.0.1",
            "port": orthanc.dicom_port,
        }
        with Node(tmp_path / "node", [pacs], dicom__port=str(port), worker__gate="gate") as node:
            for path in films:
                orthanc.upload(path.read_bytes())
            status = node.settled(50, seconds=400)
            assert status["audit"]["conserved"], status
            assert status["studies"]["REPORTED"] == 50
            # Our results make the studies stable again: nothing may be forwarded a second time for that.
            orthanc.wait_for("results", lambda: len(_reports(orthanc)) == 50, seconds=60)
            received = status["audit"]["received"]
            assert received == 50
            reports = _reports(orthanc)
            assert node.settled(50)["audit"]["received"] == received
            assert orthanc.studies().__len__() == 50
            # Orthanc commits to every result: its answers come on associations of its own.
            until(lambda: node.status()["confirmed_studies"] == 50, 60, "every study is confirmed")
            _same_scores_as_analyze(node, films, reports, tmp_path)
            _valid(orthanc, tmp_path)


def _reports(orthanc: Orthanc) -> dict[str, dict[str, float]]:
    found = {}
    for study in orthanc.studies():
        for instance in orthanc.instances(study):
            if orthanc.tags(instance).get("SOPClassUID") == Comprehensive3DSRStorage:
                ds = dcmread(io.BytesIO(orthanc.file(instance)))
                found[str(ds.StudyInstanceUID)] = scores(ds)
    return found


def _same_scores_as_analyze(
    node: Node, films: list[Path], reports: dict[str, dict[str, float]], folder: Path
) -> None:
    done = node.cli("analyze", "--json", "--out", str(folder / "analyze"), *map(str, films))
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["studies"]) == 50
    alone = read_by_study(sorted((folder / "analyze").rglob("*-sr.dcm")))
    assert set(alone) == set(reports) == set(read_by_study(films))
    for uid, (sr,) in alone.items():
        assert scores(sr) == reports[uid]
        assert len(reports[uid]) == 35


def _valid(orthanc: Orthanc, folder: Path) -> None:
    for study in orthanc.studies()[:10]:
        for instance in orthanc.instances(study):
            if orthanc.tags(instance).get("SOPClassUID") in {
                Comprehensive3DSRStorage,
                SecondaryCaptureImageStorage,
            } and "AI" in str(orthanc.tags(instance).get("SeriesDescription")):
                path = folder / f"{instance}.dcm"
                path.write_bytes(orthanc.file(instance))
                # The data set's own UIDs begin with 9999, which no UID may; a result has to repeat them.
                assert [line for line in dciodvfy(path) if '"9999.' not in line] == []
