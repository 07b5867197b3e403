"""Films whose identifiers break the rules of their VRs: results come back into the study of the archive."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.config import IGNORE
from pydicom.uid import UID

from dicom_node.imaging import attributes
from orthanc.harness import NodeAddress, Orthanc
from tests.support.dicom_tools import storescu
from tests.support.factories import film, write
from tests.support.peers import Node, free_port

pytestmark = pytest.mark.peer

STUDY, SERIES, INSTANCE = "1.2.03.4", "1.2.03.4.05", "1.2.03.4.05.006"
FILMS = {
    STUDY: {
        "StudyInstanceUID": STUDY,
        "SeriesInstanceUID": SERIES,
        "SOPInstanceUID": INSTANCE,
        "AccessionNumber": "2026-01-02-RADIOLOGY-0001",
        "StudyDate": "2026.01.02",
        "StudyTime": "10:15:30",
        "character_set": "ISO_IR 192",
        "patient_name": "=山田^太郎",
        "patient_id": "P" * 80,
    },
    "1.2.5": {
        "StudyInstanceUID": "1.2.5",
        "patient_name": "Doe\\Smith^Jane^Ann^Dr.^Jr.^more",
        "patient_id": "CLINIC\\4711",
        "StudyID": "STUDY-NUMBER-0000000001",
        "StudyDate": "20261345",
        "PatientAge": "62",
    },
}
REPEATED = ("PatientName", "PatientID", "AccessionNumber", "StudyID", "StudyInstanceUID")
DATES = {STUDY: ("20260102", "101530"), "1.2.5": ("", "101530")}
KINDS = '["sr", "sc", "pdf", "ko", "seg", "pr", "pm"]'


def referenced(ds: Dataset) -> set[str]:
    """SOP Instance UIDs that an object refers to."""
    found = set()
    for element in ds:
        if element.VR == "SQ":
            for item in element.value:
                found |= referenced(item)
        elif element.keyword == "ReferencedSOPInstanceUID":
            found.add(str(element.value))
    return found


@pytest.mark.timeout(400)
def test_results_lie_in_the_study_of_their_film(tmp_path: Path) -> None:
    films = {uid: film(**elements) for uid, elements in FILMS.items()}  # type: ignore[arg-type]
    paths = [write(ds, tmp_path / f"{uid}.dcm") for uid, ds in films.items()]
    with Orthanc(tmp_path / "orthanc", node=NodeAddress("DICOM_NODE", free_port())) as pacs:
        assert storescu(pacs.dicom_port, paths, called=pacs.ae_title).returncode == 0
        destination = {
            "name": "orthanc",
            "kind": "dicom",
            "ae_title": pacs.ae_title,
            "host": "127.0.0.1",
            "port": pacs.dicom_port,
        }
        with Node(tmp_path / "node", [destination], results__objects=KINDS) as node:
            assert storescu(node.port, paths).returncode == 0
            status = node.settled(2, seconds=200)
        assert status["studies"]["REPORTED"] == 2
        assert status["audit"]["conserved"], status
        assert status["results"]["REJECTED"] == 0
        # Orthanc files by Patient ID and Study Instance UID: had either been changed, there would be more.
        studies = pacs.studies()
        assert len(studies) == 2
        for study in studies:
            files = [pacs.file(instance) for instance in pacs.instances(study)]
            with attributes.tolerance():
                objects = [dcmread(io.BytesIO(each)) for each in files]
                check(objects, films)


def check(objects: list[Dataset], films: dict[str, Dataset]) -> None:
    uid = attributes.text(objects[0], "StudyInstanceUID")
    source = films[uid]
    results = [ds for ds in objects if attributes.text(ds, "ManufacturerModelName") == "dicom-node"]
    assert len(objects) == len(results) + 1
    assert {ds.Modality for ds in results} >= {"SR", "OT", "DOC", "KO", "SEG"}
    for ds in results:
        for keyword in REPEATED:
            assert attributes.whole_text(ds, keyword) == attributes.whole_text(source, keyword), ds.Modality
        assert (attributes.text(ds, "StudyDate"), attributes.text(ds, "StudyTime")) == DATES[uid]
        assert "PatientAge" not in ds or ds.PatientAge == "054Y"
        assert UID(ds.SOPInstanceUID, IGNORE).is_valid
        assert UID(ds.SeriesInstanceUID, IGNORE).is_valid
        assert str(source.SOPInstanceUID) in referenced(ds), ds.Modality
