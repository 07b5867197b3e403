"""Withdrawn results are hidden in the destinations that have them, and are not sent to others."""

from __future__ import annotations

import json

import pytest
from pydicom import Dataset, dcmread
from typer.testing import CliRunner

from dicom_node.cli.app import app
from dicom_node.config.destinations import DicomDestination
from dicom_node.config.settings import Settings
from dicom_node.delivery.withdrawal import withdraw
from dicom_node.errors import NodeError
from dicom_node.results import codes
from dicom_node.results.validation import dciodvfy
from dicom_node.runtime.lease_owner import LeaseOwner
from dicom_node.store.audit import IndexQueries
from dicom_node.store.delivery_queue import DeliveryQueue
from dicom_node.store.recorded_results import REJECTION_NOTE
from dicom_node.store.states import ResultState, StudyState
from tests.support.index_records import delivery_states
from tests.support.pipeline_harness import PipelineHarness

OWNER = LeaseOwner("elsewhere", 1, 1)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    second = DicomDestination(name="second", ae_title="SECOND", host="127.0.0.1", port=105)
    return settings.model_copy(update={"destinations": (*settings.destinations, second)})


@pytest.fixture
def uid(bench: PipelineHarness) -> str:
    """A study whose results one destination has and the other has not."""
    uid = bench.receive()
    bench.complete()
    bench.pipeline.analyse(uid, 1)
    delivery_queue = DeliveryQueue(bench.index.engine)
    for entry in delivery_queue.take("pacs", OWNER, 60):
        delivery_queue.mark_sent(entry)
    return uid


def taken(bench: PipelineHarness, destination: str) -> list[Dataset]:
    entries = DeliveryQueue(bench.index.engine).take(destination, OWNER, 60)
    return [dcmread(bench.data_dir.results.path(entry.file)) for entry in entries]


def test_the_note_goes_to_whoever_has_the_results_and_the_others_get_nothing(
    bench: PipelineHarness, uid: str
) -> None:
    done = withdraw(
        bench.settings, bench.index, uid, title=codes.REJECTED_FOR_SAFETY, reason="Wrong weights."
    )
    assert (done.told, done.stopped) == (("pacs",), done.results)
    assert taken(bench, "second") == []
    (note,) = taken(bench, "pacs")
    assert note.SOPInstanceUID == done.note
    assert note.ConceptNameCodeSequence[0].CodeValue == "113037"
    assert "Wrong weights." in note.to_json()
    assert dciodvfy(bench.data_dir.results.path(_file(bench, done.note))) == []
    named = {
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for item in note.ContentSequence
        if "ReferencedSOPSequence" in item
    }
    assert len(named) == done.results
    counts = IndexQueries(bench.index.engine).result_counts()
    assert counts[ResultState.WITHDRAWN] == 2 * done.results  # at both destinations, wherever they are
    assert delivery_states(bench.index.engine)["WITHDRAWN"] == done.results


def _file(bench: PipelineHarness, sop_instance_uid: str) -> str:
    for name in list(bench.data_dir.results.names()):
        if dcmread(bench.data_dir.results.path(name)).SOPInstanceUID == sop_instance_uid:
            return name
    raise AssertionError(sop_instance_uid)


def test_the_audit_counts_the_study_as_withdrawn_once_the_note_is_delivered(
    bench: PipelineHarness, uid: str
) -> None:
    overview = IndexQueries(bench.index.engine)
    withdraw(bench.settings, bench.index, uid, title=codes.REJECTED_FOR_QUALITY, reason="Wrong weights.")
    audit = overview.audit(bench.data_dir.spool, bench.data_dir.results)
    assert audit.fates == dict.fromkeys(audit.fates, 0) | {"waiting": 1}
    delivery_queue = DeliveryQueue(bench.index.engine)
    for entry in delivery_queue.take("pacs", OWNER, 60):
        assert entry.kind == REJECTION_NOTE
        delivery_queue.mark_sent(entry)
    audit = overview.audit(bench.data_dir.spool, bench.data_dir.results)
    assert audit.fates == dict.fromkeys(audit.fates, 0) | {"withdrawn": 1}
    assert audit.conserved


