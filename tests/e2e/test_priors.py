"""Comparison with the patient's previous film, which only the PACS (Orthanc) has."""

from __future__ import annotations

import csv
import io
import json
import socket
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import Comprehensive3DSRStorage

from dicom_node.results import codes
from dicom_node.results.content_rules import descendants, name_of
from dicom_node.results.validation import dciodvfy
from orthanc.harness import Orthanc
from tests.support import factories
from tests.support.dicom_tools import storescu
from tests.support.film_file import write_films
from tests.support.peers import Node, StoreSCP, free_port
from tests.support.sr_content import scores, text_of


@pytest.mark.films
def test_a_film_is_compared_with_the_one_that_orthanc_holds(films_root: Path, tmp_path: Path) -> None:
    then, now = _pair(films_root, tmp_path)
    port = free_port()
    place = {"AET": "DICOM_NODE", "Host": "127.0.0.1", "Port": port}
    with Orthanc(tmp_path / "orthanc", overrides={"DicomModalities": {"node": place}}) as orthanc:
        orthanc.upload(then.read_bytes())
        pacs = {
            "name": "orthanc",
            "ae_title": orthanc.ae_title,
            "host": "127.0.0.1",
            "port": orthanc.dicom_port,
        }
        settings = {"dicom__port": str(port), "priors__source": "orthanc", "worker__gate": "gate"}
        with Node(tmp_path / "node", [pacs], **settings) as node:
            assert storescu(node.port, [now]).returncode == 0
            status = node.settled(1)
            assert status["audit"]["conserved"], status
            assert (status["studies"]["REPORTED"], status["studies"]["PRIOR"]) == (1, 1)
            assert status["audit"]["fates"]["prior"] == 1
            orthanc.wait_for("the report", lambda: len(_reports(orthanc)) == 1)
            (report,) = _reports(orthanc)
            assert report.StudyInstanceUID == dcmread(now).StudyInstanceUID
            _as_analyze_says(node, report, then, tmp_path)
            path = tmp_path / "report.dcm"
            report.save_as(path)
            # The data set's own UIDs begin with 9999, which no UID may; a result has to repeat them.
            assert [line for line in dciodvfy(path) if '"9999.' not in line] == []
            # Sent by somebody, the prior is a study as any other, and has none itself.
            assert storescu(node.port, [then]).returncode == 0
            status = node.settled(2)
            assert (status["studies"]["REPORTED"], status["studies"]["PRIOR"]) == (2, 0)
            assert status["audit"]["conserved"], status
            orthanc.wait_for("its report", lambda: len(_reports(orthanc)) == 2)
            (other,) = [ds for ds in _reports(orthanc) if ds.StudyInstanceUID != report.StudyInstanceUID]
            requested = "prior: not available: it was itself requested as the prior of another study"
            assert requested in text_of(other)


def test_an_archive_that_says_nothing_holds_no_study_up(tmp_path: Path) -> None:
    (film,) = write_films(tmp_path / "films", 1)
    with socket.create_server(("127.0.0.1", 0)) as mute, StoreSCP(tmp_path / "pacs") as pacs:
        archive = {"name": "archive", "ae_title": "ARCHIVE", "host": "127.0.0.1"}
        archive["port"] = mute.getsockname()[1]
        settings = {
            "priors__source": "archive",
            "priors__wait_seconds": "1",
            "rules": json.dumps([{"name": "all", "fallback": True, "destinations": ["pacs"]}]),
        }
        with Node(tmp_path / "node", [pacs.destination, archive], **settings) as node:
            assert storescu(node.port, [film]).returncode == 0
            status = node.settled(1, seconds=20)
            assert status["audit"]["conserved"], status
            assert status["studies"]["REPORTED"] == 1
        (report,) = [
            ds for path in pacs.files() if (ds := dcmread(path)).SOPClassUID == Comprehensive3DSRStorage
        ]
        assert "prior: not available: " in text_of(report)


def _pair(films_root: Path, folder: Path) -> tuple[Path, Path]:
    """Write a normal frontal film and one with findings, as two studies of one patient."""
    headers = factories.openi_headers(films_root)
    with (films_root / "openi" / "index.csv").open(newline="") as stream:
        rows = [
            row
            for row in csv.DictReader(stream)
            if row["projection"] == "Frontal" and row["file"] in headers and row["split"] == "test"
        ]
    normal = next(row["file"] for row in rows if row["mesh_major"] == "normal")
    abnormal = next(row["file"] for row in rows if "Cardiomegaly" in row["mesh_major"])
    paths = []
    for name, day in ((normal, "20230101"), (abnormal, "20240101")):
        ds = factories.openi_film(
            headers[name],
            films_root / "openi" / "images" / name,
            PatientID="PAIR",
            PatientBirthDate="",
            StudyDate=day,
            StudyTime="120000",
        )
        paths.append(factories.write(ds, folder / f"{day}.dcm"))
    return paths[0], paths[1]


def _reports(orthanc: Orthanc) -> list[Dataset]:
    return [
        dcmread(io.BytesIO(orthanc.file(instance)))
        for study in orthanc.studies()
        for instance in orthanc.instances(study)
        if (tags := orthanc.tags(instance)).get("SOPClassUID") == Comprehensive3DSRStorage
        and tags.get("SeriesNumber") == "9901"
    ]


def _as_analyze_says(node: Node, report: Dataset, prior: Path, folder: Path) -> None:
    """Assert that a report has the same scores of the prior as an analysis of the prior alone."""
    done = node.cli("analyze", "--json", "--out", str(folder / "alone"), str(prior))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["studies"][0]["state"] == "REPORTED"
    (path,) = (folder / "alone").rglob("*-sr.dcm")
    alone, changes = scores(dcmread(path)), 0
    for group in descendants(report):
        said = {name_of(item): item for item in group.get("ContentSequence", ())}
        difference = said.get(codes.QUALITATIVE_DIFFERENCE.value)
        if difference is not None:
            key = said[codes.TRACKING_IDENTIFIER.value].TextValue
            number = difference.ContentSequence[0]
            assert float(number.MeasuredValueSequence[0].NumericValue) == alone[key]
            changes += 1
    assert changes > 0
