"""Order, resumption and finality of case readings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_node.store.case_readings import Answer, CaseReadings, reading_order
from dicom_node.store.pins import Pins
from dicom_node.store.reader_studies import (
    Case,
    Design,
    InvalidReaderStudy,
    NewCase,
    ReaderStudies,
    ReaderStudy,
)
from tests.support.offline_node import OfflineNode

YES = {"nodule": Answer(present=True, confidence=80)}


@pytest.fixture
def node(tmp_path: Path) -> Iterator[OfflineNode]:
    one = OfflineNode(tmp_path / "data")
    yield one
    one.close()


def made(node: OfflineNode, design: Design, studies: int = 2) -> ReaderStudy:
    uids = [node.complete(number) for number in range(1, studies + 1)]
    store = ReaderStudies(node.index.engine)
    key = store.add(
        design, design, findings={"nodule": "Nodule"}, readers=["rita"],
        cases=[NewCase(each, {"nodule": True}) for each in uids], seed=1, made_by="ada",
    )  # fmt: skip
    found = store.find(key)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("design", "aided"),
    [
        (Design.UNAIDED, [False, False]),
        (Design.AIDED, [True, True]),
        (Design.SEQUENTIAL, [False, True, False, True]),
        (Design.CROSSOVER, [False, False, True, True]),
    ],
)
def test_a_design_is_read_in_its_order_and_goes_on_where_it_was(
    node: OfflineNode, design: Design, aided: list[bool]
) -> None:
    found, seen = made(node, design), []
    assert found.readings_each == len(aided)
    while (turn := CaseReadings(node.index.engine).next_turn(found, "rita")) is not None:
        readings = CaseReadings(node.index.engine)  # as after a restart
        reading = readings.display(turn, "rita")
        assert readings.display(turn, "rita").displayed_at == reading.displayed_at
        readings.answer(found, reading.id, "rita", YES)
        seen.append(turn.aided)
        assert readings.progress(found) == {"rita": len(seen)}
    assert seen == aided


def test_an_answer_is_final_complete_and_the_readers_own(node: OfflineNode) -> None:
    found, readings = made(node, Design.UNAIDED), CaseReadings(node.index.engine)
    turn = readings.next_turn(found, "rita")
    assert turn is not None
    reading = readings.display(turn, "rita")
    for answers, reader, said in (
        ({}, "rita", "answer for every finding"),
        ({"nodule": Answer(present=True, confidence=101)}, "rita", "0 to 100"),
        (YES, "sven", "not displayed to you"),
    ):
        with pytest.raises(InvalidReaderStudy, match=said):
            readings.answer(found, reading.id, reader, answers)
    readings.answer(found, reading.id, "rita", YES)
    with pytest.raises(InvalidReaderStudy, match="cannot be changed"):
        readings.answer(found, reading.id, "rita", {"nodule": Answer(present=False, confidence=1)})
    (kept,) = readings.readings(found)
    assert kept.answers == YES
    turn = readings.next_turn(found, "rita")
    assert turn is not None
    late = readings.display(turn, "rita")
    ReaderStudies(node.index.engine).close(found.id)
    with pytest.raises(InvalidReaderStudy, match="closed"):
        readings.answer(found, late.id, "rita", YES)


def test_an_order_is_the_same_for_ever(node: OfflineNode) -> None:
    found = made(node, Design.UNAIDED)
    cases = [Case(number, number, f"1.2.{number}", None, {}) for number in range(8)]
    order = [case.id for case, _ in reading_order(found, cases, "rita")]
    assert order == [case.id for case, _ in reading_order(found, cases[::-1], "rita")]
    assert order != [case.id for case, _ in reading_order(found, cases, "sven")]
    assert sorted(order) == list(range(8))


def test_its_studies_are_pinned_and_what_is_wrong_makes_nothing(node: OfflineNode) -> None:
    found = made(node, Design.UNAIDED)
    store, pinned = ReaderStudies(node.index.engine), Pins(node.index.engine).pinned()
    assert len(pinned) == 2
    good = {
        "findings": {"nodule": "Nodule"}, "readers": ["rita"], "cases": [NewCase(pinned[0], {})],
        "seed": 1, "made_by": "ada",
    }  # fmt: skip
    for name, change, said in (
        (found.name, {}, "already exists"),
        ("", {}, "a name of 1"),
        ("new", {"readers": []}, "at least one reader"),
        ("new", {"cases": [NewCase("1.2.3", {})]}, "1 of 1 studies are not on this node"),
        ("new", {"cases": [NewCase(pinned[0], {})] * 2}, "named twice"),
    ):
        with pytest.raises(InvalidReaderStudy, match=said):
            store.add(name, Design.AIDED, **{**good, **change})
    assert len(store.all()) == 1
