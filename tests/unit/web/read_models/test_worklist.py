"""The list of studies: searched, filtered, sorted, page by page."""

from __future__ import annotations

import base64
import json
import re

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import update

from dicom_node.store import database
from dicom_node.store.analysis_records import AnalysisRecord, FindingRecord
from dicom_node.store.audit import IndexQueries
from dicom_node.store.states import Confirmation, ResultState, StudyState
from dicom_node.store.tables import delivery
from dicom_node.web.read_models.study import read_study
from dicom_node.web.read_models.study_headers import StudyHeaders
from dicom_node.web.read_models.worklist import (
    PAGE_LENGTH,
    TOP_FINDINGS,
    InvalidCursor,
    _decode_cursor,
    read_worklist,
)
from dicom_node.web.read_models.worklist_query import Sort, WorklistQuery
from tests.support.factories import film, uid
from tests.support.offline_node import OWNER, OfflineNode

KEY = b"k" * 32


def received(node: OfflineNode, number: int, **elements: object) -> None:
    elements = {"patient_id": f"PAT-{number}", "StudyDescription": f"Study {number}"} | elements
    node.receive(
        number, ds=film(rows=64, columns=64, study=number, SOPInstanceUID=uid(number, 1), **elements)
    )


def catalogued(node: OfflineNode, *, named: bool = False) -> None:
    catalogue = StudyHeaders(node.index.engine, node.data_dir.spool, KEY, named=named)
    below = None
    while stale := catalogue.outdated(below):
        catalogue.update(stale)
        below = stale[-1]


def ids(node: OfflineNode, **query: object) -> list[int]:
    return [line.id for line in read_worklist(node.index.engine, WorklistQuery(**query)).rows]


def read_place(place: str) -> tuple[object, ...]:
    return tuple(json.loads(base64.urlsafe_b64decode(place + "==")))


@pytest.mark.parametrize("sort", list(Sort))
def test_the_pages_hold_every_study_once_forth_and_back(node: OfflineNode, sort: Sort) -> None:
    total = 2 * PAGE_LENGTH + 3
    for number in range(1, total + 1):
        # Equal keys too: many patients of one name, many studies of one date.
        received(node, number, patient_id=f"PAT-{number % 3}", StudyDate=f"2024010{number % 4 + 1}")
    catalogued(node)
    pages = [read_worklist(node.index.engine, WorklistQuery(sort=sort))]
    while pages[-1].next:
        pages.append(read_worklist(node.index.engine, WorklistQuery(sort=sort, after=pages[-1].next)))
    seen = [line.id for page in pages for line in page.rows]
    assert len(seen) == total
    assert set(seen) == set(range(1, total + 1))
    assert [len(page.rows) for page in pages] == [PAGE_LENGTH, PAGE_LENGTH, 3]
    back = read_worklist(node.index.engine, WorklistQuery(sort=sort, before=pages[-1].previous))
    assert [line.id for line in back.rows] == [line.id for line in pages[1].rows]
    first = read_worklist(node.index.engine, WorklistQuery(sort=sort, before=back.previous))
    assert [line.id for line in first.rows] == [line.id for line in pages[0].rows]
    assert not first.previous
    if sort is not Sort.CHANGED:  # names and dates of patients stand in no address
        assert {read_place(place) for page in pages[:-1] for place in (page.next,)} == {
            (None, page.rows[-1].id) for page in pages[:-1]
        }
    if sort is Sort.DATE:
        dates = [line.study_date for page in pages for line in page.rows]
        assert dates == sorted(dates, reverse=True)
    if sort is Sort.PATIENT:
        names = [line.patient for page in pages for line in page.rows]
        assert names == sorted(names)


