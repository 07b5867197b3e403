"""Event stream: messages to browsers, and their time."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import select, update

from dicom_node.store.analysis_records import AnalysisRecord, FindingRecord
from dicom_node.store.states import StudyState
from dicom_node.store.tables import catalogue, study
from dicom_node.web.background import event_stream
from dicom_node.web.background.event_stream import MAX_LISTENERS_OF_ONE, EventStream
from dicom_node.web.feedback import Feedback, Verdict
from dicom_node.web.read_models.study_headers import StudyHeaders
from tests.support.factories import film
from tests.support.offline_node import OfflineNode
from tests.support.peers import until


def changes_of(node: OfflineNode) -> EventStream:
    return EventStream(
        node.index.engine, StudyHeaders(node.index.engine, node.data_dir.spool, b"k" * 32, named=False)
    )


async def told(stream: AsyncIterator[str], number: int) -> None:
    """Read until a study is told."""
    async for part in stream:
        for line in part.splitlines():
            if line.startswith("data: ") and number in json.loads(line[6:])["ids"]:
                return


def test_a_change_is_told_to_who_listens_and_to_who_listens_a_moment_later(node: OfflineNode) -> None:
    async def scenario() -> None:
        changes = changes_of(node)
        early = changes.listen("rita", lambda: True)
        assert (await anext(early)).startswith("retry:")
        changes.start(asyncio.get_running_loop())
        node.receive(1)
        await asyncio.wait_for(told(early, 1), 20)
        await asyncio.wait_for(told(changes.listen("rita", lambda: True), 1), 20)
        changes.stop()
        assert [part async for part in early] == []
        await early.aclose()

    asyncio.run(scenario())


def test_a_stream_ends_with_its_session_and_tells_nothing_after_it(node: OfflineNode) -> None:
    async def scenario() -> None:
        changes = changes_of(node)
        valid = True
        stream = changes.listen("rita", lambda: valid)
        assert (await anext(stream)).startswith("retry:")
        changes.start(asyncio.get_running_loop())
        node.receive(1)
        await asyncio.wait_for(told(stream, 1), 20)
        valid = False
        node.receive(2)
        assert [part async for part in stream] == []
        assert changes.has_room("rita")
        changes.stop()

    asyncio.run(scenario())


def test_one_account_does_not_take_every_place_at_the_stream(node: OfflineNode) -> None:
    async def scenario() -> None:
        changes = changes_of(node)
        held = []
        while changes.has_room("rita"):
            held.append(changes.listen("rita", lambda: True))
            await anext(held[-1])
        assert len(held) == MAX_LISTENERS_OF_ONE
        assert changes.has_room("ada")
        await held.pop().aclose()
        assert changes.has_room("rita")
        changes.stop()
        for each in held:
            await each.aclose()

    asyncio.run(scenario())


def test_each_change_of_a_study_and_of_its_deliveries_is_seen_once(node: OfflineNode) -> None:
    changes = changes_of(node)
    node.receive(1)
    assert changes._changed() == [1]
    assert changes._changed() == []
    node.finish(2, StudyState.REPORTED)
    assert set(changes._changed()) == {1, 2}  # the first one is complete now, too
    node.send("pacs")
    assert changes._changed() == [2]
    assert changes._changed() == []


def test_more_changes_at_once_than_a_page_holds_are_all_seen(
    node: OfflineNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_stream, "_PAGE", 3)
    changes = changes_of(node)
    for number in range(1, 9):
        node.receive(number)
    assert changes._changed() == list(range(1, 9))
    node.receive(9)
    assert changes._changed() == [9]


def test_what_a_reader_says_is_a_change_of_the_study(node: OfflineNode) -> None:
    found = FindingRecord("nodule", "Nodule", 0.6, 0.5, 0.4, "present")
    node.finish(1, StudyState.REPORTED, reading=AnalysisRecord("tiny", "1", (), "absent", (found,), ()))
    changes = changes_of(node)
    changes._changed()
    Feedback(node.index.engine).record(1, "nodule", "rita", Verdict.AGREE, "")
    assert changes._changed() == [1]


def test_a_clock_that_was_ahead_hides_nothing_that_comes_later(node: OfflineNode) -> None:
    changes = changes_of(node)
    node.receive(1)
    with node.index.engine.begin() as connection:
        connection.execute(update(study).values(updated_at=time.time() + 86400))
    changes._read_start_time()
    assert changes._changed() == [1]
    node.receive(2)
    assert changes._changed() == [2]
    assert changes._changed() == []


def test_headers_that_could_not_be_read_are_read_later(
    node: OfflineNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_stream, "CATCH_UP_SECONDS", 0.1)
    changes = changes_of(node)
    node.receive(1, ds=film(rows=64, columns=64, StudyDescription="Chest"))
    spool, away = node.data_dir.spool.path(""), node.data_dir.root / "away"
    spool.rename(away)
    changes.study_headers.update([1])
    assert description(node) == ""
    loop = asyncio.new_event_loop()
    changes.start(loop)
    away.rename(spool)
    until(lambda: description(node) == "Chest", 20, "the headers are read")
    # A good row stays, whatever becomes of the file.
    with node.index.engine.begin() as connection:
        connection.execute(update(study).values(last_received_at=time.time()))
    spool.rename(away)
    changes.study_headers.update([1])
    assert description(node) == "Chest"
    assert changes.study_headers.outdated(None) == [1]
    changes.stop()
    loop.close()


def description(node: OfflineNode) -> str:
    with node.index.engine.connect() as connection:
        return str(connection.execute(select(catalogue.c.description)).scalar_one())
