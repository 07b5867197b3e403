"""Boxes of case readings: who may draw them and when, and how far two overlap."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dicom_node.store.case_boxes import Box, CaseBoxes
from dicom_node.store.case_readings import Answer, CaseReading, CaseReadings
from dicom_node.store.reader_studies import Design, InvalidReaderStudy, NewCase, ReaderStudies, ReaderStudy
from tests.support.offline_node import OfflineNode

BOX = Box("2.25.1", 10, 20, 30, 60)
FINDINGS = {"nodule": "Nodule", "mass": "Mass"}


@pytest.fixture
def node(tmp_path: Path) -> Iterator[OfflineNode]:
    one = OfflineNode(tmp_path / "data")
    yield one
    one.close()


def displayed(node: OfflineNode, *, boxes: bool = True) -> tuple[ReaderStudy, CaseReading]:
    """Reader study of one case, which is displayed to its reader."""
    store = ReaderStudies(node.index.engine)
    key = store.add(
        f"boxes {boxes}", Design.UNAIDED, findings=FINDINGS, readers=["rita", "sven"],
        cases=[NewCase(node.complete(1), {})], seed=1, made_by="ada", boxes=boxes,
    )  # fmt: skip
    found = store.find(key)
    assert found is not None
    readings = CaseReadings(node.index.engine)
    turn = readings.next_turn(found, "rita")
    assert turn is not None
    return found, readings.display(turn, "rita")


@pytest.mark.parametrize(
    ("other", "iou"),
    [
        (BOX, 1.0),
        (Box("2.25.1", 20, 20, 40, 60), 1 / 3),  # half of each is shared
        (Box("2.25.1", 15, 30, 25, 50), 0.25),  # a quarter of it, within
        (Box("2.25.1", 30, 20, 50, 60), 0.0),  # side by side
        (Box("2.25.1", 0, 0, 5, 5), 0.0),
        (Box("2.25.2", 10, 20, 30, 60), None),  # on another film
    ],
)
def test_the_overlap_of_two_boxes_is_that_of_their_pixels(other: Box, iou: float | None) -> None:
    assert BOX.overlap(other) == (None if iou is None else pytest.approx(iou))
    assert other.overlap(BOX) == BOX.overlap(other)


def test_a_box_stays_is_replaced_and_is_removed(node: OfflineNode) -> None:
    found, reading = displayed(node)
    assert found.boxes
    boxes = CaseBoxes(node.index.engine)
    boxes.put(found, reading.id, "rita", "nodule", BOX)
    assert CaseBoxes(node.index.engine).all(found) == {reading.id: {"nodule": BOX}}  # as after a restart
    moved = replace(BOX, left=0)
    boxes.put(found, reading.id, "rita", "nodule", moved)
    boxes.put(found, reading.id, "rita", "mass", BOX)
    assert boxes.all(found) == {reading.id: {"nodule": moved, "mass": BOX}}
    boxes.remove(found, reading.id, "rita", "nodule")
    boxes.remove(found, reading.id, "rita", "nodule")
    assert boxes.all(found) == {reading.id: {"mass": BOX}}


def test_a_box_goes_with_an_answer_of_absent_and_is_final_with_the_others(node: OfflineNode) -> None:
    found, reading = displayed(node)
    boxes, readings = CaseBoxes(node.index.engine), CaseReadings(node.index.engine)
    for key in FINDINGS:
        boxes.put(found, reading.id, "rita", key, BOX)
    answers = {"nodule": Answer(present=True, confidence=1), "mass": Answer(present=False, confidence=1)}
    readings.answer(found, reading.id, "rita", answers)
    assert boxes.all(found) == {reading.id: {"nodule": BOX}}
    with pytest.raises(InvalidReaderStudy, match="cannot be changed"):
        boxes.put(found, reading.id, "rita", "nodule", replace(BOX, left=0))
    with pytest.raises(InvalidReaderStudy, match="cannot be changed"):
        boxes.remove(found, reading.id, "rita", "nodule")
    assert boxes.all(found) == {reading.id: {"nodule": BOX}}


def test_a_box_is_the_readers_own_of_a_finding_and_holds_a_pixel(node: OfflineNode) -> None:
    found, reading = displayed(node)
    boxes = CaseBoxes(node.index.engine)
    for reader, key, box, said in (
        ("sven", "nodule", BOX, "not displayed to you"),
        ("rita", "effusion", BOX, "no box is asked for"),
        ("rita", "nodule", replace(BOX, right=10), "at least one pixel"),
        ("rita", "nodule", replace(BOX, left=40), "at least one pixel"),
        ("rita", "nodule", replace(BOX, top=-1), "at least one pixel"),
    ):
        with pytest.raises(InvalidReaderStudy, match=said):
            boxes.put(found, reading.id, reader, key, box)
    with pytest.raises(InvalidReaderStudy, match="not displayed to you"):
        boxes.remove(found, reading.id, "sven", "nodule")
    ReaderStudies(node.index.engine).close(found.id)
    with pytest.raises(InvalidReaderStudy, match="closed"):
        boxes.put(found, reading.id, "rita", "nodule", BOX)
    assert boxes.all(found) == {}


def test_a_reader_study_takes_no_boxes_unless_it_says_so(node: OfflineNode) -> None:
    found, reading = displayed(node, boxes=False)
    with pytest.raises(InvalidReaderStudy, match="no box is asked for"):
        CaseBoxes(node.index.engine).put(found, reading.id, "rita", "nodule", BOX)
