"""A study whose films, results and heat maps were purged, as the page, the API and DICOMweb show it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, update

from dicom_node.config.retention import RetentionSettings
from dicom_node.store import database
from dicom_node.store.analysis_records import AnalysisRecord, FindingRecord, HeatMapRecord
from dicom_node.store.states import StudyState
from dicom_node.store.tables import catalogue, disk_usage
from dicom_node.web.read_models.study_headers import StudyHeaders
from tests.support.factories import film
from tests.support.login import csrf_token
from tests.support.offline_node import OfflineNode

DAY = 86_400
WORDS = "by retention.unconfirmed_days"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[OfflineNode]:
    one = OfflineNode(tmp_path / "data")
    web = one.settings.web.model_copy(update={"patient": "name"})
    rules = RetentionSettings(unconfirmed_days=10)
    one.settings = one.settings.model_copy(update={"web": web, "retention": rules})
    ds = film(rows=64, columns=64, patient_name="Doe^Jane")
    reading = AnalysisRecord(
        model="m",
        model_version="1",
        parameters=(),
        normality="absent",
        findings=(FindingRecord("effusion", "Pleural effusion", 0.9, 0.9, 0.5, "present"),),
        images=(),
        maps=(HeatMapRecord("effusion", ds.SOPInstanceUID, "Grad-CAM"),),
        maps_file=one.data_dir.maps.keep([np.ones((8, 8), np.uint8)]),
    )
    one.finish(1, StudyState.REPORTED, films=[ds], reading=reading, destinations=())
    headers = StudyHeaders(one.index.engine, one.data_dir.spool, b"k" * 32, named=True)
    headers.update([1])
    yield one
    one.close()


def purge(node: OfflineNode) -> None:
    from dicom_node.config.data_dir import DataDir

    DataDir(node.settings).purge(node.index.engine, lambda: time.time() + 11 * DAY).run()
    assert not list(node.data_dir.spool.names())


def csrf(client: TestClient) -> dict[str, str]:
    return {"X-CSRF-Token": csrf_token(client.get("/studies/1").text)}


def test_the_page_shows_the_report_and_says_what_was_purged_when_and_by_which_rule(node: OfflineNode) -> None:
    with node.browser() as client:
        assert 'id="purged"' not in client.get("/studies/1").text
        purge(node)
        page = client.get("/studies/1").text
        assert "Pleural effusion" in page
        assert "a film was purged on 20" in page
        assert page.count(WORDS) == 3  # film, heat maps, result
        assert "Analyse again" not in page
        assert "Check reproducibility" not in page
        assert 'class="map"' not in page
        assert client.get("/").status_code == 200


def test_the_api_says_it_too_and_answers_410(node: OfflineNode) -> None:
    purge(node)
    with node.browser() as client:
        found = client.get("/api/v1/studies/1").json()
        assert all(WORDS in words for words in (found["images"][0]["purged"], found["results"][0]["purged"]))
        assert WORDS in found["reading"]["purged_maps"]
        for what in ("images/1/pixels", "images/1/overlay", "images/1/thumbnail", "maps/0"):
            answer = client.get(f"/api/v1/studies/1/{what}")
            assert (answer.status_code, WORDS in answer.json()["error"]) == (410, True), what
        viewer = client.get("/api/v1/studies/1/viewer").json()
        assert (viewer["images"], viewer["maps"]) == ([], [])
        assert WORDS in viewer["lost"][0]["error"]
        again = client.post("/api/v1/studies/1/retry", headers=csrf(client))
        assert (again.status_code, "send the whole study again" in again.json()["error"]) == (410, True)


def test_dicomweb_finds_it_no_more_and_answers_410(node: OfflineNode) -> None:
    study = film().StudyInstanceUID
    with node.browser() as client:
        assert len(client.get("/dicom-web/studies").json()) == 1
        assert client.get(f"/dicom-web/studies/{study}/metadata").status_code == 200
        purge(node)
        assert client.get("/dicom-web/studies").json() == []
        for path in ("metadata", f"series/{film().SeriesInstanceUID}/metadata"):
            answer = client.get(f"/dicom-web/studies/{study}/{path}")
            assert (answer.status_code, WORDS in answer.text) == (410, True)
        assert client.get("/dicom-web/studies/1.2.3/metadata").status_code == 404


def test_its_headers_stay_and_lose_the_name_when_names_are_turned_off(node: OfflineNode) -> None:
    purge(node)
    headers = StudyHeaders(node.index.engine, node.data_dir.spool, b"k" * 32, named=True)
    with database.writing(node.index.engine) as connection:
        connection.execute(update(catalogue).values(received_at=0))  # it is to be read anew
    headers.update([1])
    with database.reading(node.index.engine) as connection:
        row = connection.execute(select(catalogue)).one()
    assert (row.patient, row.study_date != "") == ("Doe, Jane", True)
    StudyHeaders(node.index.engine, node.data_dir.spool, b"k" * 32, named=False).update([1])
    with database.reading(node.index.engine) as connection:
        row = connection.execute(select(catalogue)).one()
    assert row.patient == f"P-{row.person[:10]}"
    assert "doe" not in row.search
    assert (row.patient_name, row.patient_id) == ("", "")


def test_an_admin_pins_a_study_on_the_page_and_by_the_api(node: OfflineNode) -> None:
    with node.browser() as client:
        done = client.post("/studies/1/pin", data={"csrf": csrf_token(client.get("/studies/1").text)})
        assert 'id="pinned"' in done.text
        assert client.get("/api/v1/studies/1").json()["pinned"] is True
        assert client.post("/api/v1/studies/1/unpin", headers=csrf(client)).json() == {"pinned": False}
        assert client.post("/api/v1/studies/9/pin", headers=csrf(client)).status_code == 404
        accesses = client.get("/access").text
    assert ">pin<" in accesses
    assert ">unpin<" in accesses


def test_health_and_metrics_say_when_the_disk_will_be_full(node: OfflineNode) -> None:
    with node.browser() as client:
        assert "not known yet: its use was measured on" in client.get("/health").text
        assert "dicom_node_disk_days_left NaN" in client.get("/metrics").text
        assert client.get("/api/v1/status").json()["disk_outlook"] == "unknown"
        free = client.get("/api/v1/status").json()["free_bytes"]
        with database.writing(node.index.engine) as connection:
            for day in range(10):
                values = {"films": day * free // 5, "results": 0, "maps": 0, "index_bytes": 0}
                at = time.time() - (10 - day) * DAY
                connection.execute(disk_usage.insert().values(day=f"day {day}", at=at, **values))
        found = client.get("/api/v1/status").json()
        page = client.get("/health").text
        metrics = client.get("/metrics").text
    assert found["disk_outlook"] in {"filling", "full"}
    assert found["disk_full_at"] < time.time() + 6 * DAY
    assert 'id="forecast" class="failed"' in page
    (line,) = [each for each in metrics.splitlines() if each.startswith("dicom_node_disk_days_left")]
    assert 0 <= float(line.split()[1]) < 6
