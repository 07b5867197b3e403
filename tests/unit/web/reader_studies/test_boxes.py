"""Boxes of a reader study through the page: drawn, kept from the others, exported and compared."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from dicom_node.runtime import logs
from tests.support.factories import uid
from tests.support.offline_node import OfflineNode
from tests.support.reader_study import Person, analysed, ask_for_logins, study_list

READERS = ("rita", "sven", "tess")
#: Boxes of the readers on the film of study 1: overlaps of 1/3, 1/4 and 0 by hand.
DRAWN = {
    "rita": {"left": 10, "top": 10, "right": 30, "bottom": 30},
    "sven": {"left": 20, "top": 10, "right": 40, "bottom": 30},
    "tess": {"left": 10, "top": 10, "right": 20, "bottom": 20},
}


@pytest.fixture
def node(tmp_path: Path) -> Iterator[OfflineNode]:
    one = OfflineNode(tmp_path / "data")
    yield one
    one.close()


@pytest.fixture
def people(node: OfflineNode) -> Iterator[dict[str, Person]]:
    ask_for_logins(node, *READERS)
    with ExitStack() as stack:
        yield {name: Person(stack.enter_context(node.browser()), name) for name in ("ada", *READERS)}


def put(person: Person, number: int, reading: int, finding: str, **box: int) -> int:
    address = f"/api/v1/reader-studies/{number}/readings/{reading}/boxes/{finding}"
    headers = {"X-CSRF-Token": person.csrf}
    return person.client.put(address, json=box, headers=headers).status_code


def test_boxes_are_kept_from_others_exported_and_compared(
    node: OfflineNode, people: dict[str, Person]
) -> None:
    uids = [analysed(node, number, {"nodule": 0.9}) for number in (1, 2)]
    ada = people["ada"]
    number = ada.make(study_list(uids, {"nodule": [1, 0]}), READERS, "unaided", boxes="on")
    assert "with boxes" in ada.client.get(f"/reader-studies/{number}").text
    films = {1: 1, 2: 2}
    for name in READERS:
        person = people[name]
        while (opened := person.case(number)) is not None:
            reading, study = opened
            page = f"/reader-studies/{number}/read"
            assert "data-place" not in person.client.get(page).text  # nothing of the others
            if study == 1:
                box = {"image": films[study], **DRAWN[name]}
                assert put(person, number, reading, "nodule", **box) == 204
                assert "data-place" in person.client.get(page).text
            assert person.answer(number, reading, {"nodule": (study == 1, 50)}) == 303
            assert put(person, number, reading, "nodule", image=films[study], **DRAWN[name]) == 422

    route = f"/api/v1/reader-studies/{number}"
    told = ada.client.get(f"{route}/results").json()["results"]["overlaps"]
    # rita and sven 200 of 600 pixels, rita and tess 100 of 400, sven and tess none of 500
    mean = (1 / 3 + 1 / 4 + 0) / 3
    assert told == [{"finding": "nodule", "aided": False, "pairs": 3, "cases": 1, "iou": pytest.approx(mean)}]
    rows = list(csv.DictReader(io.StringIO(ada.client.get(f"{route}/results.csv").text)))
    (row,) = (each for each in rows if each["statistic"] == "mean IoU of boxes")
    assert (row["finding"], row["n"], float(row["value"])) == ("nodule", "3", pytest.approx(mean))
    rows = list(csv.DictReader(io.StringIO(ada.client.get(f"{route}/readings.csv").text)))
    boxed = {each["reader"]: each for each in rows if each["box_film"]}
    assert len(rows) == 6
    assert set(boxed) == set(READERS)
    for name, box in DRAWN.items():
        assert boxed[name]["box_film"] == logs.uid_hash(uid(1, 1))
        assert {edge: int(boxed[name][f"box_{edge}"]) for edge in box} == box
    bundle = ada.client.get(f"{route}/readings.fhir.json").text
    assert f"film {logs.uid_hash(uid(1, 1))}, columns 20 to 40, rows 10 to 30" in bundle
    assert "Mean IoU" in (shown := ada.client.get(f"/reader-studies/{number}").text)
    assert "0.19" in shown


def test_a_box_lies_on_a_film_of_the_study_and_in_a_reading_of_the_reader(
    node: OfflineNode, people: dict[str, Person]
) -> None:
    uids = [analysed(node, number, {"nodule": 0.9}) for number in (1, 2)]
    number = people["ada"].make(study_list(uids[:1], {"nodule": [1]}), READERS[:2], "unaided", boxes="on")
    rita, sven = people["rita"], people["sven"]
    opened = rita.case(number)
    assert opened is not None
    box = DRAWN["rita"]
    for change, key, status in (
        ({"image": 2}, "nodule", 404),  # of another study
        ({"right": 65}, "nodule", 422),  # the film has 64 columns
        ({"right": 10}, "nodule", 422),
        ({"left": -1}, "nodule", 400),
        ({}, "mass", 422),
        ({}, "nodule", 204),
    ):
        assert put(rita, number, opened[0], key, **{"image": 1, **box, **change}) == status, (change, key)
    assert put(sven, number, opened[0], "nodule", image=1, **box) == 404
    assert put(people["tess"], number, opened[0], "nodule", image=1, **box) == 404
    address = f"/api/v1/reader-studies/{number}/readings/{opened[0]}/boxes/nodule"
    assert sven.client.delete(address, headers={"X-CSRF-Token": sven.csrf}).status_code == 404
    assert rita.client.delete(address).status_code == 403  # without the token of the page
    assert "data-place" in rita.client.get(f"/reader-studies/{number}/read").text
    assert rita.client.delete(address, headers={"X-CSRF-Token": rita.csrf}).status_code == 204
    assert "data-place" not in rita.client.get(f"/reader-studies/{number}/read").text


def test_a_reader_study_without_boxes_offers_none(node: OfflineNode, people: dict[str, Person]) -> None:
    study = analysed(node, 1, {"nodule": 0.9})
    number = people["ada"].make(study_list([study], {"nodule": [1]}), READERS[:1], "unaided")
    rita = people["rita"]
    opened = rita.case(number)
    assert opened is not None
    assert "data-box" not in rita.client.get(f"/reader-studies/{number}/read").text
    assert put(rita, number, opened[0], "nodule", image=1, **DRAWN["rita"]) == 422
