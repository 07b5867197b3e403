from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import select, update

from dicom_node.store import database
from dicom_node.store.analysis_leases import AnalysisLeases
from dicom_node.store.delivery_queue import DeliveryQueue
from dicom_node.store.index import Index
from dicom_node.store.purge_trace import PurgeTrace
from dicom_node.store.recorded_results import (
    REJECTION_NOTE,
    AlreadyWithdrawn,
    RecordedResults,
    RecordedStudy,
)
from dicom_node.store.states import FileState, ResultState, StudyState
from dicom_node.store.tables import delivery, instance, result
from tests.support.clock import Clock
from tests.support.index_records import (
    THIS_PROCESS,
    complete_study,
    delivery_states,
    encoded_result,
    lease_study,
    received_instance,
)

NOTE = replace(encoded_result("2.25.9"), kind=REJECTION_NOTE)


@pytest.fixture
def results(index: Index, clock: Clock) -> RecordedResults:
    return RecordedResults(index.engine, clock)


def recorded(results: RecordedResults) -> RecordedStudy:
    found = results.for_study("1.2")
    assert found is not None
    return found


def report(index: Index, leases: AnalysisLeases, *uids: str, revision: int = 1) -> None:
    """Record results of the study of two models, sent to two destinations."""
    entries = [
        replace(encoded_result(uid), model=model)
        for uid, model in zip(uids, ("first", "second"), strict=False)
    ]
    assert leases.finish(
        lease_study(leases, revision), StudyState.REPORTED, "", entries, ["pacs", "orthanc", "web"]
    )


def test_a_study_that_nobody_sent_has_no_results(results: RecordedResults) -> None:
    assert results.for_study("1.2") is None


def test_a_study_says_which_of_its_films_were_purged(index: Index, results: RecordedResults) -> None:
    index.add_instance(received_instance())
    index.add_instance(received_instance(sop="1.2.4", digest="c" * 64))
    gone = instance.c.sop_instance_uid == "1.2.4"
    with database.writing(index.engine) as connection:
        connection.execute(
            update(instance).where(gone).values(file_state="PURGED", purged_at=5.0, purged_by="films_days")
        )
    assert recorded(results).purged_films == (PurgeTrace(5.0, "films_days"),)


def test_a_study_says_that_its_films_are_read_although_the_gate_refused_them(
    index: Index, leases: AnalysisLeases, results: RecordedResults
) -> None:
    index.add_instance(received_instance())
    index.complete_due(0, 300)
    leases.finish(lease_study(leases, 1), StudyState.SKIPPED, "no chest film", [], [])
    index.retry(states=[StudyState.SKIPPED], override_gate=True)
    assert recorded(results).gate_overridden is True


def test_a_study_is_found_with_its_films_and_results_in_order(
    index: Index, leases: AnalysisLeases, results: RecordedResults, clock: Clock
) -> None:
    index.add_instance(received_instance())
    index.add_instance(received_instance(sop="1.2.4", digest="c" * 64))
    index.add_instance(received_instance(digest="b" * 64))  # the same UID with other pixels: set aside
    index.add_instance(received_instance(study="1.3", sop="1.3.1", digest="e" * 64))
    index.complete_due(0, 300)
    report(index, leases, "2.25.2", "2.25.1")
    study = recorded(results)
    assert (study.state, study.revision, study.completed_at) == (StudyState.REPORTED, 1, clock.now)
    assert study.films == (f"aa/{'a' * 64}.dcm", f"aa/{'c' * 64}.dcm")
    assert (study.purged_films, study.gate_overridden) == ((), False)
    assert [(each.sop_instance_uid, each.model, each.revision) for each in study.results] == [
        ("2.25.2", "first", 1),
        ("2.25.1", "second", 1),
    ]
    first = study.results[0]
    assert (first.kind, first.digest, first.file) == ("sr", "d" * 64, "dd/2.25.2.dcm")
    assert (first.file_state, first.purged) == (FileState.KEPT, None)


def test_what_an_earlier_revision_said_is_found_by_kind_and_model(
    index: Index, leases: AnalysisLeases, results: RecordedResults
) -> None:
    complete_study(index)
    report(index, leases, "2.25.1", "2.25.2")
    index.add_instance(received_instance(sop="1.2.4", digest="c" * 64))
    index.complete_due(0, 300)
    study = recorded(results)
    assert study.revision == 2
    report(index, leases, "2.25.3", revision=2)

    def before(revision: int) -> dict[tuple[str, str], str]:
        found = results.before_revision(study.id, revision)
        return {key: each.sop_instance_uid for key, each in found.items()}

    assert before(1) == {}
    assert before(2) == {("sr", "first"): "2.25.1", ("sr", "second"): "2.25.2"}
    assert before(3) == {("sr", "first"): "2.25.3", ("sr", "second"): "2.25.2"}
    assert results.before_revision(study.id + 1, 3) == {}


