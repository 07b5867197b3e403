"""REST API and pages give the same values."""

from __future__ import annotations

import json

from fastapi.testclient import TestClient

from dicom_node.runtime import logs
from dicom_node.store.analysis_records import (
    AnalysisRecord,
    FindingChangeRecord,
    FindingRecord,
    ImageRecord,
    PriorComparisonRecord,
    WordWeightsRecord,
)
from dicom_node.store.states import StudyState
from tests.support.factories import uid
from tests.support.offline_node import OfflineNode

PRIOR = "1.2.3.4"


def test_a_study_is_told_with_all_that_its_page_shows(node: OfflineNode, client: TestClient) -> None:
    node.finish(
        1,
        StudyState.REPORTED,
        reading=AnalysisRecord(
            model="tiny",
            model_version="1.0.0",
            parameters=("weights_sha256=1",),
            normality="absent",
            findings=(FindingRecord("nodule", "Nodule", 0.7, 0.5, 0.4, "present", 0.5, 0.85),),
            images=(ImageRecord(uid(1, 1), "frontal", "", ""),),
            prior=PriorComparisonRecord(
                PRIOR, "20230101", "", (FindingChangeRecord("nodule", 0.1, 0.2, "absent", "new"),)
            ),
            words=(WordWeightsRecord("nodule", (("cough", 0.25),)),),
        ),
    )
    told = client.get("/api/v1/studies/1").json()
    (finding,) = told["reading"]["findings"]
    assert (finding["certainty"], finding["low"], finding["high"]) == (0.7, 0.5, 0.85)
    assert told["reading"]["prior"] == {
        "study": logs.uid_hash(PRIOR), "study_date": "20230101", "reason": "",
        "changes": [
            {"key": "nodule", "certainty": 0.1, "score": 0.2, "presence": "absent", "change": "new"}
        ],
    }  # fmt: skip
    assert told["reading"]["words"] == [{"key": "nodule", "words": [["cough", 0.25]]}]
    (image,) = told["images"]
    assert (image["view"], image["pixels"]) == ("frontal", "/api/v1/studies/1/images/1/pixels")
    (sent,) = told["results"]
    assert (sent["destination"], sent["state"], sent["withdrawn"]) == ("pacs", "ENCODED", False)
    # Nobody is named by a UID.
    assert PRIOR not in client.get("/api/v1/studies/1").text
    node.context.event_stream.study_headers.update([1])
    cohort = client.get("/api/v1/cohort?finding=nodule&days=7").json()
    assert (sum(cohort["histogram"]), cohort["findings"]) == (1, {"nodule": "Nodule"})
    assert client.get("/api/v1/cohort?days=0").status_code == 400


def test_the_status_says_what_the_worker_runs_on(node: OfflineNode, client: TestClient) -> None:
    status = client.get("/api/v1/status").json()
    assert 0 < status["free_bytes"] <= status["total_bytes"]
    assert (status["versions"]["dicom-node"], status["versions"]["device"]) == (status["version"], "auto")
    node.data_dir.runs_on.write_text(json.dumps({"device": "cuda:0, a card", "torch": "2.0"}))
    versions = client.get("/api/v1/status").json()["versions"]
    assert (versions["device"], versions["torch"]) == ("cuda:0, a card", "2.0")
    assert "cuda:0, a card" in client.get("/health").text
    node.data_dir.runs_on.write_text("")  # half written
    assert client.get("/api/v1/status").json()["versions"]["device"] == "auto"
