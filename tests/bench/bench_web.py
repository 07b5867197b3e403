"""Worklist of 100,000 studies: first page, hundredth page, a search without matches; and QIDO-RS.

With BENCH_QUICK there are 10,000.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from fastapi.testclient import TestClient
from playwright.sync_api import Browser, expect

from dicom_node.dicomweb.server.objects import ObjectStore
from dicom_node.dicomweb.server.qido import run_search
from dicom_node.dicomweb.server.query_parameters import parse_search
from dicom_node.store.states import StudyState
from dicom_node.store.tables import catalogue, delivery, finding, instance, reading, result, study
from dicom_node.web.app import create_app
from dicom_node.web.read_models.study_headers import StudyHeaders
from dicom_node.web.read_models.worklist import read_worklist
from dicom_node.web.read_models.worklist_query import Sort, WorklistQuery
from tests.support.benchmarks import Record, Target, few, seconds_of
from tests.support.browser import seconds_until
from tests.support.factories import encoded, film
from tests.support.offline_node import OfflineNode
from tests.support.web_server import served

STUDIES = few(100_000, 10_000)
FINDINGS = 35
ROUNDS = few(15, 5)
LIMIT = Target("at most", 200)
PAINT, SEARCH = Target("at most", 0.4), Target("at most", 0.3)
PAINTED = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
"""Milliseconds from the begin of the navigation."""


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OfflineNode]:
    node = OfflineNode(tmp_path_factory.mktemp("full"))
    with node.index.engine.begin() as connection:
        for first in range(1, STUDIES + 1, 5000):
            ids = range(first, first + 5000)
            connection.execute(study.insert(), [_study(number) for number in ids])
            connection.execute(instance.insert(), [_instance(number) for number in ids])
            connection.execute(reading.insert(), [_reading(number) for number in ids])
            connection.execute(catalogue.insert(), [_header(number) for number in ids])
            connection.execute(
                finding.insert(), [_finding(number, key) for number in ids for key in range(FINDINGS)]
            )
            connection.execute(result.insert(), [_result(number) for number in ids])
            connection.execute(delivery.insert(), [_delivery(number) for number in ids])
        connection.exec_driver_sql("ANALYZE")
    yield node
    node.close()


def _study(number: int) -> dict[str, object]:
    states = list(StudyState)
    return {
        "id": number, "study_instance_uid": f"1.2.{number}", "state": states[number % len(states)],
        "revision": 1,
        "first_received_at": number, "last_received_at": number, "attempts": 1, "reason": "",
        "updated_at": (number * 7919) % STUDIES,
    }  # fmt: skip


def _instance(number: int) -> dict[str, object]:
    return {
        "study_id": number, "sop_instance_uid": f"1.3.{number}", "sop_class_uid": "1.2.3",
        "transfer_syntax_uid": "1.2", "series_instance_uid": f"1.4.{number}", "digest": f"{number:064x}",
        "size": 1, "file": "x", "calling_ae": "A", "peer_host": "h", "received_at": number, "receptions": 1,
        "set_aside": "",
    }  # fmt: skip


def _reading(number: int) -> dict[str, object]:
    return {
        "id": number, "study_id": number, "revision": 1, "created_at": number, "model": "m",
        "model_version": "1", "normality": "absent", "content": "{}", "maps": "",
    }  # fmt: skip


def _header(number: int) -> dict[str, object]:
    patient = f"P-{(number * 104729) % STUDIES:010x}"
    return {
        "study_id": number, "received_at": number, "named": False, "person": patient, "patient": patient,
        "description": "Chest PA", "study_date": f"2024{number % 12 + 1:02}{number % 28 + 1:02}",
        "manufacturer": "M", "views": "PA", "patient_id": patient, "patient_name": f"Doe^{patient}",
        "modalities": " DX " if number % 100 else " CR ",
        "search": f"{patient.casefold()} chest pa {number:08x}",
    }  # fmt: skip


def _finding(number: int, key: int) -> dict[str, object]:
    present = (number * 31 + key * 17) % 20 == 0
    return {
        "reading_id": number, "position": key, "key": f"k{key}", "name": f"Finding {key}",
        "certainty": 0.3, "score": 0.3, "threshold": 0.2, "presence": "present" if present else "absent",
    }  # fmt: skip


def _result(number: int) -> dict[str, object]:
    return {
        "id": number, "study_id": number, "revision": 1, "kind": "sr", "sop_instance_uid": f"1.5.{number}",
        "sop_class_uid": "1", "digest": "", "size": 1, "file": "x", "created_at": number,
    }  # fmt: skip


def _delivery(number: int) -> dict[str, object]:
    return {
        "result_id": number, "destination": "pacs", "state": "SENT", "attempts": 1, "next_try_at": 0,
        "error": "", "updated_at": number,
    }  # fmt: skip


def _milliseconds(call: Callable[[], object]) -> list[float]:
    return [1000 * each for each in seconds_of(call, ROUNDS, warm_up=0)]


def test_pages_of_many_studies(full: OfflineNode, record: Record) -> None:
    engine = full.index.engine
    hundredth = WorklistQuery()
    for _ in range(99):
        hundredth = WorklistQuery(after=read_worklist(engine, hundredth).next)
    queries = {
        "first": WorklistQuery(),
        "hundredth": hundredth,
        "by patient": WorklistQuery(sort=Sort.PATIENT),
        "failed": WorklistQuery(state=StudyState.FAILED),
        "one finding": WorklistQuery(finding="k3"),
        "no such words": WorklistQuery(text="nowhere to be found"),
    }
    for name, query in queries.items():
        taken = _milliseconds(lambda query=query: read_worklist(engine, query))
        record(f"worklist of {STUDIES:,} studies, index, {name}", "ms", taken)
    with TestClient(create_app(full.settings), base_url="http://localhost") as client:
        client.get("/")
        taken = _milliseconds(lambda: client.get("/"))
    record(f"worklist of {STUDIES:,} studies, first page", "ms", taken, target=LIMIT)


def test_the_worklist_and_a_search_in_the_browser(
    full: OfflineNode, chromium: Browser, record: Record
) -> None:
    context = chromium.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    with served(create_app(full.settings)) as address:
        page.goto(address)
        taken = []
        for _ in range(ROUNDS):
            page.goto(address)
            expect(page.locator(".worklist tbody tr").first).to_be_visible()
            taken.append(float(page.evaluate(PAINTED)) / 1000)
        record(f"worklist of {STUDIES:,} studies, painted in Chromium", "s", taken, target=PAINT)
        field = page.locator("#q")
        taken = []
        for number in range(1, ROUNDS + 1):
            patient = str(_header(number)["patient"])
            found = f"document.querySelector('#live').textContent.includes('{patient}')"
            # Without the pause in which a reader goes on typing.
            field.fill(patient)
            taken.append(seconds_until(page, lambda: field.press("Enter"), "submit", found))
        record(f"search among {STUDIES:,} studies, painted in Chromium", "s", taken, target=SEARCH)
    context.close()


def test_searches_for_studies_and_series_by_dicomweb(full: OfflineNode, record: Record) -> None:
    ds = film(rows=64, columns=64)
    for spool in (full.data_dir.spool, full.data_dir.results):
        spool.path("x").write_bytes(encoded(ds))
    objects = ObjectStore(full.index.engine, full.data_dir, films=True)
    last = _header(77)
    searches = {
        "first": ("study", {}),
        "last page": ("study", {"offset": str(STUDIES - 100)}),
        "patient": ("study", {"PatientID": str(last["patient_id"])}),
        "part of a name": ("study", {"PatientName": "*000ff*"}),
        "no such name": ("study", {"PatientName": "*nobody*"}),
        "one day": ("study", {"StudyDate": "20240301"}),
        "one in a hundred": ("study", {"ModalitiesInStudy": "CR"}),
        "no such modality": ("study", {"ModalitiesInStudy": "MG"}),
        "series": ("series", {}),
        "no such series": ("series", {"SeriesInstanceUID": "1.2.3"}),
    }
    for name, (level, words) in searches.items():
        search = parse_search(level, list(words.items()))
        began = time.perf_counter()
        answer = run_search(full.index.engine, objects, search)
        seconds = time.perf_counter() - began
        record(
            f"QIDO-RS among {STUDIES:,} studies, {name} ({len(answer.matches)} found)", "ms", 1000 * seconds
        )
        assert seconds < 5


def test_the_catalogue_is_made_again(full: OfflineNode, record: Record) -> None:
    enter = StudyHeaders(full.index.engine, full.data_dir.spool, b"k" * 32, named=False)
    taken = _milliseconds(lambda: enter.outdated(None))
    record(f"look for what is not catalogued among {STUDIES:,} studies", "ms", taken)