def test_a_withdrawal_goes_to_those_that_hold_or_may_hold_a_result_and_stops_the_rest(
    index: Index,
    leases: AnalysisLeases,
    delivery_queue: DeliveryQueue,
    results: RecordedResults,
    clock: Clock,
) -> None:
    complete_study(index)
    report(index, leases, "2.25.1", "2.25.2")
    sent, _ = delivery_queue.take("pacs", THIS_PROCESS, 60)
    delivery_queue.mark_sent(sent)
    tried, _ = delivery_queue.take("orthanc", THIS_PROCESS, 60)
    delivery_queue.postpone(tried, "no answer", 60)
    study = recorded(results)
    stopped, told = results.withdraw(study, NOTE, ["web", "orthanc", "pacs", "other"])
    assert told == ["orthanc", "pacs"]
    assert delivery_states(index.engine)["WITHDRAWN"] == stopped
    assert recorded(results).results == ()
    assert results.before_revision(study.id, 2) == {}
    notes = delivery_queue.take("pacs", THIS_PROCESS, 60, state=ResultState.ENCODED)
    assert "2.25.9" in [each.sop_instance_uid for each in notes]


def test_of_two_withdrawals_at_once_one_is_told_and_the_other_refused(
    index: Index, leases: AnalysisLeases, results: RecordedResults, clock: Clock
) -> None:
    complete_study(index)
    report(index, leases, "2.25.1", "2.25.2")
    study = recorded(results)
    results.withdraw(study, NOTE, ["pacs"])
    first = clock.now
    clock.now += 60
    with pytest.raises(AlreadyWithdrawn):
        results.withdraw(study, replace(encoded_result("2.25.10"), kind=REJECTION_NOTE), ["pacs"])
    with database.reading(index.engine) as connection:
        kinds = connection.execute(select(result.c.kind)).scalars().all()
        assert kinds.count(REJECTION_NOTE) == 1
        times = connection.execute(select(result.c.withdrawn_at).where(result.c.kind == "sr")).scalars()
        assert list(times) == [first, first]


def test_nobody_is_told_who_holds_nothing(
    index: Index, leases: AnalysisLeases, results: RecordedResults
) -> None:
    complete_study(index)
    report(index, leases, "2.25.1", "2.25.2")
    stopped, told = results.withdraw(recorded(results), NOTE, ["pacs", "orthanc", "web"])
    assert (stopped, told) == (6, [])
    assert delivery_states(index.engine) == {"WITHDRAWN": 6}


def test_any_sign_of_a_delivery_is_enough_to_be_told(
    index: Index,
    leases: AnalysisLeases,
    delivery_queue: DeliveryQueue,
    results: RecordedResults,
) -> None:
    complete_study(index)
    report(index, leases, "2.25.1")
    (sent,) = delivery_queue.take("pacs", THIS_PROCESS, 60)
    delivery_queue.mark_sent(sent)
    (tried,) = delivery_queue.take("orthanc", THIS_PROCESS, 60)
    delivery_queue.postpone(tried, "no answer", 60)
    (held,) = delivery_queue.take("web", THIS_PROCESS, 60)  # it may be on its way at this moment
    with database.writing(index.engine) as connection:  # as an earlier version left it
        connection.execute(update(delivery).where(delivery.c.id == sent.id).values(attempts=0))
    stopped, told = results.withdraw(recorded(results), NOTE, ["web", "pacs", "orthanc"])
    assert (stopped, told) == (2, ["web", "pacs", "orthanc"])  # what was sent is there
    with database.reading(index.engine) as connection:
        owners = database.as_mapping(connection, select(delivery.c.id, delivery.c.owner))
    assert owners[held.id] == str(THIS_PROCESS)  # who sends it learns of the withdrawal when it is done


def test_a_withdrawal_leaves_other_studies_alone(
    index: Index,
    leases: AnalysisLeases,
    delivery_queue: DeliveryQueue,
    results: RecordedResults,
) -> None:
    complete_study(index)
    report(index, leases, "2.25.1")
    index.add_instance(received_instance(study="1.3", sop="1.3.1", digest="e" * 64))
    index.complete_due(0, 300)
    other = leases.acquire("1.3", 1, THIS_PROCESS, 30)
    assert other is not None
    assert leases.finish(other, StudyState.REPORTED, "", [encoded_result("2.25.5")], ["alone"])
    (sent,) = delivery_queue.take("alone", THIS_PROCESS, 60)
    delivery_queue.mark_sent(sent)
    assert results.withdraw(recorded(results), NOTE, ["alone", "pacs"]) == (3, [])
    study = results.for_study("1.3")
    assert study is not None
    assert [each.sop_instance_uid for each in study.results] == ["2.25.5"]