def test_words_are_found_wherever_they_stand_and_signs_mean_themselves(node: OfflineNode) -> None:
    received(node, 1, StudyDescription="Thorax in 2 Ebenen", StudyDate="20240103")
    received(node, 2, StudyDescription="Chest 100%_sure", StudyDate="20240104")
    catalogued(node)
    assert ids(node, text="THORAX ebenen") == [1]
    assert ids(node, text="100%_") == [2]
    assert ids(node, text="%") == [2]
    assert ids(node, text="20240104") == [2]
    assert ids(node, text="chest thorax") == []


def test_without_leave_no_name_is_kept_nor_found(node: OfflineNode) -> None:
    received(node, 1, patient_name="Doe^Jane", patient_id="PAT-77", AccessionNumber="ACC-5")
    received(node, 2, patient_name="Doe^Jane", patient_id="PAT-77")
    received(node, 3, patient_name="Roe^Jane", patient_id=None)
    received(node, 4, patient_name="Roe^Jane", patient_id=None)
    catalogued(node)
    patients = {line.id: line.patient for line in read_worklist(node.index.engine, WorklistQuery()).rows}
    assert patients[1] == patients[2]
    assert len(set(patients.values())) == 3
    assert all(each.startswith("P-") and len(each) == 12 for each in patients.values())
    for word in ("doe", "pat-77", "acc-5"):
        assert ids(node, text=word) == []
    catalogued(node, named=True)
    assert ids(node, text="doe jane") == [2, 1]
    assert ids(node, text="acc-5") == [1]
    assert {line.patient for line in read_worklist(node.index.engine, WorklistQuery()).rows} == {
        "Doe, Jane",
        "Roe, Jane",
    }
    catalogued(node)
    assert ids(node, text="doe") == []


def test_a_study_names_its_patient_only_where_names_are_shown_and_leads_to_the_other_ones(
    node: OfflineNode,
) -> None:
    for number, date in ((1, "20240101"), (2, "20250101"), (3, "20260101")):
        received(
            node,
            number,
            patient_name="Doe^Jane",
            patient_id="PAT-77",
            AccessionNumber="ACC-5",
            StudyDate=date,
        )
    received(node, 4, patient_name="Roe^Jane", patient_id="PAT-78")
    for named in (False, True):
        catalogued(node, named=named)
        study = read_study(node.index.engine, 2)
        assert study is not None
        assert (study.patient_id, study.accession_number) == (("PAT-77", "ACC-5") if named else ("", ""))
        assert [(each.id, each.study_date) for each in study.others] == [(3, "20260101"), (1, "20240101")]
    with node.browser() as client:
        text = client.get("/studies/2").text
    assert "2 other studies of this patient" in text
    assert 'href="/studies/3">2026-01-01' in text


@pytest.mark.parametrize(
    ("name", "shown", "words"),
    [
        ("=山田^太郎", "山田, 太郎", "太郎"),
        ("==やまだ^たろう", "やまだ, たろう", "やまだ"),
        ("Yamada^Tarou=山田^太郎", "Yamada, Tarou", "山田"),
        ("Doe^Jane^Ann^Dr.^Jr.", "Doe, Jane Ann Dr. Jr.", "ann"),
        ("single", "single", "single"),
        ("^Jane", "Jane", "jane"),
        ("^^", "–", ""),
        ("", "–", ""),
    ],
)
def test_a_name_is_shown_and_found_in_every_form(
    node: OfflineNode, name: str, shown: str, words: str
) -> None:
    received(node, 1, patient_name=name, character_set="ISO_IR 192")
    catalogued(node, named=True)
    (row,) = read_worklist(node.index.engine, WorklistQuery(text=words)).rows
    assert row.patient == shown


@pytest.mark.parametrize(
    ("date", "shown"), [("2026.01.02", "20260102"), ("2026-01-02", "20260102"), ("20261345", "")]
)
def test_a_date_is_shown_as_one_or_not_at_all(node: OfflineNode, date: str, shown: str) -> None:
    received(node, 1, StudyDate=date)
    catalogued(node)
    (row,) = read_worklist(node.index.engine, WorklistQuery()).rows
    assert row.study_date == shown