def test_a_result_that_was_on_its_way_is_told_of_too(bench: PipelineHarness) -> None:
    uid = bench.receive()
    bench.complete()
    bench.pipeline.analyse(uid, 1)
    delivery_queue = DeliveryQueue(bench.index.engine)
    flying = delivery_queue.take("second", OWNER, 60)
    done = withdraw(
        bench.settings, bench.index, uid, title=codes.REJECTED_FOR_SAFETY, reason="Wrong weights."
    )
    assert done.told == ("second",)
    for entry in flying:
        delivery_queue.mark_sent(entry)
    assert delivery_states(bench.index.engine)["SENT"] == len(flying)


def test_what_is_withdrawn_cannot_be_withdrawn_again_and_is_no_predecessor(
    bench: PipelineHarness, uid: str
) -> None:
    withdraw(bench.settings, bench.index, uid, title=codes.REJECTED_FOR_SAFETY, reason="Wrong weights.")
    with pytest.raises(NodeError, match="no results that could be withdrawn"):
        withdraw(bench.settings, bench.index, uid, title=codes.REJECTED_FOR_SAFETY, reason="Again.")
    bench.index.retry([uid], states=[StudyState.REPORTED])
    assert bench.pipeline.analyse(uid, 2) is StudyState.REPORTED
    report = next(ds for ds in taken(bench, "pacs") if ds.Modality == "SR")
    assert "PredecessorDocumentsSequence" not in report


def test_an_unknown_study_has_nothing_to_withdraw(bench: PipelineHarness) -> None:
    with pytest.raises(NodeError, match="no results"):
        withdraw(bench.settings, bench.index, "1.2.3", title=codes.REJECTED_FOR_SAFETY, reason="Why.")


def test_what_a_destination_lost_after_it_was_withdrawn_is_not_sent_again(
    bench: PipelineHarness, uid: str
) -> None:
    delivery_queue = DeliveryQueue(bench.index.engine)
    delivery_queue.retry()  # what was sent is asked about at once
    asked = delivery_queue.take("pacs", OWNER, 60, state=ResultState.SENT)
    withdraw(bench.settings, bench.index, uid, title=codes.REJECTED_FOR_SAFETY, reason="Wrong weights.")
    for entry in asked:
        delivery_queue.mark_lost(entry, "the destination lost it", 0)
    assert asked
    assert [ds.Modality for ds in taken(bench, "pacs")] == ["KO"]


def test_the_command_withdraws_and_says_what_it_did(bench: PipelineHarness, uid: str) -> None:
    table = [entry.model_dump(mode="json", exclude_none=True) for entry in bench.settings.destinations]
    environment = {
        "DICOM_NODE_DATA_DIR": str(bench.settings.data_dir),
        "DICOM_NODE_DESTINATIONS": json.dumps(table),
    }
    words = ["retract", uid, "--reason", "Wrong weights.", "--json"]
    answer = CliRunner().invoke(app, words, env=environment)
    assert answer.exit_code == 0, answer.output
    assert json.loads(answer.stdout)["told"] == ["pacs"]
    (note,) = taken(bench, "pacs")
    assert note.ConceptNameCodeSequence[0].CodeValue == "113037"


def test_the_command_replays_and_ends_with_1_at_a_difference(bench: PipelineHarness, uid: str) -> None:
    environment = {
        "DICOM_NODE_DATA_DIR": str(bench.settings.data_dir),
        "DICOM_NODE_WORKER__BUNDLE": bench.settings.worker.bundle,
        "DICOM_NODE_WORKER__GATE": "",
    }
    same = CliRunner().invoke(app, ["replay", uid], env=environment)
    assert (same.exit_code, "the same bytes" in same.stdout) == (0, True), same.output
    environment["DICOM_NODE_RESULTS__STATION_NAME"] = "ELSEWHERE"
    other = CliRunner().invoke(app, ["replay", uid], env=environment)
    assert (other.exit_code, "it differs in StationName" in other.stdout) == (1, True), other.output
