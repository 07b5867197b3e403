"""``status``: what it counts, and the list of studies with what waits for what."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dicom_node import MODEL_NAME
from dicom_node.cli.study_list import study_lines, waiting
from dicom_node.config.destinations import DicomDestination
from dicom_node.delivery.withdrawal import withdraw
from dicom_node.results import codes
from dicom_node.runtime.logs import uid_hash
from dicom_node.store.audit import IndexQueries, StudyRow
from dicom_node.store.states import Confirmation, ResultState, StudyState
from tests.support.factories import film, uid
from tests.support.offline_node import OWNER, OfflineNode
from tests.support.peers import cli

PACS = DicomDestination(name="pacs", ae_title="PACS", host="127.0.0.1", port=104)
OTHER = DicomDestination(name="other", ae_title="OTHER", host="127.0.0.1", port=105)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[OfflineNode]:
    one = OfflineNode(tmp_path, PACS, OTHER)
    yield one
    one.close()


def row(node: OfflineNode, study_uid: str) -> StudyRow:
    (found,) = [
        each for each in IndexQueries(node.index.engine).studies() if each.study_instance_uid == study_uid
    ]
    return found


def status(node: OfflineNode, *words: str) -> dict[str, Any]:
    destinations = json.dumps([each.model_dump(mode="json", exclude_none=True) for each in (PACS, OTHER)])
    environment = {
        "DICOM_NODE_DATA_DIR": str(node.settings.data_dir),
        "DICOM_NODE_DESTINATIONS": destinations,
    }
    done = cli("status", "--json", *words, environment=environment)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_what_is_kept_is_counted_apart_from_what_was_delivered(node: OfflineNode) -> None:
    node.finish(1, StudyState.REPORTED, destinations=())
    node.finish(2, StudyState.REPORTED, destinations=("pacs",))
    node.send("pacs")
    found = status(node, "--audit")
    assert (found["kept_results"], found["results"]["SENT"]) == (1, 1)
    assert found["audit"]["fates"] == dict.fromkeys(found["audit"]["fates"], 0) | {"kept": 1, "delivered": 1}
    assert found["audit"]["conserved"] is True


def test_what_was_withdrawn_counts_as_withdrawn_where_a_destination_has_it(node: OfflineNode) -> None:
    study_uid = node.finish(1, StudyState.REPORTED)
    node.send("pacs")
    for entry in node.delivery_queue.take("pacs", OWNER, 60, state=ResultState.SENT):
        node.delivery_queue.mark_confirmed(entry, Confirmation.RESPONSE)
    queries = IndexQueries(node.index.engine)
    assert queries.result_counts()[ResultState.CONFIRMED] == 1
    withdraw(node.settings, node.index, study_uid, title=codes.REJECTED_FOR_SAFETY, reason="mistake")
    counts = queries.result_counts()
    assert (counts[ResultState.CONFIRMED], counts[ResultState.WITHDRAWN]) == (0, 1)
    assert counts[ResultState.ENCODED] == 1  # the note
    (backlog,) = node.delivery_queue.backlogs()
    assert backlog.states == {ResultState.WITHDRAWN: 1, ResultState.ENCODED: 1}


def test_the_error_of_a_withdrawn_delivery_is_not_open(node: OfflineNode) -> None:
    study_uid = node.finish(1, StudyState.REPORTED)
    node.send("pacs", error="connection refused")
    assert node.delivery_queue.backlogs()[0].error == "connection refused"
    assert row(node, study_uid).deliveries["pacs"].error == "connection refused"
    withdraw(node.settings, node.index, study_uid, title=codes.REJECTED_FOR_SAFETY, reason="mistake")
    assert node.delivery_queue.backlogs()[0].error == ""
    assert row(node, study_uid).deliveries["pacs"].error == ""


def test_the_list_says_what_waits_for_what_and_why(node: OfflineNode) -> None:
    failed = node.finish(3, StudyState.FAILED, "the model gave no numbers", destinations=("pacs", "other"))
    node.send("pacs", error="PACS@127.0.0.1:104: connection refused")
    node.send("other", error="0110: processing failure", permanent=True)
    left = node.finish(4, StudyState.REPORTED, destinations=("former",))
    queued = node.complete(2)
    coming = node.receive(1)
    found = {each["study_instance_uid"]: each for each in status(node, "--studies")["study_list"]}
    assert list(found) == [coming, queued, left, failed]  # the last changed first
    assert found[coming]["state"] == "RECEIVING"
    (reason,) = found[coming]["waiting"]
    assert "for more images; it is complete 5 s after the last one" in reason
    assert found[queued]["waiting"] == ["to be queued, once the broker answers"]
    assert found[failed]["reason"] == "the model gave no numbers"
    assert found[failed]["log_name"] == uid_hash(failed)
    assert {name: entry["results"] for name, entry in found[failed]["destinations"].items()} == {
        "pacs": {"ENCODED": 1},
        "other": {"REJECTED": 1},
    }
    sentences = " | ".join(found[failed]["waiting"])
    assert "1 results to be sent to pacs: PACS@127.0.0.1:104: connection refused; next try in" in sentences
    assert "other rejected 1 results: 0110: processing failure; `dicom-node retry`" in sentences
    assert found[left]["waiting"] == [
        "1 results for former, which is no destination of the settings any more"
    ]
    assert len(status(node, "--studies", "--limit", "1")["study_list"]) == 1
    assert "study_list" not in status(node)


def test_a_study_is_named_and_its_lines_say_the_same(node: OfflineNode) -> None:
    study_uid = node.finish(1, StudyState.SKIPPED, "no chest film [x]", results=2, destinations=())
    lines = list(study_lines(row(node, study_uid), node.settings))
    assert lines[0].startswith(f"{study_uid}  SKIPPED  1 image, revision 1, in the log {uid_hash(study_uid)}")
    assert lines[1:] == [
        "    reason: no chest film [x]",
        "    no destination: 2 results stay on this node",
    ]
    assert list(waiting(row(node, study_uid), node.settings)) == []


def test_what_is_set_aside_says_its_reason(node: OfflineNode) -> None:
    study_uid = node.receive(1)
    again = film(rows=64, columns=64, study=1, instance=1, SOPInstanceUID=uid(1, 1), PatientID="OTHER")
    node.receive(1, ds=again)
    node.receive(
        1, ds=film(rows=64, columns=64, study=1, SOPInstanceUID=uid("x"), ManufacturerModelName=MODEL_NAME)
    )
    found = status(node, "--audit", "--studies")
    aside = {"conflict": 1, "own result": 1}
    assert found["audit"]["set_aside"] == found["study_list"][0]["set_aside"] == aside
    assert found["audit"]["fates"]["set_aside"] == 2
    lines = list(study_lines(row(node, study_uid), node.settings))
    assert "    1 set aside: the same SOP Instance UID as an earlier image, with other content" in lines
    environment = {"DICOM_NODE_DATA_DIR": str(node.settings.data_dir), "COLUMNS": "60"}
    shown = cli("status", "--audit", environment=environment).stdout
    assert "1 set aside: written by a dicom-node" in shown