def test_patients_whose_ids_differ_behind_a_backslash_are_two(node: OfflineNode) -> None:
    received(node, 1, patient_id="CLINIC\\1")
    received(node, 2, patient_id="CLINIC\\2")
    catalogued(node)
    assert len({row.patient for row in read_worklist(node.index.engine, WorklistQuery()).rows}) == 2


def test_another_key_makes_other_pseudonyms(node: OfflineNode) -> None:
    received(node, 1)
    entries = [
        StudyHeaders(node.index.engine, node.data_dir.spool, key, named=False)._entry("1.2", [name])
        for key in (KEY, b"x" * 32)
        for name in node.data_dir.spool.names()
    ]
    assert entries[0].patient != entries[1].patient


def test_a_study_is_found_by_its_state_and_by_a_finding_of_its_latest_reading(node: OfflineNode) -> None:
    def reading(presence: str) -> AnalysisRecord:
        found = FindingRecord("nodule", "Nodule", 0.6, 0.5, 0.4, presence)
        return AnalysisRecord("tiny", "1", (), "absent", (found,), ())

    node.finish(1, StudyState.REPORTED, reading=reading("present"))
    node.finish(2, StudyState.REPORTED, reading=reading("absent"))
    node.finish(3, StudyState.FAILED, "why", results=0)
    assert ids(node, finding="nodule") == [1]
    assert ids(node, finding="mass") == []
    assert ids(node, state=StudyState.FAILED) == [3]
    (line,) = read_worklist(node.index.engine, WorklistQuery(finding="nodule")).rows
    assert [(each.name, each.certainty) for each in line.findings] == [("Nodule", 0.6)]
    node.receive(1, 2)  # a late image: that reading is of an earlier revision
    assert ids(node, finding="nodule") == []


def test_the_states_are_counted_and_the_finding_is_named_as_the_list_is_filtered(node: OfflineNode) -> None:
    found = [
        FindingRecord(f"f{number}", f"F{number}", 1 - number / 20, 0.5, 0.4, "present")
        for number in range(2 * TOP_FINDINGS)
    ]
    for number, findings in ((1, found), (2, found[:1]), (3, ())):
        reading = AnalysisRecord("tiny", "1", (), "absent", tuple(findings), ())
        node.finish(number, StudyState.REPORTED, reading=reading)
    node.finish(4, StudyState.FAILED, "why", results=0)
    last = found[-1].key
    for state in (None, StudyState.FAILED):
        page = read_worklist(node.index.engine, WorklistQuery(finding=last, state=state))
        assert (page.total, page.states[StudyState.REPORTED], page.states[StudyState.FAILED]) == (1, 1, 0)
    (line,) = read_worklist(node.index.engine, WorklistQuery(finding=last)).rows
    assert [each.key for each in line.findings] == [last, *(each.key for each in found[: TOP_FINDINGS - 1])]
    catalogued(node)
    assert read_worklist(node.index.engine, WorklistQuery(text="no such words")).total == 0


def test_a_row_says_normal_once_and_is_never_blank(node: OfflineNode) -> None:
    normal = FindingRecord("normal", "Normal", 0.9, 0.9, 0.4, "present")
    for number, normality in ((1, "present"), (2, "absent"), (3, "undetermined")):
        findings = (normal,) if normality == "present" else ()
        reading = AnalysisRecord("tiny", "1", (), normality, findings, ())
        node.finish(number, StudyState.REPORTED, reading=reading)
    with node.browser() as client:
        rows = re.findall(r'<td class="findings">(.*?)</td>', client.get("/?sort=arrived").text, re.DOTALL)
    said = [" ".join(re.sub("<.*?>", " ", row).split()) for row in rows]
    assert said == [
        "neither normal nor abnormal nothing above threshold",
        "abnormal nothing above threshold",
        "normal",
    ]


