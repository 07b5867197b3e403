from __future__ import annotations

from pathlib import Path

import numpy as np

from dicom_node.config.sections import RetrievalSettings
from dicom_node.store.analysis_records import AnalysisRecord, FindingRecord
from dicom_node.store.states import StudyState
from dicom_node.store.study_embeddings import StudyEmbedding
from dicom_node.web.read_models.study_headers import StudyHeaders
from tests.support.factories import film
from tests.support.offline_node import OfflineNode


def opened(folder: Path, *, on: bool) -> OfflineNode:
    """A node with three studies: the second is of the first one's patient."""
    node = OfflineNode(folder)
    node.settings = node.settings.model_copy(update={"retrieval": RetrievalSettings(own_studies=on)})
    for number, patient, values in ((1, "A", (1, 0)), (2, "A", (1, 0)), (3, "B", (0.8, 0.6))):
        nodule = FindingRecord("nodule", "Nodule", 0.75, 0.9, 0.5, "present")
        place = StudyEmbedding("a" * 64, *2 * (np.array(values, np.float32),))
        kept = AnalysisRecord("tiny", "1", (), "absent", (nodule,), (), embedding=place)
        node.finish(
            number,
            StudyState.REPORTED,
            films=[film(rows=64, columns=64, study=number, PatientID=patient)],
            reading=kept,
        )
    StudyHeaders(node.index.engine, node.data_dir.spool, b"key", named=False).update([1, 2, 3])
    return node


def test_the_studies_of_other_patients_are_found_and_the_search_is_written_down(tmp_path: Path) -> None:
    node = opened(tmp_path / "data", on=True)
    with node.browser() as client:
        found = client.get("/api/v1/studies/1/own-studies").json()
        shown = client.get("/studies/1/own-studies").text
        study = client.get("/studies/1").text
        accesses = client.get("/access").text
    assert found["intended_use"] == "research use only"
    assert [(case["study_id"], round(case["similarity"], 3)) for case in found["studies"]] == [(3, 0.8)]
    assert 'href="/studies/3"' in shown
    assert "Nodule 75" in shown
    assert 'href="/studies/1/own-studies"' in study
    assert accesses.count("search of own studies") == 2
    node.close()


def test_it_is_off_unless_it_is_asked_for(tmp_path: Path) -> None:
    node = opened(tmp_path / "data", on=False)
    with node.browser() as client:
        assert client.get("/api/v1/studies/1/own-studies").status_code == 404
        assert client.get("/studies/1/own-studies").status_code == 404
        assert "own-studies" not in client.get("/studies/1").text
    assert not RetrievalSettings().own_studies
    node.close()


def test_a_study_without_a_place_has_no_such_page(tmp_path: Path) -> None:
    node = opened(tmp_path / "data", on=True)
    node.finish(4, StudyState.SKIPPED, "Only a lateral view was received.")
    with node.browser() as client:
        assert client.get("/api/v1/studies/4/own-studies").status_code == 404
        assert client.get("/api/v1/studies/9/own-studies").status_code == 404
        assert client.get("/api/v1/studies/1/own-studies?k=0").status_code == 400
    node.close()