def test_a_late_image_is_catalogued_and_a_broken_header_harms_nobody(node: OfflineNode) -> None:
    received(node, 1, view="PA")
    catalogued(node)
    node.receive(1, ds=film(rows=64, columns=64, study=1, SOPInstanceUID=uid(1, 2), view="LL"))
    catalogued(node)
    (line,) = read_worklist(node.index.engine, WorklistQuery()).rows
    assert (line.views, line.instances) == ("PA, LL", 2)
    for name in node.data_dir.spool.names():
        node.data_dir.spool.path(name).unlink()
    received(node, 2)
    for name in node.data_dir.spool.names():
        node.data_dir.spool.path(name).unlink()
    catalogued(node)
    assert len(ids(node)) == 2


@pytest.mark.parametrize("place", ["none", "e30", "WzEsMl0x", "W251bGwsMV0", "WzEsIngiXQ", "WzEsMV0"])
def test_a_place_that_no_page_named_is_a_sentence(empty: TestClient, place: str) -> None:
    for side in ("after", "before"):
        answer = empty.get(f"/api/v1/studies?{side}={place}")
        assert answer.status_code == 400, place
        assert "page of this list" in answer.json()["error"]


def test_places_and_words_come_in_a_body_too(node: OfflineNode, client: TestClient) -> None:
    for number, posture in ((1, "erect"), (2, "supine")):
        received(node, number, StudyDescription=f"Thorax {posture}")
    catalogued(node)
    headers = {"X-CSRF-Token": token(client)}
    found = client.post("/api/v1/studies/search", json={"q": "thorax supine"}, headers=headers).json()
    assert [each["id"] for each in found["studies"]] == [2]
    assert client.post("/api/v1/studies/search", json={"q": "x" * 201}, headers=headers).status_code == 400
    assert client.post("/api/v1/studies/search", json={"words": "2"}, headers=headers).status_code == 400
    asked = {"q": "thorax erect", "state": "RECEIVING", "finding": "", "after": ""}
    answer = client.post("/", data=asked, headers=headers)
    assert "Thorax erect" in answer.text
    assert "Thorax supine" not in answer.text
    assert answer.headers["HX-Replace-Url"] == "/?state=RECEIVING"
    assert client.post("/", data={"state": "BROKEN"}, headers=headers).status_code == 400
    assert client.post("/", data=asked).status_code == 403  # no token of the page


def token(client: TestClient) -> str:
    found = re.search(r'name="csrf" value="(\w+)"', client.get("/").text)
    assert found
    return found[1]


def test_worklist_study_and_status_agree_on_which_studies_are_confirmed(node: OfflineNode) -> None:
    def confirmed() -> bool:
        (row,) = read_worklist(node.index.engine, WorklistQuery()).rows
        view = read_study(node.index.engine, row.id)
        assert view is not None
        assert row.confirmed is view.confirmed is (IndexQueries(node.index.engine).confirmed_studies() == 1)
        return row.confirmed

    node.finish(1, StudyState.REPORTED, results=2)
    first, second = node.delivery_queue.take("pacs", OWNER, 60)
    node.delivery_queue.mark_sent(first)
    (first,) = node.delivery_queue.take("pacs", OWNER, 60, state=ResultState.SENT)
    node.delivery_queue.mark_confirmed(first, Confirmation.QUERY)
    assert not confirmed()
    with database.writing(node.index.engine) as connection:  # as after a withdrawal
        connection.execute(
            update(delivery).where(delivery.c.id == second.id).values(state=ResultState.WITHDRAWN)
        )
    assert confirmed()
    node.receive(1, 2)  # a late image: a new analysis is to come
    assert not confirmed()


@pytest.mark.parametrize(
    "value", [[None, 10**30], [None, 0], [None, -1], [float("nan"), 1], [float("inf"), 1], [1.5, True]]
)
def test_a_made_up_cursor_is_none(value: list[object]) -> None:
    cursor = base64.urlsafe_b64encode(json.dumps(value).encode()).decode()
    with pytest.raises(InvalidCursor):
        _decode_cursor(cursor)
